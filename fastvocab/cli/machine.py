"""Verbs about what is installed: doctor, version."""

from __future__ import annotations

import sys

import fastvocab
from fastvocab import console
from fastvocab.cli.app import JSON, app, print_json


@app.command()
def doctor(as_json: bool = JSON) -> None:
    """This machine and its packages: what fastvocab would use."""
    from fastvocab import doctor as facts

    found = facts.examine()
    if as_json:
        print_json(found)
    else:
        for name, value in found.items():
            console.say(f"{name:14} {value}")


@app.command()
def version() -> None:
    """The version."""
    sys.stdout.write(fastvocab.__version__ + "\n")
