"""The table of scripts/bench_steps.py, and what it refuses; tests/end_to_end/test_tiny.py runs it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def bench_steps(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    return importlib.import_module("bench_steps")


def test_steps_are_compared_with_those_beside_them(bench_steps: Any) -> None:
    # the machine becomes three times slower: medians of each arm by itself would say 1.0 / 2.4
    found = {"control": [1.0, 1.0, 1.0, 3.0, 3.0], "extended": [0.8, 0.8, 2.4, 2.4, 2.4]}
    line = bench_steps.row("extended", found)
    assert line["tokens/s / control's"].startswith("1.25 ") and line["step s"] == "2.400"
    assert bench_steps.row("control", found)["tokens/s / control's"] == "1.00 (1.00–1.00)"


def test_a_folder_without_a_pretrained_run_is_refused(
    bench_steps: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_steps.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="no pretrained run"):
        bench_steps.main()
