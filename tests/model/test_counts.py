"""Counts as targets: against the textbook's recursion in plain Python, and the laws of probability."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastvocab.model.counts import NONE, Counts, contexts, order_for

ROWS, BEGIN = 7, 0
documents = st.lists(
    st.lists(st.integers(1, ROWS - 1), max_size=12).map(lambda ids: [BEGIN, *ids]), min_size=1, max_size=8
)


def textbook(texts: list[list[int]], order: int) -> dict[tuple[int, ...], np.ndarray]:
    """p(. | context) by the recursion of Ney, Essen, Kneser 1994, for every context seen."""
    grams = [
        Counter(tuple(t[i - k : i + 1]) for t in texts for i in range(max(1, k), len(t)))
        for k in range(order)
    ]
    total = sum(grams[0].values())
    if not total:
        return {(): np.full(ROWS, 1 / ROWS)}
    once, twice = (sum(n == v for n in grams[0].values()) for v in (1, 2))
    discount = min(0.95, max(0.5, once / max(1, once + 2 * twice)))
    counts = np.array([grams[0][(x,)] for x in range(ROWS)])
    kept = np.maximum(counts - discount, 0) / total
    out = {(): kept + discount * (counts > 0).sum() / total / ROWS}
    for k in range(1, order):
        once, twice = (sum(n == v for n in grams[k].values()) for v in (1, 2))
        discount = min(0.95, max(0.5, once / max(1, once + 2 * twice)))
        for context in {gram[:-1] for gram in grams[k]}:
            counts = np.array([grams[k][(*context, x)] for x in range(ROWS)])
            kept = np.maximum(counts - discount, 0) / counts.sum()
            out[context] = kept + discount * (counts > 0).sum() / counts.sum() * out[context[1:]]
    return out


@pytest.mark.parametrize("order", [2, 3, 4])
@given(texts=documents)
@settings(max_examples=40, deadline=None)
def test_every_context_has_the_distribution_of_the_textbook(order: int, texts: list[list[int]]) -> None:
    counted, expected = Counts(texts, ROWS, order=order), textbook(texts, order)
    known = list(expected)
    asked = torch.tensor([[NONE] * (order - 1 - len(c)) + list(c) for c in known])
    for token in range(ROWS):
        found = counted.probability(asked, torch.full((len(known),), token))
        assert np.allclose(found, [expected[c][token] for c in known], atol=1e-6)


@given(
    texts=documents, asked=st.lists(st.lists(st.integers(NONE, ROWS - 1), min_size=2, max_size=2), min_size=1)
)
@settings(max_examples=40, deadline=None)
def test_any_context_has_a_distribution(texts: list[list[int]], asked: list[list[int]]) -> None:
    counted = Counts(texts, ROWS, order=3)
    found = counted.targets(torch.tensor(asked))
    total = found.rest.index_add(0, found.position, found.mass)
    assert torch.allclose(total, torch.ones(len(asked)), atol=1e-5)
    assert counted.unigram.sum().item() == pytest.approx(1, abs=1e-5)


def test_a_context_ends_where_its_document_begins() -> None:
    ids = torch.tensor([[3, 4, BEGIN, 5, 6, 2]])
    assert contexts(ids, BEGIN, 3).tolist() == [
        [NONE, 3],
        [3, 4],
        [NONE, BEGIN],  # what predicts the BOS itself may look back; nothing after it does
        [BEGIN, 5],
        [5, 6],
    ]
    assert contexts(ids, BEGIN, 4).tolist()[4] == [BEGIN, 5, 6]
    assert contexts(ids, BEGIN, 4).tolist()[3] == [NONE, BEGIN, 5]


def test_fragments_need_a_longer_context_than_words() -> None:
    # bytes a token: Ukrainian over SmolLM2's tokens and over 8,000 new ones, English
    assert [order_for(size) for size in (0.5, 2.24, 6.0, 4.4, 20.0)] == [5, 5, 3, 4, 3]


def test_counting_stops_at_its_limit() -> None:
    assert Counts(([BEGIN, 1, 2] for _ in range(10**9)), ROWS, most=100).tokens == 100


@given(st.lists(st.integers(1, ROWS - 1), min_size=1, max_size=6), st.integers(2, 5))
@settings(deadline=None)
def test_a_row_may_be_shorter_than_what_is_looked_back(ids: list[int], order: int) -> None:
    row = [BEGIN, *ids]
    found = contexts(torch.tensor([row]), BEGIN, order)
    padded = [*[NONE] * order, *row]
    assert found.tolist() == [padded[at + 2 : at + order + 1] for at in range(len(ids))]
    counts = Counts([row], ROWS, order=order)
    expected = -counts.probability(found, torch.tensor(ids)).double().log().sum()
    assert counts.nats([row]) == pytest.approx(float(expected))
