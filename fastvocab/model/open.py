"""Open whatever holds a model to talk to: a run, a checkpoint, a plain Hugging Face folder, a GGUF file.

A plain folder and a GGUF file are opened by stock transformers, without unsloth: what another program would see, after
3 s instead of 12. Nothing in them is executed: no code beside the weights, no pickles, no adapter that happens to lie
there.
"""

from __future__ import annotations

import importlib.util
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastvocab import console
from fastvocab.doctor import machine
from fastvocab.errors import CheckpointError, DependencyError, FastvocabError, ModelError, ResourceError
from fastvocab.model import backend, config_json, manifest

Kind = Literal["checkpoint", "huggingface", "gguf"]

ACCEPTED = (
    "a run, a checkpoint, a plain Hugging Face folder (config.json, .safetensors) or a .gguf file is opened"
)
#: The longest conversation that a model is loaded for, in tokens, where it was made for more.
LONGEST = 8192


@dataclass(frozen=True)
class Opened:
    """A model, ready to speak.

    Attributes:
        kind: what it was opened from.
        name: for people.
        context: how many tokens prompt and reply may have together.
    """

    model: Any
    tokenizer: Any
    kind: Kind
    name: str
    context: int


def kind(path: Path) -> Kind:
    """What a path is.

    Raises:
        CheckpointError: none of what is accepted.
    """
    if path.is_file():
        if path.suffix.lower() == ".gguf":
            return "gguf"
        holds = path.parent if path.name in (manifest.MANIFEST, "config.json") else None
        raise CheckpointError(
            f"{path} is a file", rule=ACCEPTED, fix=f"give its folder: {holds}" if holds else None
        )
    if (path / manifest.MANIFEST).is_file() or any(path.glob(f"[0-9][0-9]-*/{manifest.MANIFEST}")):
        return "checkpoint"
    if (path / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{path} is an adapter of another tool",
            rule=ACCEPTED,
            fix=f"make a checkpoint of it: fastvocab adopt {path} --out NEW",
        )
    if (path / "config.json").is_file():
        return "huggingface"
    if files := sorted(path.glob("*.gguf")):
        raise CheckpointError(f"{path} is a folder of GGUF files", rule=ACCEPTED, fix=f"name one: {files[0]}")
    from fastvocab.run import last_checkpoint

    try:
        last_checkpoint(path)
    except CheckpointError as error:  # which knows near names, and what else the folder may be
        raise CheckpointError(error.message, rule=ACCEPTED, fix=error.fix) from None
    raise AssertionError("there is no checkpoint, and none was missed")


def model(path: Path | str, *, base: str | None = None, block: int = LONGEST) -> Opened:
    """Open it.

    Args:
        path: see the module.
        base: where the base of a checkpoint lies, if it is not where it was.
        block: the longest text, in tokens.

    Raises:
        CheckpointError: none of what is accepted, or a damaged checkpoint.
        ModelError: a folder or file that cannot be read, or may not be.
        ResourceError: more than fits into memory.
    """
    path = Path(path)
    found = kind(path)
    backend.sleep_beside_others()
    if found == "checkpoint":
        from fastvocab.model import checkpoint
        from fastvocab.run import last_checkpoint

        folder = last_checkpoint(path)
        live, tokenizer = checkpoint.load(folder, base=base, block=block)
        name = f"{folder.resolve().parent.name}/{folder.resolve().name}"
    else:
        live, tokenizer = plain(path) if found == "huggingface" else _gguf(path)
        name = path.resolve().name
    return Opened(live, tokenizer, found, name, context_of(live, block))


def context_of(live: Any, block: int = LONGEST) -> int:
    """Tokens that a loaded model takes at once, at most ``block``."""
    known = getattr(live.config.get_text_config(), "max_position_embeddings", None)
    return min(known or block, block)


def plain(folder: Path) -> tuple[Any, Any]:
    """(model, tokenizer) of a Hugging Face folder, by stock transformers.

    Raises:
        ModelError: pickled weights or none, code of its own, or files that do not fit together.
    """
    from fastvocab.model import text

    try:
        config_json.of_whole(str(folder), folder)
    except FastvocabError as error:
        raise ModelError(error.message.removeprefix("model.base: "), rule=error.rule, fix=error.fix) from None
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    _require_memory(folder, weights * (1 if _dtype_name() == "bfloat16" else 2))
    with _reading(folder):
        return _from(folder, use_safetensors=True), text.tokenizer(folder)


def _gguf(file: Path) -> tuple[Any, Any]:
    """(model, tokenizer) of a GGUF file, its weights taken out of their quantization."""
    if importlib.util.find_spec("gguf") is None:
        raise DependencyError(
            "reading a GGUF file needs the package gguf", fix="pip install 'fastvocab[gguf]'"
        )
    with file.open("rb") as head:
        if head.read(4) != b"GGUF":
            raise ModelError(f"{file} is no GGUF file: it does not begin with GGUF", fix="fetch it again")
    # four bits a weight at the least, taken apart in float32
    _require_memory(file, 2 * file.stat().st_size)
    # alone in a folder: transformers would take up a tokenizer or an adapter that lies beside it
    with tempfile.TemporaryDirectory(prefix="fastvocab-") as alone, _reading(file):
        place = Path(alone) / "model.gguf"
        try:
            place.symlink_to(file.resolve())
        except OSError:  # Windows lets few people make links
            place = file
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(
            place.parent, gguf_file=place.name, trust_remote_code=False, local_files_only=True
        )
        return _from(place.parent, gguf_file=place.name), tokenizer


def _from(folder: Path, **more: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    live: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, _dtype_name()), trust_remote_code=False, local_files_only=True, **more
    )
    return live.to("cuda" if torch.cuda.is_available() else "cpu").eval()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Inside, what a library says of a file that it cannot read becomes a `ModelError`."""
    from safetensors import SafetensorError

    try:
        with console.quiet():
            yield
    except FastvocabError:
        raise
    except (
        OSError, ValueError, LookupError, TypeError, RuntimeError, ImportError, SafetensorError, struct.error
    ) as error:  # fmt: skip
        if type(error).__name__ == "OutOfMemoryError":
            raise
        said = (str(error).strip() or repr(error)).splitlines()[0]
        raise ModelError(
            f"{path} could not be loaded: {console.hide_secrets(said)}",
            fix="check the files, or fetch them again",
        ) from error


def _dtype_name() -> str:
    import torch

    if torch.cuda.is_available():
        # not what torch would emulate on a T4
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if machine.cpu_has_bfloat16() else "float32"


def _require_memory(path: Path, needed: int) -> None:
    import torch

    available, _ = machine.memory()
    if needed > available and not torch.cuda.is_available():
        raise ResourceError(
            f"{path} needs about {needed / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are free",
            fix="close other programs, or take a smaller model",
        )
