"""scripts/bench_trie.py at a toy size: all tries are built and agree; no time is looked at."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def bench_trie(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    return importlib.import_module("bench_trie")


def test_tries_are_measured_and_agree(
    bench_trie: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--items", "2000", "--codebook", "16", "--rounds", "2", "--beams", "8"]
    monkeypatch.setattr(sys, "argv", ["bench_trie.py", *options, "--json"])
    assert bench_trie.main() == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["trie"] for row in rows][:2] == ["ours", "dicts"]
    for row in rows:
        assert row["build_s"] > 0 and row["peak_bytes"] >= row["kept_bytes"]
        assert list(row["step_us"]) == ["1", "2", "3"] and min(row["step_us"].values()) > 0
    lines = [line.strip("| ").split(" | ") for line in bench_trie.table(rows).splitlines()]
    assert lines[0] == ["trie", "build s", "peak MB", "kept MB", "depth 1 us", "depth 2 us", "depth 3 us"]
    assert {len(line) for line in lines} == {7} and "(1x)" in lines[3][1]


def test_semantic_ids_differ_in_the_last_token_alone_where_all_others_agree(bench_trie: Any) -> None:
    codes = bench_trie.semantic_ids(2000, 3, 16)
    assert len(np.unique(codes, axis=0)) == 2000 > len(np.unique(codes[:, :2], axis=0)) == 256
    first = codes.min(0)
    assert first.tolist() == [50_000, 50_016, 50_032]
    for prefix in np.unique(codes[:, :2], axis=0):
        own = codes[(codes[:, :2] == prefix).all(1), 2]
        assert sorted(own) == list(range(first[2], first[2] + len(own)))


def test_tries_that_disagree_are_no_result(bench_trie: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([{1: [[5]]}, {1: [[6]]}, {1: [[6]]}])
    figures = {"build_s": 1.0, "peak_bytes": 1, "kept_bytes": 1, "step_us": {1: 1.0}}
    monkeypatch.setattr(bench_trie, "alone", lambda *given: figures | {"children": next(answers)})
    monkeypatch.setattr(sys, "argv", ["bench_trie.py", "--items", "10"])
    with pytest.raises(AssertionError, match="do not agree"):
        bench_trie.main()
