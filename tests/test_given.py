"""What the stages of a recipe are given: conversations to look at first, and what a stage calls its sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastvocab.config import load
from fastvocab.corpus.split import held_out
from fastvocab.errors import DataError
from fastvocab.recipes import given, new_language
from fastvocab.run import Run


def chats(path: Path, held: bool, count: int = 2) -> Path:
    """Conversations that are all held out, or none of them."""
    texts = (f"слово {number}" for number in range(10_000))
    found = [text for text in texts if held_out(f"{text}\nтак", given._HELDOUT_CHAT) == held][:count]
    rows = [{"prompt": text, "completion": "так"} for text in found]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("replay", "share", "looked_at"),
    [("shared", 0.2, 2), ("held out", 0.2, 1), ("shared", 0.0, 1), (None, 0.2, 1)],
)
def test_replay_is_looked_at_where_training_would_take_some(
    replay: str | None, share: float, looked_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("fastvocab.train.instruct.require_rows", lambda _, rows, __: seen.update(rows))
    keys = [f"instruct.train={chats(tmp_path / 'new.jsonl', held=False)}", f"instruct.replay_share={share}"]
    if replay:
        keys.append(f"instruct.replay={chats(tmp_path / 'old.jsonl', held=replay == 'held out')}")
    given.require_chat(load(None, keys), tmp_path)
    assert list(seen) == ["instruct.train", "instruct.replay"][:looked_at]
    assert all(len(list(rows())) == 2 for rows in seen.values())


def test_conversations_that_are_all_held_out_are_said_to_be(tied_llama: Path, tmp_path: Path) -> None:
    config = load(None, [f"instruct.train={chats(tmp_path / 'new.jsonl', held=True)}"])
    with pytest.raises(DataError, match="all usable conversations are held out") as caught:
        given.require_chat(config, tied_llama)
    assert "give more conversations" in str(caught.value)


def test_sources_are_recorded_as_they_were_typed() -> None:
    keys = ["extend.init=description", "extend.descriptions=~/d.json", "corpus.train=[a/*.txt, b.txt]"]
    steps = {step.name: step for step in new_language.steps(Run(load(None, keys)))}
    assert steps["extend"].named == {"descriptions": ["~/d.json"]}
    assert steps["corpus"].named == {"train": ["a/*.txt", "b.txt"], "replay": []}
