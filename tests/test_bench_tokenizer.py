"""The benchmark script on a tiny base; its figures are those that the package itself finds."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import sentences
from tests.tokenizer.conftest import make_byte_level

SCRIPTS = Path(__file__).parents[1] / "scripts"


def here(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """In this process: a fork server of its own would import transformers again."""
    return step(*args, **kwargs)


def test_all_ways_stand_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    bench = importlib.import_module("bench_tokenizer")
    monkeypatch.setattr(bench, "alone", here)
    monkeypatch.setattr(bench, "_ENCODED", 20_000)
    for name in ("RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "1")  # the script sets them: to be put back
    base = make_byte_level(tmp_path / "tiny")
    text = tmp_path / "uk.txt"
    text.write_text("\n".join(sentences(400)), encoding="utf-8")
    options = ["--bases", str(base), "missing", "--text", f"uk={text}", "--new-tokens", "60", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["bench_tokenizer.py", *options, "--json"])

    assert bench.main() == 0
    out, err = capsys.readouterr()
    assert "left out: missing" in err
    rows = {row["tokenizer"]: row for row in json.loads(out)["rows"]}
    ours, before = rows["ours, continued"], rows["base"]
    assert list(rows) == [
        "base",
        "ours, continued",
        "ours, sentencepiece",
        "AddedTokens",
        "fresh SentencePiece",
    ]
    for row in rows.values():
        assert row["mbs_1"] > 0 and row["mbs_2"] > 0 and row["load_s"] > 0
    for name in ("ours, continued", "ours, sentencepiece", "AddedTokens"):
        assert rows[name]["new_tokens"] == 60
        assert rows[name]["per_unit"] < before["per_unit"]
        assert (rows[name]["unreachable"], rows[name]["english_changed"]) == (0, 0)
    for row, side in ((before, "base"), (ours, "extended")):
        found = ours["merge"]["heldout"][side]
        assert row["per_unit"] == found["tokens_per_word"]
        assert row["alone"] == pytest.approx(found["tokens_per_word_alone"], abs=1e-4)
    assert ours["round_trip"] == 1
    lines = bench.table(list(rows.values()), bench.COLUMNS).splitlines()
    assert len(lines) == 7 and len({line.count("|") for line in lines}) == 1
