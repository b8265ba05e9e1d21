"""What a notebook adds to the command line: a verb in a cell, progress under it, tables and the report inline.

The notebooks under ``recipes/`` use it. Nothing is decided here: `verb` calls what the command ``fastvocab`` calls,
and the tables are those of `fastvocab.table` and the report. IPython is imported inside the functions, since only
a notebook has it.
"""

from __future__ import annotations

import html
import json
import re
import shlex
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ParamSpec

from rich.console import Console

from fastvocab import console, facts, table
from fastvocab.config import STAGES
from fastvocab.errors import CheckpointError, FastvocabError
from fastvocab.numbers import ABSENT, duration
from fastvocab.run import Record, read_records

_P = ParamSpec("_P")
#: Control sequences that a terminal would obey.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
#: Where Colab shows one's Drive.
_DRIVE = "/content/drive"
_STYLE = (
    "<style>.fastvocab td,.fastvocab th{text-align:start;vertical-align:top;padding:.2em .8em .2em 0}"
    ".fastvocab td{white-space:pre-wrap}.fastvocab p{max-width:60em}</style>"
)


class NotFinished(Exception):
    """A verb that ended with an exit code: what was wrong is said above, so that no traceback is shown.

    It is raised so that "Run all" stops there.
    """

    def __init__(self, code: int) -> None:
        self.code = code
        stopped = code >= 128
        super().__init__(
            "stopped: run this cell again and it goes on where it was"
            if stopped
            else f"not done (exit code {code}): mend what the lines above say, and run this cell again"
        )

    def _render_traceback_(self) -> list[str]:
        return [str(self)]  # IPython's own hook


def _told(work: Callable[_P, None]) -> Callable[_P, None]:
    """A user's mistake is told as on the command line, with no traceback."""

    @wraps(work)
    def told(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            work(*args, **kwargs)
        except FastvocabError as error:
            with redirect_stderr(sys.stdout):
                console.fail(error.lines())
            raise NotFinished(error.exit_code) from None

    return told


def keys(values: Mapping[str, Any], more: Sequence[str] = ()) -> list[str]:
    """``key=value`` of each value that is filled in, as on the command line.

    Args:
        values: by key of the configuration; None, an empty text and an empty list are left out, so that the
            key keeps its default.
        more: further ones, as typed.
    """
    filled = {key: value for key, value in values.items() if value not in (None, "", [], ())}
    return [f"{key}={_typed(value)}" for key, value in filled.items()] + list(more)


def _typed(value: Any) -> str:
    return str(value) if isinstance(value, str | Path) else json.dumps(value, ensure_ascii=False)


def verb(*words: object) -> None:
    """A verb of ``fastvocab`` in this cell: ``verb("inspect", run)`` is ``fastvocab inspect RUN``.

    What it says goes to the cell's output, progress is drawn under it, and the button that interrupts the kernel
    is Ctrl-C.

    Raises:
        NotFinished: for each exit code but 0.
    """
    from fastvocab.cli import main

    typed = [str(word) for word in words]
    # one stream for all: notebooks show standard error as if something had failed
    with redirect_stderr(sys.stdout), console.drawing_on(_canvas):
        console.say(f"$ fastvocab {shlex.join(typed)}")
        try:
            main(typed)
        except SystemExit as ended:
            if ended.code:
                raise NotFinished(ended.code if isinstance(ended.code, int) else 1) from None


class _Frames:
    """A file that rich draws frames of a progress display into: each takes the last one's place in the cell."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self._shown: Any = None

    def write(self, text: str) -> int:
        from IPython.display import display

        lines = [line for line in _CONTROL.sub("", text).splitlines() if line.strip()]
        if lines:
            frame = {"text/plain": console.hide_secrets("\n".join(line.rstrip() for line in lines))}
            if self._shown is None:
                self._shown = display(frame, raw=True, display_id=True)
            else:
                self._shown.update(frame, raw=True)
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


def _canvas() -> Console:
    frames: Any = _Frames()
    return Console(file=frames, force_terminal=True, force_jupyter=False, color_system=None, width=110)


@_told
def show_stages(run: str | Path) -> None:
    """How far a run is: each stage with when and where it was done, or the step that its last save is of."""
    folder = Path(run)
    records = _finished(folder)
    ahead = facts.unfinished(records)
    rows = []
    for stage in STAGES:
        steps = sorted((folder / ".saves" / stage).glob("step-*[0-9]"))
        if stage in records:
            data = records[stage].data
            when = str(data["ended"])[:16].replace("T", " ")
            rows.append((stage, "done", when, duration(float(data["seconds"])), str(data["device"])))
        elif steps:
            rows.append((stage, f"half way: saved at step {int(steps[-1].name[5:])}", "", "", ""))
        elif stage in ahead:
            rows.append((stage, "not yet", "", "", ""))
    title = f"{folder}" if records else f"{folder}: nothing is finished yet"
    _show(_table(["", "", "ended (UTC)", "took", "on"], rows, title))


@_told
def show_table(run: str | Path) -> None:
    """What was made, in a few sentences, and the table before and after."""
    records = read_records(Path(run))
    columns, rows = table.table(records)
    said = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in table.sentences(records))
    _show(said + _table(["", *columns, ""], [(row.label, *row.cells, row.note) for row in rows]))


@_told
def show_samples(run: str | Path) -> None:
    """What the base and each stage write after the same prompts, side by side."""
    points = facts.line(read_records(Path(run)))
    said: dict[str, dict[str, str]] = {}
    for point, found in points.items():
        for sample in found.get("samples") or ():
            prompt = str(sample["prompt"])
            said.setdefault(prompt, {})[point] = str(sample.get("text") or "").removeprefix(prompt)
    rows = [(prompt, *(texts.get(point, ABSENT) for point in points)) for prompt, texts in said.items()]
    _show(_table(["prompt", *points], rows))


@_told
def show_report(run: str | Path, height: int = 700) -> None:
    """The whole report of a run, figures and all, in a frame; the file itself is ``report.html`` in the run folder.

    It is written again first. The page travels inside of the frame, since Colab serves no local files.
    """
    from IPython.display import HTML, display

    from fastvocab import report

    page = report.write(Path(run))
    text = html.escape(page.read_text(encoding="utf-8"), quote=True)
    frame = f'<iframe srcdoc="{text}" width="100%" height="{height}" title="report" sandbox></iframe>'
    display(HTML(f"{frame}<p>{html.escape(str(page))}</p>"))


def storage(name: str) -> Path:
    """A folder that outlives the session: on one's Drive in Colab (it asks for leave once), here anywhere else."""
    if not in_colab():
        return Path(name)
    from google.colab import drive

    drive.mount(_DRIVE)
    return Path(_DRIVE) / "MyDrive" / name


@_told
def offer(*paths: str | Path) -> None:
    """Files to take home: in Colab the browser downloads them, elsewhere there is a link to each.

    A folder is packed first, into a zip file beside it.

    Raises:
        NotFinished: one is not there.
    """
    from IPython.display import FileLink, display

    gone = [str(path) for path in paths if not Path(path).exists()]
    if gone or not paths:
        raise CheckpointError(
            f"there is no {' nor '.join(gone) or 'file to offer'}", fix="run the cells above"
        )
    for path in map(Path, paths):
        file = _packed(path) if path.is_dir() else path
        size = f"{file.stat().st_size / 1e6:.1f} MB"
        if in_colab():
            from google.colab import files as colab

            print(f"{file.name}, {size}: the browser asks where to put it")
            colab.download(str(file))
        else:
            display(FileLink(file, result_html_suffix=f" ({size})<br>"))


def _packed(folder: Path) -> Path:
    """A zip file of a folder, not compressed: weights hardly shrink."""
    path = folder.with_name(f"{folder.name}-download.zip")
    part = path.with_name(f"{path.name}.part")
    with zipfile.ZipFile(part, "w") as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, Path(folder.name, file.relative_to(folder)))
    part.replace(path)
    return path


def in_colab() -> bool:
    """Is this a Colab session?"""
    return "google.colab" in sys.modules or (
        find_spec("google") is not None and find_spec("google.colab") is not None
    )


def _finished(folder: Path) -> dict[str, Record]:
    """The records of a run, none for one that has none yet."""
    return read_records(folder) if any(folder.glob("[0-9][0-9]-*/stage.json")) else {}


def _table(head: Iterable[str], rows: Iterable[Sequence[str]], title: str = "") -> str:
    """An HTML table; every cell is escaped, and runs in its own direction."""
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f'<td dir="auto">{html.escape(cell)}</td>' for cell in row) + "</tr>" for row in rows
    )
    caption = f"<caption>{html.escape(title)}</caption>" if title else ""
    return f"<table>{caption}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _show(body: str) -> None:
    from IPython.display import HTML, display

    display(HTML(f'{_STYLE}<div class="fastvocab">{console.hide_secrets(body)}</div>'))
