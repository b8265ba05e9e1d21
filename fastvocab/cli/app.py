"""The command's frame: the app, options that several verbs share, and how results are printed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import typer

from fastvocab import console

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True,
    help="Give a Llama-family model a new language: extend its tokenizer, train, keep every checkpoint.",
)  # fmt: skip

#: Settings of a verb that takes keys of the configuration.
KEYS = {"allow_extra_args": True, "ignore_unknown_options": True}
CONFIG = typer.Option(None, help="YAML file; see recipes/ for examples.")
BASE = typer.Option(None, help="Where the base model lies now, if not where the checkpoint was made.")
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")
#: Control characters but for tabs and line ends.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@app.callback()
def _global(verbose: bool = typer.Option(False, "--verbose", help="Show what libraries print.")) -> None:
    console.setup_logging(verbose)


def print_json(data: Any) -> None:
    """JSON on standard output, every script readable."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2) + "\n")


def printable(text: str) -> str:
    """Text of a model for a terminal, which would obey escape sequences in it; a file gets it as it is."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text) if sys.stdout.isatty() else text


def newest(path: Path) -> Path:
    """The checkpoint that is meant by a run, or by itself."""
    from fastvocab.model import manifest
    from fastvocab.run import last_checkpoint

    found = last_checkpoint(path)
    if found != path and manifest.peek(found)["stage"] == "extend":
        console.warn(f"{found} is the newest checkpoint of the run: its new tokens have not been trained yet")
    return found
