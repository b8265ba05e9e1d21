"""Verbs about what is installed: doctor, version."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

import fastvocab
from fastvocab.cli.app import JSON, app, print_json

if TYPE_CHECKING:
    from fastvocab.doctor import Check

_STYLES = {"ok": "green", "note": "yellow", "missing": "bold red", "wrong": "bold red"}


@app.command()
def doctor(as_json: bool = JSON) -> None:
    """This machine and its packages: what is there, what is missing, and the command that mends it.

    The exit code is 7 where something that fastvocab needs is missing, or installed versions do not fit together.
    """
    from fastvocab import doctor as facts
    from fastvocab.errors import DependencyError

    found = facts.checks()
    if as_json:
        print_json({"ok": facts.is_well(found), "checks": [asdict(check) for check in found]})
    else:
        show(found)
    if not facts.is_well(found):
        raise typer.Exit(DependencyError.exit_code)


def show(found: list[Check]) -> None:
    """The table, on standard output: state, name, value, and what to do below it."""
    from rich.console import Console
    from rich.text import Text

    from fastvocab.console import hide_secrets

    out = Console(file=sys.stdout, highlight=False, force_jupyter=False)
    width = max(len(check.name) for check in found)
    for check in found:
        line = Text(f"{check.state:8}", style=_STYLES[check.state])
        out.print(line, f"{check.name:{width}}  {hide_secrets(check.value)}", soft_wrap=True, markup=False)
        if check.fix:
            out.print(f"{'':{width + 11}}do: {check.fix}", soft_wrap=True, markup=False)


@app.command()
def version() -> None:
    """The version."""
    sys.stdout.write(fastvocab.__version__ + "\n")
