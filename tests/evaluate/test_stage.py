"""What the evaluation reads, and what it says of a held-out split that is too small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastvocab import console
from fastvocab.config.models import EvaluateSection
from fastvocab.evaluate import stage
from fastvocab.evaluate.bits import Pieces
from fastvocab.model import checkpoint, heldout, manifest, reference
from tests.conftest import sentences, write_jsonl


def test_what_training_looked_at_is_left_out(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "heldout.jsonl", sentences(40))
    watched = " ".join(heldout.watched(path, limit=10**6)[0])
    found = stage._pieces(path, EvaluateSection(piece_bytes=64), 10**6, seed=1)
    assert watched and found.texts
    assert not [piece for piece in found.texts if len(piece) > 30 and piece in watched]
    assert len(set(found.documents)) == heldout.first_watched(path)
    assert stage._pieces(tmp_path / "missing.jsonl", EvaluateSection(), 1000, seed=1) == Pieces([], [])


def test_too_few_documents_are_said_and_enough_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(console, "warn", said.append)
    many, few = Pieces(["text"] * 12, list(range(12))), Pieces(["text"] * 12, [0, 1, 2] * 4)
    stage._say_what_is_too_small({"target": many, "original": Pieces([], [])})
    assert said == []
    stage._say_what_is_too_small({"target": many, "original": few})
    assert len(said) == 1 and "original language comes from 3 documents" in said[0]
    assert "evaluate.replay_bytes" in said[0] and "fewer than 10" in said[0]


@pytest.mark.parametrize(("size", "wanted"), [(1024, 2048), (3000, 3001)])
def test_models_are_loaded_for_the_longest_piece(
    size: int, wanted: int, tied_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unsloth's GPU classes cut rows at the length that they were loaded for; a piece has a token a byte at most."""
    base, asked = reference.resolve(str(tied_llama)), []
    opened = checkpoint.on_base

    def noted(*_: Any, block: int, **__: Any) -> Any:
        asked.append(block)
        return opened(base, load_in_4bit=False, seed=1)

    for name in ("on_base", "load"):
        monkeypatch.setattr(checkpoint, name, noted)
    monkeypatch.setattr(manifest, "peek", lambda path: {})
    monkeypatch.setattr(manifest, "new_ids", lambda facts: range(0))
    write_jsonl(tmp_path / "heldout.jsonl", sentences(8))
    section = EvaluateSection(piece_bytes=size, heldout_bytes=1000, sample_tokens=0)
    stage.evaluate(tmp_path, base=base, points={"pretrain": tmp_path}, corpus=tmp_path, section=section)
    assert asked == [wanted, wanted]


def test_a_change_is_given_in_percent() -> None:
    found = stage._in_percent({"ratio": 1.02, "low": 0.99, "high": 1.05})
    assert found == {k: pytest.approx(v) for k, v in {"percent": 2.0, "low": -1.0, "high": 5.0}.items()}
    assert stage._in_percent(None) is None
