"""Popularity and co-occurrence against counts made by hand, and by brute force."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fastvocab.items.baselines import cooccurrence, popularity
from fastvocab.items.ranking import NONE

HISTORIES = [[0, 1, 2], [0, 1, 3], [0, 2, 1], [3, 0, 1]]  # 0: 4, 1: 4, 2: 2, 3: 2, 4 never


def test_popular_items_come_in_order_and_the_unseen_last() -> None:
    assert popularity(HISTORIES, 5, [[2]], k=5, bar_seen=False).tolist() == [[0, 1, 2, 3, 4]]


def test_seen_items_are_barred() -> None:
    found = popularity(HISTORIES, 5, [[0], [0, 1, 2, 4]], k=3, bar_seen=True).tolist()
    assert found == [[1, 2, 3], [3, NONE, NONE]]


def test_what_stands_beside_the_last_item_comes_first() -> None:
    # beside 3 stand 1 (once) and 0 (once); 0 and 1 are as popular
    assert cooccurrence(HISTORIES, 5, [[2, 3]], k=5, bar_seen=False, window=1).tolist() == [[0, 1, 2, 3, 4]]
    # beside 0: 1 (three times), 2 and 3 (once each)
    assert cooccurrence(HISTORIES, 5, [[0]], k=5, bar_seen=True, window=1).tolist() == [[1, 2, 3, 4, NONE]]


def test_an_item_that_nobody_took_falls_back_to_popularity() -> None:
    found = cooccurrence(HISTORIES, 5, [[4]], k=3, bar_seen=True)
    assert found.tolist() == popularity(HISTORIES, 5, [[4]], k=3, bar_seen=True).tolist() == [[0, 1, 2]]


def test_histories_of_one_item_have_no_pairs() -> None:
    assert cooccurrence([[0], [1], [1]], 3, [[0]], k=3, bar_seen=False).tolist() == [[1, 0, 2]]


histories = st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=9), min_size=1, max_size=8)


@given(histories, st.integers(1, 4), st.booleans())
def test_cooccurrence_is_the_count_of_all_pairs_within_the_window(
    given_histories: list[list[int]], window: int, bar_seen: bool
) -> None:
    beside: Counter[tuple[int, int]] = Counter()
    popular = Counter(row for history in given_histories for row in history)
    for history in given_histories:
        for i, a in enumerate(history):
            for j, b in enumerate(history):
                if i != j and abs(i - j) <= window:
                    beside[a, b] += 1
    found = cooccurrence(given_histories, 8, given_histories, k=8, bar_seen=bar_seen, window=window)
    assert isinstance(found, np.ndarray)
    for context, ranked in zip(given_histories, found.tolist()):
        last, barred = context[-1], set(context) if bar_seen else set()
        order = sorted(range(8), key=lambda row: (-beside[last, row], -popular[row], row))
        expected = [row for row in order if row not in barred]
        assert ranked == expected + [NONE] * len(barred)
