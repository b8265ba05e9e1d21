"""Which rows a step reads, how often the text is read, and how the rates go over the training."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fastvocab.train import blocks, callbacks
from fastvocab.train.budget import FLOOR, Budget
from fastvocab.train.data import Order
from tests.train.conftest import Material


def test_the_order_is_what_the_trainer_reads(
    train: Any, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three epochs, an incomplete batch and an incomplete step at the end of each."""
    read: list[list[list[int]]] = []
    made: list[Any] = []
    prepare = blocks.prepare

    def spied(*args: Any, **kwargs: Any) -> Any:
        data = prepare(*args, **kwargs)
        made.append(data)

        def collate(rows: list[dict[str, Any]]) -> Any:
            read.append([row["input_ids"] for row in rows])
            return data.collate(rows)

        return type(data)(data.dataset, data.figures, collate, data.origin, data.kind, data.text_bytes)

    monkeypatch.setattr(blocks, "prepare", spied)
    settings = ("accumulate=2", "embeddings=frozen", "save_steps=9", "steps=13", "lora.dropout=0.1")
    done = train("tied", *settings, corpus=material.small)
    (data,) = made
    rows = data.dataset["input_ids"]
    order = Order(len(rows), 2, 2, 3)
    assert len(rows) % 4 in (1, 3) and done.figures["epochs"] > 2 and done.figures["steps"] == 13
    expected = [[[rows[i] for i in batch] for batch in order.batches(step)] for step in range(1, 14)]
    whole = [batch for step in expected for batch in step]
    assert read[: len(whole)] == whole
    assert done.figures["seed"] == 3 and done.figures["data"]["sha256"] == data.figures["sha256"]
    seen = [i for step in range(1, 14) for batch in order.batches(step) for i in batch]
    assert done.figures["bytes"] == done.steps[-1]["bytes"] == sum(int(data.text_bytes[i]) for i in seen)
    read.clear()
    again = train("tied", *settings, corpus=material.small)  # from the save of step 9
    last = [batch for step in expected[9:] for batch in step]
    assert any(read[i : i + len(last)] == last for i in range(len(read)))
    measured = {"seconds": 0, "memory_bytes": 0}
    assert [e | measured for e in again.steps] == [e | measured for e in done.steps]


def test_text_that_is_read_more_than_four_times_is_said(
    train: Any, material: Material, capsys: pytest.CaptureFixture[str]
) -> None:
    for steps, often in ((16, None), (20, "5.0 times")):
        done = train("tied", "embeddings=frozen", f"steps={steps}", name=str(steps), corpus=material.small)
        rows = done.figures["data"]["blocks"] + done.figures["data"]["replay_blocks"]
        assert rows in (7, 8), "four steps an epoch"
        said = " ".join(capsys.readouterr().err.split())
        assert ("arXiv 2305.16264" in said) == bool(often)
        assert often is None or f"pretrain reads every block {often}: beyond 4 times" in said


def test_with_a_budget_of_minutes_it_is_said_once_it_happens(capsys: pytest.CaptureFixture[str]) -> None:
    from types import SimpleNamespace

    watch = callbacks.epochs_watch("pretrain", "block")
    for epoch in (0.5, 4.0, 4.1, 9.0):
        watch.on_step_end(None, SimpleNamespace(epoch=epoch), None)
        assert ("more than 4 times by now" in " ".join(capsys.readouterr().err.split())) == (epoch == 4.1)


@pytest.mark.parametrize("start", [0.0, 0.3])
def test_the_rate_rises_from_its_start_and_falls_to_a_tenth(start: float) -> None:
    budget = Budget(1000, None)
    rates = [budget.rate(step, 0.1, start=start) for step in range(1001)]
    first = round(1000 * start)
    assert rates[:first] == [0.0] * first and rates[first] > 0
    top = rates.index(max(rates))
    assert top == first + 100 and rates[top] == pytest.approx(1.0)
    assert rates[first : top + 1] == sorted(rates[first : top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True) and rates[-1] == pytest.approx(FLOOR)


def test_a_linear_schedule_falls_to_nothing_in_a_straight_line() -> None:
    rates = [Budget(100, None, schedule="linear").rate(step, 0.1) for step in range(101)]
    assert rates[10:] == pytest.approx([1 - i / 90 for i in range(91)])


def test_what_is_done_with_the_clock_stopped_is_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    budget = Budget(10**7, 2.0, spent=30.0, started=100.0)
    now[0] += 20
    with budget.stopped_clock():
        now[0] += 500
    assert budget.seconds() == 50 and budget.fraction(1) == pytest.approx(50 / 120)
