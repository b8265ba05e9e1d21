"""The end table of scripts/bench_training.py, from runs made by hand."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.made_records import LOST, WON, control


@pytest.fixture
def bench_training(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    return importlib.import_module("bench_training")


def _found(language: str, seed: int, bits: dict[str, float], crossover: float | None) -> dict:
    return {"language": language, "seed": seed} | control(bits, crossover)


def test_each_arm_is_a_line(bench_training: Any) -> None:
    found = _found("uk", 3407, WON, 130.0)
    lines = [bench_training.row(found, name) for name in ("extended", "control", "plain")]
    assert lines[0]["bits per byte (95%)"] == "1.612 (1.562–1.672)"
    assert [line["reaches control's end, s"] for line in lines] == ["130", "340", "never"]
    assert [line["crossover, s"] for line in lines] == ["130", "–", "–"]
    assert {line["time, s"] for line in lines} == {"340"}
    assert [line["preparation, s"] for line in lines] == ["40", "0", "6"]
    assert lines[1]["kB/s"] == "3.67" and lines[1]["decode steps"] == "20,961"
    text = bench_training.markdown(lines).splitlines()
    assert len(text) == 5 and len({line.count("|") for line in text}) == 1


def test_the_summary_is_over_seeds_and_names_the_worst(bench_training: Any) -> None:
    better = dict(WON, extended=1.5)
    (line,) = bench_training.summary(
        [
            _found("uk", 1, WON, 130.0),
            _found("uk", 2, better, None),
            {"language": "uk", "seed": 3, "error": "x"},
        ]
    )
    first, second = 1.612 / 1.733, 1.5 / 1.733
    assert line["seeds"] == "2"
    assert line["bits per byte / control's"] == f"{(first + second) / 2:.3f} ({first:.3f})"
    assert line["decode steps / control's"] == f"{7996 / 20961:.3f}" and line["crossover, s"] == "130, none"
    assert line["tokens/s / control's"] == "1.00 (1.00)"
    assert bench_training.summary([{"language": "ta", "seed": 1, "error": "x"}]) == []
    assert len(bench_training.summary([_found("uk", 1, LOST, None), _found("ta", 1, WON, 1.0)])) == 2


def test_text_of_a_file_is_taken_in_place_of_the_packages(bench_training: Any, tmp_path: Path) -> None:
    lines = [f"Κείμενο αριθμός {number}." for number in range(60)]
    (tmp_path / "el.txt").write_text("\n".join(lines), encoding="utf-8")
    paths = bench_training.text_of("el", tmp_path / "out", tmp_path / "el.txt")
    parts = [[json.loads(line)["text"] for line in Path(path).read_text().splitlines()] for path in paths]
    assert all(parts) and sorted(parts[0] + parts[1]) == sorted(lines)


def test_text_is_written_once(bench_training: Any, tmp_path: Path) -> None:
    first = bench_training.text_of("ta", tmp_path)
    before = [Path(path).stat().st_mtime_ns for path in first]
    assert bench_training.text_of("ta", tmp_path) == first
    assert [Path(path).stat().st_mtime_ns for path in first] == before
    assert [Path(path).name for path in first] == ["train.jsonl", "heldout.jsonl"]
