"""The benchmark scripts of training and checkpoints at toy sizes: all ways run and agree; no time is looked at."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import sentences

SCRIPTS = Path(__file__).parents[1] / "scripts"


def here(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """In this process: one of its own would import unsloth again."""
    return step(*args, **kwargs)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """(module, rows) of a script run with options."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def run(name: str, *options: str) -> tuple[Any, list[dict[str, Any]]]:
        bench = importlib.import_module(name)
        monkeypatch.setattr(bench, "alone", here)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *options, "--json"])
        assert bench.main() == 0
        return bench, json.loads(capsys.readouterr().out)["rows"]

    return run


def columns(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_all_ways_to_train_rows_take_the_same_first_step(measured: Callable[..., Any]) -> None:
    options = ["--shapes", "toy", "toy-untied", "--rows", "40", "--steps", "1", "--warmup", "1"]
    bench, rows = measured("bench_rows", *options)
    matrix = 540 * 64
    for name, parts in (("toy", 1), ("toy-untied", 2)):
        found = {row["arm"]: row for row in rows if row["shape"] == name}
        assert list(found) == ["full", "full32", "peft", "ours", "frozen"]
        lora = found["frozen"]["trainable"]
        for arm, trained in (("full", matrix), ("full32", matrix), ("peft", 40 * 64), ("ours", 40 * 64)):
            assert found[arm]["trainable"] == lora + parts * trained
        assert found["full"]["dtypes"] == ["bfloat16", "float32"]
        assert found["ours"]["dtypes"] == found["full32"]["dtypes"] == found["peft"]["dtypes"] == ["float32"]
        for arm in ("full", "full32", "peft"):
            assert found[arm]["loss_apart"] < 1e-3
            assert found[arm]["gradient_apart"] < 2e-2
        # two moments in float32 and a step counter for each parameter
        assert 0 <= found["ours"]["adam_bytes"] - 8 * found["ours"]["trainable"] < 1000
        for row in found.values():
            assert row["step_s"] > 0 and row["peak_bytes"] > 0 and row["loaded_bytes"] > 0
    lines = columns(bench.table(rows))
    assert len(lines) == 12 and {len(line) for line in lines} == {14}
    assert lines[0][:4] == ["shape", "arm", "trainable", "step s"] and lines[0][-1] == "gradient apart"


def test_what_does_not_fit_into_memory_is_left_out(
    measured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    bench = importlib.import_module("bench_rows")
    monkeypatch.setattr(bench, "needed", lambda shape, arm, rows: 10**15 if arm == "full" else 0)
    _, rows = measured(
        "bench_rows", "--shapes", "toy", "--arms", "full", "ours", "--rows", "9", "--steps", "1"
    )
    assert "1000000 GB needed" in rows[0]["error"] and rows[1]["step_s"] > 0
    lines = columns(bench.table(rows))
    assert {len(line) for line in lines} == {14} and "left out" in lines[2][2]


def test_all_ways_to_save_come_back(
    measured: Callable[..., Any], tied_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastvocab.model import backend

    monkeypatch.setattr(backend, "dtype_name", backend.dtype_name)  # the script sets it: to be put back
    text = tmp_path / "uk.txt"
    text.write_text("\n".join(sentences(300)), encoding="utf-8")
    options = ["--base", str(tied_llama), "--text", str(text), "--new-tokens", "60", "--r", "4"]
    bench, rows = measured("bench_checkpoint", *options, "--rounds", "1")
    found = {row["way"]: row for row in rows}
    assert list(found) == ["ours, full", "Unsloth", "ours, new_rows", "PEFT", "PEFT, thrifty"]
    for way in ("ours, full", "ours, new_rows"):
        assert found[way]["apart"] == 0 and found[way]["smaller"] > 1
    for way in ("Unsloth", "PEFT", "PEFT, thrifty"):
        assert found[way]["apart"] < 1e-3
    assert found["ours, full"]["matrices"] == {"760x64": 1}
    assert found["ours, new_rows"]["matrices"] == {"60x64": 1}
    assert found["Unsloth"]["matrices"]["760x64"] > 1
    assert found["ours, full"]["trainable"] == found["Unsloth"]["trainable"]
    assert found["ours, new_rows"]["trainable"] == found["PEFT"]["trainable"]
    lines = columns(bench.table(rows))
    assert len(lines) == 7 and {len(line) for line in lines} == {10}
    assert lines[0][0] == "way" and lines[0][-1] == "apart"
