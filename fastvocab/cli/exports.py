"""The verb export: a model in the form that other programs read."""

from __future__ import annotations

from pathlib import Path

import typer

from fastvocab import console
from fastvocab.cli.app import BASE, app, newest


@app.command()
def export(
    path: Path = typer.Argument(help="A run folder, or a checkpoint in it."),
    to: Path = typer.Option(..., help="Folder for the plain Hugging Face model; must not exist."),
    base: str | None = BASE,
) -> None:
    """Merge a checkpoint into a plain 16-bit model folder."""
    from fastvocab import files
    from fastvocab.errors import ConfigError
    from fastvocab.export.stage import export as work
    from fastvocab.run import records_around

    if to.exists():
        raise ConfigError(f"{to} is there already", fix="choose another folder, or remove it")
    source = newest(path)
    records = records_around(source)
    with files.atomic_folder(to) as folder:
        figures = work(folder, source=source, records=records, base=base)
    console.say(f"{figures['parameters']:,} parameters in {figures['dtype']}, {to}")
