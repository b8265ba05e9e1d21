"""The ``export`` stage: a checkpoint becomes what other tools open, a plain model folder first of all.

``hf`` lies at the top of the folder, the rest beside it: ``NAME-Q8_0.gguf``, ``ollama/``, ``adapter/``. The hub comes
after the stage (`fastvocab.export.targets.publish`): an upload that breaks off must not cost what was merged.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fastvocab import console, files
from fastvocab.export import adapter, older
from fastvocab.export.card import card, card_of_checkpoint
from fastvocab.export.gguf import BYTES
from fastvocab.model import backend, checkpoint, manifest, reference
from fastvocab.run import Record

#: What tokens mean, where they stand for items (`fastvocab.items.mapping`): without it the model is of no use.
MAPPING = "item_tokens.json"
#: Of a GGUF file, tokenizer and alignment beside the weights.
_REST = 1.1


def export(
    folder: Path,
    *,
    source: Path,
    records: dict[str, Record],
    to: Collection[str] = ("hf",),
    kind: str = "q8_0",
    name: str = "model",
    kept: Path,
    base: str | None = None,
) -> dict[str, Any]:
    """Make everything that is asked for in ``folder`` (existing, empty).

    Args:
        source: the checkpoint.
        records: of the run that ``source`` is in; without any the card says what the checkpoint itself knows.
        to: of hf, gguf, ollama, adapter.
        kind: of the GGUF file.
        name: of the model, for the file names.
        kept: where the merged model waits until the rest is made as well: what fails then need not be merged again. A
            place for this model alone.
        base: where the base model lies, if not where the checkpoint says.

    Returns:
        figures of `merged` as far as there is a merged model; ``gguf``, ``ollama``, ``adapter`` with their own.
    """
    if "adapter" in to:
        adapter.check(source)
    files.require_space(folder, space(source, to, kind, base=base), "the export")
    figures: dict[str, Any] = {}
    if "adapter" in to:
        (folder / "adapter").mkdir()
        figures["adapter"] = adapter.write(folder / "adapter", source, base=base)
    if {"hf", "gguf", "ollama"} & set(to):
        figures |= _keep_merged(kept, source, records, base)
        made = [gguf_name(name, kind)] if {"gguf", "ollama"} & set(to) else []
        if made:
            figures["gguf"] = write_gguf(kept, folder / made[0], kind)
        if "ollama" in to:
            (folder / "ollama").mkdir()
            figures["ollama"] = write_ollama(folder / "ollama", folder / made[0], kept)
            if "gguf" not in to:
                (folder / made.pop()).unlink()
        if made:
            files.write_text(kept / "README.md", text_of_card(kept, source, records, figures, made))
        files.remove_folder(_figures_of(kept))  # first: a model that was moved in part is none that waits
        for file in sorted(kept.iterdir()):
            if "hf" in to or file.name == MAPPING:
                file.rename(folder / file.name)
        files.remove_folder(kept)
    return {"format": ",".join(to), **figures, "bytes": _bytes(folder), "device": backend.device()}


def _keep_merged(place: Path, source: Path, records: dict[str, Record], base: str | None) -> dict[str, Any]:
    """`merged` in ``place``, which an earlier attempt may have left whole."""
    figures = _figures_of(place)
    if place.is_dir() and figures.is_file():
        console.say("  the merged model of an earlier attempt is used again")
    else:
        files.remove_folder(place)
        with files.atomic_folder(place) as folder:
            found = merged(folder, source=source, records=records, base=base)
        files.write_json(figures, found)
    return dict(files.read_json(figures))


def _figures_of(place: Path) -> Path:
    """Beside the folder, which holds nothing but the model."""
    return place.with_name(f"{place.name}.json")


def merged(
    folder: Path, *, source: Path, records: dict[str, Record], base: str | None = None
) -> dict[str, Any]:
    """Write the merged 16-bit model, its tokenizer and a model card into ``folder``.

    Read back with plain transformers before it counts as done (`checkpoint.merge`).

    Returns:
        ``{"dtype", "rows", "parameters", "rounding"}``.
    """
    console.say(f"  merging {source.name} into a 16-bit model")
    figures = checkpoint.merge(source, folder, base=base)
    console.say(f"  {figures['parameters']:,} parameters in {figures['dtype']}, read back")
    older.write(folder)
    files.write_text(folder / "README.md", text_of_card(folder, source, records, figures))
    if "tokenizer" in records and (mapping := records["tokenizer"].folder / MAPPING).is_file():
        files.write_text(folder / MAPPING, mapping.read_text(encoding="utf-8"))
    return figures


def text_of_card(
    folder: Path,
    source: Path,
    records: dict[str, Record],
    figures: dict[str, Any],
    gguf: Collection[str] = (),
) -> str:
    """The card of a merged model, of its run or of the checkpoint alone; ``gguf`` names files beside it."""
    if records:
        return card(records, gguf=[*gguf])
    return card_of_checkpoint(folder, manifest.peek(source), figures, gguf=[*gguf])


def gguf_name(name: str, kind: str) -> str:
    """The file's name as the Hub and Ollama read the kind out of it: ``NAME-Q8_0.gguf``."""
    return f"{name}-{kind.upper()}.gguf"


def write_gguf(model: Path, out: Path, kind: str) -> dict[str, Any]:
    """A GGUF file of a merged model, its tokenizer read back."""
    from fastvocab.export import gguf

    console.say(f"  writing {out.name}, and reading its tokenizer back")
    return {"file": out.name, "kind": kind, **gguf.write(model, out, kind=kind)}


def write_ollama(folder: Path, gguf_file: Path, tokenizer: Path) -> dict[str, Any]:
    """A Modelfile and its GGUF file in ``folder`` (existing, empty), which can be moved as a whole.

    Where the file system allows it the GGUF file is there once, under two names.
    """
    from fastvocab.export import ollama

    own = folder / gguf_file.name
    try:
        os.link(gguf_file, own)
    except OSError:  # file systems without hard links, Colab's Drive among them
        shutil.copyfile(gguf_file, own)
    found = ollama.write(folder, own, tokenizer)
    return {key: found[key] for key in ("name", "stop", "num_ctx", "system", "notes")}


def space(
    source: Path, to: Collection[str], kind: str, *, base: str | None = None, merged: bool = False
) -> int:
    """Bytes that the disk needs room for, at most.

    Args:
        merged: there is a merged model already, which is read, or copied for ``hf``.
    """
    found = manifest.peek(source)
    weights = reference.recorded(found["base"], base=base).folder
    size = sum(f.stat().st_size for f in weights.glob("*.safetensors"))
    own = sum(f.stat().st_size for f in source.iterdir() if f.is_file())
    needed = own if "adapter" in to else 0
    if {"hf", "gguf", "ollama"} & set(to) and not merged:
        needed += 2 * size
    elif "hf" in to:
        needed += size + own
    if {"gguf", "ollama"} & set(to):
        # of weights in 16 bits
        needed += int(_REST * BYTES[kind] / 2 * (size + own)) * (2 if "ollama" in to else 1)
    return needed


def _bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
