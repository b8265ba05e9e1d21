"""What a run says: progress, lines, tables; on the main process only, and never a secret.

Everything for people goes to standard error through one `rich` console; standard output is kept for what
a command was asked to produce (JSON, generated text). Progress bars are drawn on terminals alone.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fastvocab import processes

_SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|CREDENTIAL)S?$", re.IGNORECASE)
_SECRET_SHAPE = re.compile(r"\b(hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,})")


def hide_secrets(text: str) -> str:
    """``text`` without the value of any environment variable that is named like a secret, or shaped like one."""
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET_NAME.search(name):
            text = text.replace(value, "***")
    return _SECRET_SHAPE.sub("***", text)


#: Standard error as it was before `quiet` took it away from libraries; ours stays visible.
_outside: list[TextIO] = []


class _Filtered:
    """A text stream that hides secrets on their way out."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def _stream(self) -> TextIO:
        # looked up at each call: test runners and notebooks exchange sys.stderr while we run
        return _outside[0] if _outside else getattr(sys, self._name)

    def write(self, text: str) -> int:
        return self._stream.write(hide_secrets(text))

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._stream, attribute)


# a log file has no width of its own: 110 columns keep the end table whole
_width = None if sys.stderr.isatty() else 110
# in a notebook rich would display HTML past the file, and so past the filter
console = Console(
    file=_Filtered("stderr"),  # type: ignore[arg-type]
    quiet=not processes.is_main(),
    highlight=False,
    width=_width,
    force_jupyter=False,
)
#: What makes the place that progress is drawn in, where that is not the console (`fastvocab.notebook`).
_canvases: list[Callable[[], Console]] = []


def say(message: str = "", *, style: str | None = None) -> None:
    """One line for people."""
    console.print(message, style=style, markup=False, soft_wrap=True)


def warn(message: str) -> None:
    """One line for people that they should not miss."""
    console.print(f"warning: {message}", style="yellow", markup=False, soft_wrap=True)


def fail(lines: list[str]) -> None:
    """A user error: first line in red, the rest as it is."""
    console.print(f"error: {lines[0]}", style="bold red", markup=False, soft_wrap=True)
    for line in lines[1:]:
        console.print(line, markup=False, soft_wrap=True)


@contextmanager
def progress(unit: str = "", *, rate: bool = True) -> Iterator[Progress]:
    """A progress display: description, bar, count, rate field, time left. Silent without terminal or notebook.

    Tasks may carry ``fields`` named ``note`` (loss, MB/s...), shown at the end of the line.
    """
    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    if _canvases:
        # a few times a second is what a browser bears, and what is printed goes its own way
        own: dict[str, Any] = {"refresh_per_second": 2, "redirect_stdout": False, "redirect_stderr": False}
        with Progress(*columns, console=_canvases[-1](), **own) as display:
            yield display
        return
    # a notebook's kernel asks for colours (FORCE_COLOR), which is_terminal heeds, but moves no cursor
    shown = console.is_terminal and console.file.isatty()
    with Progress(*columns, console=console, disable=not shown, transient=True) as display:
        yield display


@contextmanager
def drawing_on(canvas: Callable[[], Console]) -> Iterator[None]:
    """Draw each progress display on a console of its own that ``canvas`` makes."""
    _canvases.append(canvas)
    try:
        yield
    finally:
        _canvases.pop()


@contextmanager
def quiet(logger: logging.Logger | None = None) -> Iterator[None]:
    """Send what libraries print (banners, notices) to the debug log instead of the screen.

    Standard output is thereby kept clean for commands whose output is JSON. What we say ourselves meanwhile,
    progress above all, is seen as ever. Errors still raise.
    """
    import io

    buffer = io.StringIO()
    _outside.append(sys.stderr)
    try:
        with redirect_stdout(buffer), redirect_stderr(buffer):
            yield
    finally:
        _outside.pop()
        text = buffer.getvalue().strip()
        if text:
            (logger or logging.getLogger("fastvocab")).debug("%s", hide_secrets(text))


class _SecretFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = hide_secrets(record.getMessage()), ()
        return True


def setup_logging(verbose: bool = False) -> None:
    """Route the ``fastvocab`` logger to the console (debug with ``verbose``), with secrets filtered."""
    logger = logging.getLogger("fastvocab")
    logger.handlers.clear()
    handler = RichHandler(console=console, show_path=False, show_time=False)
    handler.addFilter(_SecretFilter())
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    logger.propagate = False
