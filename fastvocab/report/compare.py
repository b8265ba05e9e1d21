"""``report-compare.html``: several runs side by side, what differs in their settings, and what may be compared at all.

Like ``report.html`` it depends on the run folders alone, and needs no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastvocab import files
from fastvocab.config.load import read_yaml
from fastvocab.errors import CheckpointError, ConfigError, FastvocabError
from fastvocab.report import page, render
from fastvocab.report.sections import comparison, curves, settings
from fastvocab.report.sections.compared import Compared
from fastvocab.run import read_records

NAME = "report-compare.html"
KIND = "comparison"


def write(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write one page about several runs.

    Args:
        runs: run folders, in the order of the columns.
        out: the page; `NAME` in the folder that the first run lies in if None. A page that this function wrote
            before is written anew, any other file is left alone.

    Returns:
        Path of the page.

    Raises:
        CheckpointError: some of the folders are no runs; all of them are named.
        ConfigError: fewer than two runs, or ``out`` is not ours to write.
    """
    folders = list(dict.fromkeys(Path(run).resolve() for run in runs))
    if len(folders) < 2:
        raise ConfigError(
            f"{len(folders)} run to compare",
            rule="a comparison is of two runs or more, each given once",
            fix="fastvocab report RUN RUN, or fastvocab report RUN for the page of one",
        )
    path = folders[0].parent / NAME if out is None else Path(out)
    _require_ours(path)
    text = html(_read(folders, path.resolve().parent))
    files.write_text(path, text)
    return path


def html(runs: Sequence[Compared]) -> str:
    """The page as a string."""
    parts = [
        ("comparison.jinja", comparison.section(runs)),
        ("curves.jinja", curves.section(runs)),
        ("settings.jinja", settings.section(runs)),
    ]
    return render.html(
        f"{len(runs)} runs compared", [(name, part) for name, part in parts if part], kind=KIND
    )


def _read(folders: list[Path], beside: Path) -> list[Compared]:
    runs, wrong = [], []
    several = len({folder.name for folder in folders}) < len(folders)
    for place, folder in enumerate(folders):
        try:
            records = read_records(folder)
            config = read_yaml(folder / "config.yaml") if (folder / "config.yaml").is_file() else {}
        except FastvocabError as error:
            wrong.append(error.message)
            continue
        name = f"{folder.parent.name}/{folder.name}" if several else folder.name
        own = folder / page.NAME
        link = f"{folder.name}/{page.NAME}" if own.is_file() and folder.parent == beside else None
        runs.append(Compared(_letter(place), name, records, config, link))
    if wrong:
        raise CheckpointError(
            f"{len(wrong)} of {len(folders)} runs cannot be read: {'; '.join(wrong)}",
            rule="a run is a folder with the record of a finished stage",
            fix="give run folders, such as runs/NAME",
        )
    return runs


def _letter(place: int) -> str:
    """A, B, ... Z, AA, AB, ..."""
    letters = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _require_ours(path: Path) -> None:
    """Refuse to write over what is not a comparison of ours."""
    if not path.resolve().parent.is_dir():
        raise ConfigError(f"--out: there is no folder {path.parent}", fix="make it first, or choose another")
    if path.is_dir():
        raise ConfigError(f"--out: {path} is a folder", fix=f"--out {path / NAME}")
    if path.exists() and not render.is_ours(path, KIND):
        raise ConfigError(
            f"--out: {path} is there already and is no comparison that fastvocab wrote",
            rule="other files are not written over",
            fix="choose another name, or remove it",
        )
