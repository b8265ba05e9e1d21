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

from fastvocab import console, files
from fastvocab.doctor import machine
from fastvocab.errors import CheckpointError, DependencyError, FastvocabError, ModelError, ResourceError
from fastvocab.llama_cpp import KNOWN
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
    if listed := sorted(path.glob("*.gguf")):
        raise CheckpointError(
            f"{path} is a folder of GGUF files", rule=ACCEPTED, fix=f"name one: {listed[0]}"
        )
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
    dtype = _dtype_name(str(files.read_json(folder / "config.json").get("model_type")))
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    _require_memory(folder, weights * (2 if dtype == "float32" else 1))
    with _reading(folder):
        return _from(folder, dtype, use_safetensors=True), text.tokenizer(folder)


def _gguf(file: Path) -> tuple[Any, Any]:
    """(model, tokenizer) of a GGUF file, its weights taken out of their quantization."""
    if importlib.util.find_spec("gguf") is None:
        raise DependencyError(
            "reading a GGUF file needs the package gguf", fix="pip install 'fastvocab[gguf]'"
        )
    with file.open("rb") as head:
        if head.read(4) != b"GGUF":
            raise ModelError(f"{file} is no GGUF file: it does not begin with GGUF", fix="fetch it again")
    # alone in a folder: transformers would take up a tokenizer or an adapter that lies beside it
    with tempfile.TemporaryDirectory(prefix="fastvocab-") as alone, _reading(file):
        place = Path(alone) / "model.gguf"
        try:
            place.symlink_to(file.resolve())
        except OSError:  # Windows lets few people make links
            place = file
        from gguf import GGUFReader
        from transformers import AutoTokenizer

        said = GGUFReader(file)
        dtype = _dtype_name(str(said.fields["general.architecture"].contents()))
        # taken out of its quantization in float32, on its way to what it is kept in
        _require_memory(file, 4 * sum(int(tensor.n_elements) for tensor in said.tensors), on_the_way=True)
        tokenizer = AutoTokenizer.from_pretrained(
            place.parent, gguf_file=place.name, trust_remote_code=False, local_files_only=True
        )
        _cut_as_said(tokenizer, said, file)
        return _from(place.parent, dtype, gguf_file=place.name), tokenizer


def _cut_as_said(tokenizer: Any, said: Any, file: Path) -> None:
    """Give a tokenizer the pre-tokenizer that its GGUF file names: transformers puts one there by architecture.

    With Llama 3's tokenizer and what transformers takes for it (GPT-2's) 5,674 of 39,557 probe texts of
    `fastvocab.export.gguf` had other ids.
    """
    keys = ("tokenizer.ggml.model", "tokenizer.ggml.pre")
    kind, name = (said.fields[key].contents() if key in said.fields else None for key in keys)
    if kind != "gpt2":
        return
    if (named := KNOWN.get(str(name))) is None:
        console.warn(
            f"{file.name} cuts text as {name!r}, which is not known here: some text may get other tokens than in "
            "llama.cpp"
        )
        return
    own = tokenizer.backend_tokenizer
    own.pre_tokenizer = named.step
    own.model.ignore_merges = named.ignore_merges


def _from(folder: Path, dtype: str, **more: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if torch.cuda.is_available() and "gguf_file" not in more:
        more["device_map"] = {"": 0}  # straight there: main memory is the smaller one on Colab
    live: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), trust_remote_code=False, local_files_only=True, **more
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


def _dtype_name(architecture: str) -> str:
    import torch

    if torch.cuda.is_available():
        # not what torch would emulate on a T4
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16"
        # Gemma 2 and 3 overflow in float16
        return "float32" if architecture.startswith("gemma") else "float16"
    return "bfloat16" if machine.cpu_has_bfloat16() else "float32"


def _require_memory(path: Path, needed: int, *, on_the_way: bool = False) -> None:
    """Is there room for so many bytes, where the model will be, or in main memory on the way there?"""
    import torch

    gpu = torch.cuda.is_available() and not on_the_way
    available = torch.cuda.mem_get_info()[0] if gpu else machine.memory()[0]
    if needed > available:
        raise ResourceError(
            f"{path} needs about {needed / 1e9:.1f} GB of {'GPU ' if gpu else ''}memory, "
            f"{available / 1e9:.1f} GB are free",
            fix="close other programs, or take a smaller model",
        )
