"""Bits per byte during training: what is read, what it costs, and how training stops by it."""

from __future__ import annotations

import math
import random
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fastvocab.config import load as configure
from fastvocab.errors import ConfigError
from fastvocab.model import checkpoint, heldout, text
from fastvocab.model.nats import nats
from fastvocab.train import evaluation
from fastvocab.train.budget import Budget
from tests.conftest import write_jsonl
from tests.train.conftest import Material, same

#: Enough of the training for evaluations of 2,000 bytes.
LOOKS = ("steps=8", "embeddings=full", "evaluation_bytes=2000", "evaluation_share=1", "block=192", "batch=4")


def test_nats_are_those_of_each_row_alone_and_leave_no_trace(material: Material) -> None:
    lora = {"r": 4, "alpha": 8, "dropout": 0.5, "targets": ["q_proj"]}
    model, tok = checkpoint.load(
        material.extend["tied"], trainable=True, lora=lora, embeddings="full", seed=3
    )
    model.train()
    odd = model.get_base_model().model.layers[0]
    odd.eval()
    start = text.bos_id(tok)
    rows = [
        [start, *ids] for ids in text.encode(tok, ["Мова народу", "a", "Сьогодні вранці ми пішли на ринок"])
    ]
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    modes = [module.training for module in model.modules()]
    found = nats(model, rows)
    assert torch.get_rng_state().equal(states[0]) and random.getstate() == states[2]
    assert np.random.get_state()[1].tolist() == states[1]
    assert [module.training for module in model.modules()] == modes and True in modes and False in modes
    model.eval()
    for row, value in zip(rows, found):
        ids = torch.tensor([row])
        mean = model(input_ids=ids, labels=ids).loss  # transformers' own loss, unpadded, float32
        assert value == pytest.approx(float(mean.detach()) * (len(row) - 1), rel=2e-2)


def test_training_and_the_final_figures_read_different_documents(tmp_path: Path) -> None:
    documents = [f"{i:03d} " + "слово " * 40 for i in range(40)]
    path = write_jsonl(tmp_path / "heldout.jsonl", documents)
    first = heldout.first_watched(path)
    assert 30 <= first < 40, "a quarter of the bytes at most, from the end"
    pieces, apart = heldout.watched(path, limit=10_000)
    assert apart and not any(piece in document for piece in pieces for document in documents[:first])
    assert all(any(piece in document for document in documents[first:]) for piece in pieces)
    assert 0 < sum(len(piece.encode()) for piece in heldout.watched(path, limit=1500)[0]) < 3000
    longest = write_jsonl(tmp_path / "long.jsonl", ["слово " * 4000] * 4)
    assert heldout.first_watched(longest) == 3, "one document where there are four, however long"
    skewed = write_jsonl(tmp_path / "skewed.jsonl", ["a", "book " * 9000, *["a page " * 60] * 6])
    assert heldout.first_watched(skewed) == 6, "nor more than a quarter of the documents, however small"


def test_a_split_of_three_documents_is_not_divided_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_jsonl(tmp_path / "heldout.jsonl", ["слово " * 200] * 3)
    assert heldout.first_watched(path) == 3 and heldout.watched(path, limit=1000)[1] is False
    section = configure(None, ["pretrain.patience=2"]).pretrain
    watched = evaluation.read(tmp_path, section)
    assert watched is not None and not watched.apart and watched.target and not watched.original
    assert "a little too good" in " ".join(capsys.readouterr().err.split())
    assert evaluation.read(tmp_path, configure(None, ["pretrain.evaluations=0"]).pretrain) is None


def test_a_patience_without_evaluations_is_a_mistake(train: Any) -> None:
    with pytest.raises(ConfigError, match=r"pretrain\.patience is 2, and pretrain\.evaluations is 0"):
        train("tied", "patience=2", "evaluations=0", "steps=1")


def test_evaluations_are_spread_evenly_and_are_what_the_saves_score(train: Any, material: Material) -> None:
    done = train("tied", *LOOKS, "evaluations=4", "save_steps=1", "keep_saves=9")
    assert [look["step"] for look in done.looks] == [2, 4, 6, 8]
    assert [entry["step"] for entry in done.log][:5] == [1, 2, 2, 3, 4], "a look comes after its step"
    by_step = {entry["step"]: entry for entry in done.steps}
    for look in done.looks:
        assert (look["tokens"], look["bytes"]) == tuple(by_step[look["step"]][k] for k in ("tokens", "bytes"))
        assert look["seconds"] <= by_step[look["step"]]["seconds"] + 0.01
    assert done.figures["evaluations"] == 4 and done.figures["evaluated_apart"] is True
    total = sum(look["seconds_evaluating"] for look in done.looks)
    assert done.figures["seconds_evaluating"] == pytest.approx(total, abs=0.01) and total > 0
    # the figure of step 6, from the save of step 6 by itself
    model, tok = checkpoint.load(done.save(6))
    pieces, _ = heldout.watched(material.corpus / "heldout.jsonl", limit=2000)
    pieces = pieces[: evaluation.fitting(pieces, done.figures["evaluation_bytes"])]
    size = sum(len(piece.encode()) for piece in pieces)
    rows = [[text.bos_id(tok), *ids] for ids in text.encode(tok, pieces)]
    look = done.looks[2]
    assert look["target_bytes"] == size and size <= done.figures["evaluation_bytes"] <= 2000
    assert look["target_bits_per_byte"] == pytest.approx(
        sum(nats(model, rows)) / math.log(2) / size, rel=1e-3
    )
    assert look["original_bits_per_byte"] > 0 and look["original_bytes"] > 0


@pytest.mark.parametrize("mode", ["full", "new_rows"])
def test_a_training_that_is_evaluated_ends_with_the_same_weights_also_when_broken(
    mode: str, train: Any
) -> None:
    settings = (
        *LOOKS,
        f"embeddings={mode}",
        "lora.dropout=0.1",
        "save_steps=1",
        "keep_saves=99",
        "count_targets=0",
    )
    with_looks = train("untied", *settings, "evaluations=4")
    without = train("untied", *settings, "evaluations=0", name="without")
    assert len(with_looks.looks) == 4 and not without.looks
    assert same(with_looks.tensors(), without.tensors())
    for step in range(4, 9):
        shutil.rmtree(with_looks.save(step), ignore_errors=True)
    again = train("untied", *settings, "evaluations=4")
    assert same(again.tensors(), with_looks.tensors())
    timed = ("seconds", "seconds_evaluating", "memory_bytes")
    plain = [[{k: v for k, v in e.items() if k not in timed} for e in run.log] for run in (with_looks, again)]
    assert plain[0] == plain[1]


def test_a_broken_training_goes_on_with_the_share_of_counts_where_held_out_text_is_small(
    train: Any, material: Material, tmp_path: Path
) -> None:
    """Evaluated on the way by the original text's size alone: too little of the new one for early looks."""
    small = tmp_path / "small"
    shutil.copytree(material.corpus, small)
    lines = (small / "heldout.jsonl").read_text("utf-8").splitlines(keepends=True)
    (small / "heldout.jsonl").write_text("".join(lines[:8]), encoding="utf-8")
    settings = (*LOOKS, "embeddings=new_rows", "evaluations=4", "save_steps=1", "keep_saves=99")
    whole = train("tied", *settings, corpus=small)
    assert 0 < whole.looks[0]["target_bytes"] < evaluation.LEAST_BYTES and len(whole.looks) == 4
    for step in range(4, 9):
        shutil.rmtree(whole.save(step), ignore_errors=True)
    assert same(train("tied", *settings, corpus=small).tensors(), whole.tensors())


def test_evaluations_take_no_more_than_their_share_and_read_less_where_it_is_small(
    train: Any, material: Material, capsys: pytest.CaptureFixture[str]
) -> None:
    """By tokens: one that is read costs half of one that is trained on."""
    done = train("tied", *LOOKS, "evaluation_bytes=9000", "evaluation_share=0.2", "evaluations=2",
                 "steps=12")  # fmt: skip
    assert 1000 <= done.figures["evaluation_bytes"] < 9000
    # the same text is read by who is given that number
    again = train("tied", *LOOKS, f"evaluation_bytes={done.figures['evaluation_bytes']}", "evaluations=1",
                  "steps=12", name="again")  # fmt: skip
    sizes = [(run.looks[-1]["target_bytes"], run.looks[-1]["original_bytes"]) for run in (done, again)]
    assert sizes[0] == sizes[1]
    tok = text.tokenizer(material.extend["tied"])
    read = 0
    for name, size in zip(("heldout", "replay_heldout"), sizes[0]):
        pieces, _ = heldout.watched(material.corpus / f"{name}.jsonl", limit=9000)
        read += sum(len(ids) + 1 for ids in text.encode(tok, pieces[: evaluation.fitting(pieces, size)]))
    assert 0.1 < evaluation.COST * 2 * read / done.figures["tokens"] <= 0.2
    capsys.readouterr()
    tiny = train("tied", *LOOKS, "evaluation_share=0.01", name="tiny")
    assert not tiny.looks and tiny.figures["evaluation_bytes"] is None
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("no evaluations on the way: 4 of them within 1% of this training would read") == 1


# ------------------------------------------------------------------------------------------------ early stopping


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Evaluations find these bits per byte of the new language, in order."""

    def script(*values: float) -> None:
        left = list(values)

        def found(model: Any, rows: list[list[int]]) -> list[float]:
            script.calls += 1  # type: ignore[attr-defined]
            return [left.pop(0) if script.calls % 2 else 1.0]  # type: ignore[attr-defined]

        script.calls = 0  # type: ignore[attr-defined]
        monkeypatch.setattr(evaluation, "nats", found)

    return script


def test_training_stops_after_as_many_evaluations_as_it_has_patience_and_leaves_the_best(
    train: Any, scripted: Any
) -> None:
    scripted(9.0, 5.0, 7.0, 6.0, 1.0)
    settings = (
        *LOOKS,
        "steps=10",
        "evaluations=5",
        "patience=2",
        "keep_saves=1",
        "save_steps=1",
        "count_targets=0",
    )
    done = train("tied", *settings)
    assert [look["step"] for look in done.looks] == [2, 4, 6, 8]
    figures = done.figures
    assert (figures["steps"], figures["best_step"], figures["stopped_early"]) == (8, 4, True)
    assert sorted(int(f.name[5:]) for f in done.saves.iterdir())[0] == 4, "the best save outlives newer ones"
    assert same(done.tensors(), done.tensors(4))
    manifest = checkpoint.read(done.folder)
    assert manifest["lineage"][-1]["tokens_after"] == done.looks[1]["tokens"] == figures["best_tokens"]


def test_the_last_state_is_taken_where_it_is_the_best(train: Any, scripted: Any) -> None:
    scripted(9.0, 8.0, 7.0, 6.0)
    done = train("tied", *LOOKS, "evaluations=4", "patience=1", "count_targets=0")
    assert (done.figures["steps"], done.figures["best_step"], done.figures["stopped_early"]) == (
        8,
        None,
        False,
    )
    assert sorted(int(f.name[5:]) for f in done.saves.iterdir()) == [4, 6], "none after the last step"


def test_a_continued_training_remembers_the_best_and_how_long_it_was_patient(
    train: Any, scripted: Any
) -> None:
    settings = (
        *LOOKS,
        "steps=12",
        "evaluations=6",
        "patience=2",
        "keep_saves=99",
        "save_steps=1",
        "count_targets=0",
    )
    scripted(9.0, 5.0, 7.0, 6.0)
    whole = train("tied", *settings)
    best = whole.tensors(4)
    for step in (7, 8):
        shutil.rmtree(whole.save(step), ignore_errors=True)
    scripted(6.0)  # of step 8: the second that is no better
    again = train("tied", *settings)
    assert again.figures["steps"] == 8 and again.figures["best_step"] == 4 and same(again.tensors(), best)
    # stopped, but killed before the stage was written: not one step more
    state = whole.save(8)
    assert state.exists()
    scripted()
    third = train("tied", *settings)
    assert third.figures["steps"] == 8 and third.figures["best_step"] == 4 and same(third.tensors(), best)
    assert third.log == again.log


def test_an_evaluation_that_comes_due_while_a_save_is_loaded_is_made(
    train: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a budget in minutes, where the clock of the save is behind that of the last look at it."""
    settings = (*LOOKS, "evaluations=4", "save_steps=1", "keep_saves=99")
    whole = train("tied", *settings)
    for step in (6, 7, 8):
        shutil.rmtree(whole.save(step), ignore_errors=True)
    # five of eight steps, 2.5 evaluations due when it was saved; 3.3 now
    monkeypatch.setattr(Budget, "fraction", lambda self, step: min(1.0, step / self.steps + 0.2))
    again = train("tied", *settings)
    assert [look["step"] for look in again.looks] == [2, 4, 6, 7]


def test_a_model_is_loaded_for_the_longest_text_that_is_looked_at(
    train: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unsloth's GPU classes cut rows at the length that they were loaded for; a piece has a token a byte at most."""
    asked: list[int] = []
    opened = checkpoint.load

    def noted(*args: Any, **options: Any) -> Any:
        asked.append(options["block"])
        return opened(*args, **options)

    monkeypatch.setattr(checkpoint, "load", noted)
    train("tied", "steps=1", "evaluations=2", name="watched")
    train("tied", "steps=1", "evaluations=0", name="unwatched")
    assert asked == [heldout.PIECE_BYTES + 1, 48]


def test_patience_counts_evaluations_since_the_best() -> None:
    log: list[dict[str, Any]] = [{"step": s, "due": s // 2, "target_bits_per_byte": 1.0} for s in (2, 4, 6)]
    state = SimpleNamespace(best_global_step=2, log_history=[*log, {"step": 7, "loss": 1.0}])
    assert evaluation.is_exhausted(state, 2) and not evaluation.is_exhausted(state, 3)
    assert not evaluation.is_exhausted(state, None)
    state.best_global_step = None
    assert not evaluation.is_exhausted(state, 1)
