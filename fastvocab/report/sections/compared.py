"""One of several runs that are compared, and what is asked of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastvocab import facts
from fastvocab.facts import Records

#: Characters of a run's name in a figure.
_SHORT = 18


@dataclass(frozen=True)
class Compared:
    """A run of a comparison.

    Attributes:
        letter: what figures and sentences call it.
        name: of its folder.
        records: its finished stages by name.
        config: its config.yaml; empty where there is none.
        link: to its own page, relative to the comparison; None where there is none.
    """

    letter: str
    name: str
    records: Records
    config: dict[str, Any]
    link: str | None = None

    @property
    def short(self) -> str:
        """Letter and the beginning of the name."""
        name = self.name if len(self.name) <= _SHORT else f"{self.name[: _SHORT - 1]}…"
        return f"{self.letter}: {name}"

    def end(self) -> dict[str, Any]:
        """What was measured at the last point of its line."""
        line = list(facts.line(self.records).values())
        return line[-1] if line else {}

    def start(self) -> dict[str, Any]:
        """What was measured of its base."""
        return facts.line(self.records).get("base", {})

    def sha256(self, stage: str, name: str) -> str | None:
        """Digest of a file that a stage left."""
        if stage not in self.records:
            return None
        listed = self.records[stage].data.get("outputs") or ()
        return next((str(o["sha256"]) for o in listed if o.get("path") == name and o.get("bytes")), None)
