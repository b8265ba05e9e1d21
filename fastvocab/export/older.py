"""An exported folder that transformers 4 reads as well, and with it programs that are built on it.

transformers 5 writes names that 4.57 does not know: a tokenizer class ``TokenizersBackend``, at which it stops (unsloth
issue 8444; vLLM, MLX and llama.cpp's converter are met with it), and ``rope_parameters``, which it passes over, so that
it reads a model with another theta than its own. Both versions know the older names, which are written beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastvocab import files

#: What 5 calls the class that is all in tokenizer.json, and what both do.
_NEW_CLASS, _CLASS = "TokenizersBackend", "PreTrainedTokenizerFast"


def write(folder: Path) -> None:
    """Rewrite ``config.json`` and ``tokenizer_config.json`` of an exported folder, where they need it."""
    _rewrite(folder / "config.json", _model)
    write_tokenizer(folder)


def write_tokenizer(folder: Path) -> None:
    """`write` for a folder without a model."""
    _rewrite(folder / "tokenizer_config.json", _tokenizer)


def _rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    before = files.read_json(path) if path.is_file() else {}
    if (after := change(before)) != before:
        files.write_json(path, after)


def _model(config: dict[str, Any]) -> dict[str, Any]:
    out = dict(config)
    if isinstance(text := config.get("text_config"), dict):
        out["text_config"] = _model(text)
    if "dtype" in config:
        out.setdefault("torch_dtype", config["dtype"])
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:  # not by kinds of layers, for which 4 has no name
        out.setdefault("rope_theta", rope["rope_theta"])
        if rope.get("rope_type", "default") != "default":
            out.setdefault("rope_scaling", {k: v for k, v in rope.items() if k != "rope_theta"})
    return out


def _tokenizer(config: dict[str, Any]) -> dict[str, Any]:
    out = dict(config)
    if config.get("tokenizer_class") == _NEW_CLASS:
        out["tokenizer_class"] = _CLASS
    # a list of names in 5, a dictionary in 4
    if isinstance(extra := config.get("extra_special_tokens"), list):
        del out["extra_special_tokens"]
        out["additional_special_tokens"] = extra
    return out
