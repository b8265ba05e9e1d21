"""The table of scripts/bench_steps.py, and what it refuses; tests/end_to_end/test_tiny.py runs it."""

from __future__ import annotations

import importlib
import multiprocessing
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


@pytest.mark.parametrize(
    ("steps", "record", "said"),
    [
        ("40", None, "no pretrained run"),
        ("1", "{}", "quartiles need two"),
        ("2", '{"config": {}, "seed": 1}', "an arm ended with 1"),  # no checkpoint 0 lies there
    ],
)
def test_what_cannot_be_measured_is_refused_and_ends_all_arms(
    bench_steps: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: str,
    record: str | None,
    said: str,
) -> None:
    if record is not None:
        (tmp_path / "40-pretrain").mkdir()
        (tmp_path / "40-pretrain" / "stage.json").write_text(record)
    monkeypatch.setattr(sys, "argv", ["bench_steps.py", str(tmp_path), "--steps", steps])
    with pytest.raises(SystemExit, match=said):
        bench_steps.main()
    assert not multiprocessing.active_children()
