"""The ``export`` stage: a checkpoint becomes a plain model folder that any tool opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastvocab import console, files
from fastvocab.export.card import card, card_of_checkpoint
from fastvocab.model import backend, checkpoint, reference
from fastvocab.run import Record

#: What tokens mean, where they stand for items (`fastvocab.items.mapping`): without it the model is of no use.
MAPPING = "item_tokens.json"


def export(
    folder: Path, *, source: Path, records: dict[str, Record], base: str | None = None
) -> dict[str, Any]:
    """Write the merged 16-bit model, its tokenizer and a model card into ``folder``.

    Args:
        records: of the run that ``source`` is in; without any the card says what the checkpoint itself knows.

    Read back with plain transformers before it counts as done (`checkpoint.merge`).

    Returns:
        ``{"format", "dtype", "rows", "parameters", "rounding", "bytes", "device"}``.
    """
    manifest = checkpoint.read(source)
    weights = reference.recorded(manifest["base"], base=base).folder
    size = sum(f.stat().st_size for f in weights.glob("*.safetensors"))
    files.require_space(folder, 2 * size, "the exported model")
    console.say(f"  merging {source.name} into a 16-bit model")
    figures = checkpoint.merge(source, folder, base=base)
    text = card(records) if records else card_of_checkpoint(folder, manifest, figures)
    files.write_text(folder / "README.md", text)
    if "tokenizer" in records and (mapping := records["tokenizer"].folder / MAPPING).is_file():
        files.write_text(folder / MAPPING, mapping.read_text(encoding="utf-8"))
    return {
        "format": "hf",
        **figures,
        "bytes": sum(p.stat().st_size for p in folder.iterdir()),
        "device": backend.device(),
    }
