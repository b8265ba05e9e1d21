"""``report.html``: what a run made and what was measured, on one page that needs no network.

The page depends on the run folder alone, so that writing it again gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from fastvocab import facts, files
from fastvocab.facts import Records
from fastvocab.report import render
from fastvocab.report.sections import (
    control,
    environment,
    generations,
    language,
    named,
    recommendations,
    rows,
    tokenizer,
    top,
    training,
)
from fastvocab.run import read_records

NAME = "report.html"


def write(run_folder: Path) -> Path:
    """Write ``report.html`` into a run folder, of whatever is finished.

    Args:
        run_folder: ``runs/NAME``.

    Returns:
        Path of the page.

    Raises:
        CheckpointError: if no stage of it is finished, or a record is damaged.
    """
    path = run_folder / NAME
    config = run_folder / "config.yaml"
    text = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else None
    files.write_text(path, html(read_records(run_folder), run_folder.resolve().name, config=text))
    return path


def html(records: Records, name: str, *, config: str | None = None) -> str:
    """The page as a string.

    Args:
        records: finished stages by name.
        name: of the run.
        config: text of ``config.yaml``; without it the settings in the records are shown.
    """
    sources = facts.sources(records)
    found = {
        "top": top.section(records, name),
        "language": language.section(records),
        "tokenizer": tokenizer.section(records),
        "named": named.section(records),
        "rows": rows.section(records),
        "training": training.section(records),
        "control": control.section(records),
        "recommendations": recommendations.section(records),
        "generations": generations.section(records),
        "data": {"sources": sources} if sources else None,
        "environment": environment.section(records, config),
    }
    return render.html(
        f"{name}: report", [(f"{section}.jinja", part) for section, part in found.items() if part]
    )
