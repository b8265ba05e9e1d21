"""The ``fastvocab`` command: each verb parses and calls a function that a notebook can import as well."""

from __future__ import annotations

import sys

# in the order of --help
from fastvocab.cli import runs, speech, exports, checkpoints, tokenizers, machine  # isort: skip
from fastvocab.cli.app import app
from fastvocab.recipes import common

__all__ = ["app", "checkpoints", "exports", "machine", "main", "runs", "speech", "tokenizers"]


def main(arguments: list[str] | None = None) -> None:
    """Entry point: exits with the code of what went wrong."""
    sys.exit(common.guarded(lambda: app(args=arguments, standalone_mode=False)))
