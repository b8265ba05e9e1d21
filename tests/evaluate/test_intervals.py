"""Intervals over documents, against the textbook: the delta method, and resampling written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastvocab.evaluate import intervals


def _documents(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    sizes = generator.lognormal(7, 0.7, count)
    return sizes * generator.normal(1.6, 0.2, count), sizes


def test_the_interval_is_that_of_the_delta_method_where_documents_are_many() -> None:
    nats, sizes = _documents(400)
    ratio = nats.sum() / sizes.sum()
    # linearised variance of a ratio of sums (Cochran 1977, 6.4)
    error = math.sqrt(((nats - ratio * sizes) ** 2).sum() / (400 * 399)) / sizes.mean()
    low, high = intervals.ratio(nats, sizes, seed=1)
    assert low == pytest.approx(ratio - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(ratio + 1.96 * error, abs=0.15 * error)


def test_the_interval_is_that_of_resampling_written_out() -> None:
    nats, sizes = _documents(12)
    generator = np.random.default_rng(5)
    drawn = []
    for _ in range(20_000):
        index = generator.integers(0, 12, 12)
        drawn.append(nats[index].sum() / sizes[index].sum())
    low, high = intervals.ratio(nats, sizes, seed=1)
    width = np.percentile(drawn, 97.5) - np.percentile(drawn, 2.5)
    assert low == pytest.approx(np.percentile(drawn, 2.5), abs=0.04 * width)
    assert high == pytest.approx(np.percentile(drawn, 97.5), abs=0.04 * width)


def test_pairing_takes_out_what_is_hard_for_both() -> None:
    nats, sizes = _documents(40)
    better = 0.95 * nats * np.random.default_rng(3).normal(1, 0.01, 40)
    paired = intervals.compared(better, nats, seed=1)
    assert paired["low"] < paired["ratio"] < paired["high"] < 1
    assert paired["ratio"] == pytest.approx(better.sum() / nats.sum())
    alone = [intervals.ratio(values, sizes, seed=1) for values in (better, nats)]
    assert alone[0][1] > alone[1][0], (
        "the two intervals overlap, and the paired one tells them apart all the same"
    )


def test_the_same_seed_gives_the_same_and_one_document_none() -> None:
    nats, sizes = _documents(20)
    assert intervals.ratio(nats, sizes, seed=4) == intervals.ratio(nats, sizes, seed=4)
    assert intervals.ratio(nats, sizes, seed=4) != intervals.ratio(nats, sizes, seed=5)
    assert intervals.ratio([3.0], [2.0], seed=0) == (1.5, 1.5)
    assert not intervals.is_meaningful(9) and intervals.is_meaningful(10)


def test_many_documents_fit_into_memory() -> None:
    nats, sizes = _documents(5_000)
    low, high = intervals.ratio(nats, sizes, seed=1)
    assert 0 < high - low < 0.03
