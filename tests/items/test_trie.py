"""The trie against a set of tuples, with and without barred items, and what it refuses."""

from __future__ import annotations

import tracemalloc
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastvocab.errors import DataError
from fastvocab.items.trie import BarredTrie, DeadPrefix, Trie

Item = tuple[int, ...]


@st.composite
def catalogues(draw: st.DrawFn) -> list[Item]:
    """Items of one length, few tokens to a level: prefixes that are shared, chains, and gaps."""
    depth = draw(st.integers(1, 4))
    token = st.sampled_from([0, 1, 2, 7, 300, 2**31 - 1])
    return draw(st.lists(st.tuples(*[token] * depth), min_size=1, max_size=30, unique=True))


@st.composite
def barred_catalogues(draw: st.DrawFn) -> tuple[list[Item], list[int]]:
    """A catalogue, and rows of it that do not exist; some twice, at least one item left."""
    items = draw(catalogues())
    kept = draw(st.integers(0, len(items) - 1))
    return items, draw(st.lists(st.integers(0, len(items) - 1).filter(lambda row: row != kept)))


def agrees(trie: Trie | BarredTrie, items: list[Item], left: set[Item]) -> None:
    """Everything that can be asked of a trie, against the items that are left in it."""
    depth, tokens = len(items[0]), sorted({token for item in items for token in item} | {5})
    assert (len(trie), trie.depth) == (len(left), depth)
    for length in range(depth + 1):
        prefixes = {item[:length] for item in items} | set(product(tokens[:3], repeat=length))
        for prefix in prefixes:
            wanted = sorted(
                {item[length] for item in left if item[:length] == prefix} if length < depth else []
            )
            if wanted:
                found = trie.children(prefix)
                assert found.tolist() == wanted and found.dtype == np.int32
            else:
                with pytest.raises(DeadPrefix) as error:
                    trie.children(prefix)
                assert str(prefix) in str(error.value) and error.value.prefix == prefix
            if prefix in left:
                assert trie.item(prefix) == items.index(prefix)
            else:
                with pytest.raises(DeadPrefix):
                    trie.item(prefix)


@given(catalogues())
@settings(deadline=None, max_examples=200)
def test_a_trie_knows_what_a_set_of_tuples_knows(items: list[Item]) -> None:
    agrees(Trie.build(np.array(items)), items, set(items))


@given(barred_catalogues())
@settings(deadline=None, max_examples=200)
def test_barred_items_do_not_exist_and_the_trie_stays(case: tuple[list[Item], list[int]]) -> None:
    items, barred = case
    trie = Trie.build(np.array(items))
    agrees(trie.barring(iter(barred)), items, {item for row, item in enumerate(items) if row not in barred})
    agrees(trie, items, set(items))


@given(catalogues())
@settings(deadline=None, max_examples=50)
def test_with_everything_barred_nothing_is_left(items: list[Item]) -> None:
    with pytest.raises(DataError, match=f"all {len(items)} items are barred") as error:
        Trie.build(np.array(items)).barring(range(len(items)))
    assert error.value.rule and error.value.fix


@given(catalogues(), st.integers(0, 29), st.integers(0, 29))
@settings(deadline=None, max_examples=100)
def test_twins_are_refused_by_their_rows(items: list[Item], twin: int, place: int) -> None:
    twin, rows = twin % len(items), list(items)
    place = max(twin + 1, place % (len(items) + 1))
    rows.insert(place, items[twin])
    said = f"1 of {len(rows)} items have the tokens of an item before them: rows {twin} and {place},"
    with pytest.raises(DataError) as error:
        Trie.build(np.array(rows))
    assert error.value.message.startswith(said) and str(items[twin]) in error.value.message


def test_all_twins_are_counted_and_the_first_pair_named() -> None:
    codes = np.array([[9, 9], [5, 1], [2, 2], [5, 1], [2, 2], [2, 2]])
    with pytest.raises(DataError, match=r"3 of 6 items .* rows 1 and 3, both \(5, 1\)"):
        Trie.build(codes)


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (np.zeros((0, 3), int), r"shape \(0, 3\): an empty trie"),
        (np.zeros((3, 0), int), r"shape \(3, 0\): an empty trie"),
        (np.zeros(3, int), r"shape \(3,\)"),
        (np.zeros((2, 2)), "type float64"),
        (np.array([[1, 2], [3, -4]]), r"item 1 has the tokens \(3, -4\)"),
        (np.array([[1, 2**31]]), r"item 0 has the tokens \(1, 2147483648\)"),
    ],
)
def test_codes_that_are_none_are_refused(codes: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        Trie.build(codes)
    assert error.value.rule and error.value.fix


@pytest.mark.parametrize("rows", [[-1], [0, 4]])
def test_rows_that_are_not_there_cannot_be_barred(rows: list[int]) -> None:
    with pytest.raises(IndexError, match="of items 0 to 3"):
        Trie.build(np.arange(8).reshape(4, 2)).barring(rows)


def test_answers_cannot_be_written_to_and_the_codes_are_left_alone() -> None:
    codes = np.array([[4, 1], [3, 2]])
    trie = Trie.build(codes)
    with pytest.raises(ValueError, match="read-only"):
        trie.children(())[0] = 9
    codes[:] = 0
    assert trie.item((4, 1)) == 0


def test_barring_copies_no_part_of_the_trie() -> None:
    codes = np.stack([*np.unravel_index(np.arange(2**18), (512, 512)), np.zeros(2**18, int)], 1)
    trie = Trie.build(codes)
    trie.barring([7])
    tracemalloc.start()
    try:
        barred = trie.barring(range(100, 200))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000 < codes[:, 0].nbytes / 2  # 0.03 MB; one array of its level is 1 MB, as int64 2 MB
    assert len(barred) == 2**18 - 100
