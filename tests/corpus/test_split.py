"""The split is a property of each text: other data, order and files change nothing."""

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastvocab.corpus.split import ENOUGH, Positions, check_share, held_out, key
from fastvocab.errors import ConfigError

CORPUS = [f"Речення номер {n}." for n in range(20_000)]


def positions(documents: list[str]) -> Positions:
    found = Positions()
    for text in documents:
        found.add(key(text.encode()))
    return found


def split(documents: list[str], share: float = 0.02) -> set[str]:
    share = positions(documents).widened(share)
    return {text for text in documents if held_out(text, share)}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=20)), st.floats(0, 0.5))
def test_held_out_is_what_sha256_says(texts: list[str], share: float) -> None:
    for text in texts:
        number = int(hashlib.sha256(text.encode()).hexdigest()[:16], 16)
        assert held_out(text, share) == (number / 2**64 < share)


def test_the_share_held_out_is_the_share_asked_for() -> None:
    for share in (0.02, 0.1, 0.5):
        count = sum(held_out(text, share) for text in CORPUS)
        deviation = (len(CORPUS) * share * (1 - share)) ** 0.5
        assert abs(count - len(CORPUS) * share) < 4 * deviation


@settings(max_examples=25, deadline=None)
@given(st.integers(800, 2000), st.integers(0, 4000), st.randoms(use_true_random=False))
def test_more_data_moves_no_document_across_the_split(size: int, more: int, chance: random.Random) -> None:
    first = CORPUS[:size]
    later = CORPUS[: size + more]
    chance.shuffle(later)
    assert split(later) & set(first) == split(first)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(max_size=8), unique=True, min_size=6, max_size=80),
    st.sets(st.text(max_size=8), max_size=300),
    st.floats(0.005, 0.5),
)
def test_in_small_corpora_too_nothing_trained_on_is_ever_held_out_later(
    first: list[str], more: set[str], share: float
) -> None:
    held = split(first, share)
    if held:  # else nothing could be split
        assert split([*first, *(more - set(first))], share) & set(first) <= held


@pytest.mark.parametrize("size", [10, 30, 100, 300, 2000])
def test_small_corpora_have_something_held_out(size: int) -> None:
    counts = []
    for start in range(0, 10_000, 500):
        held = split(CORPUS[start : start + size])
        counts.append(len(held))
    assert min(counts) >= 1
    assert max(counts) < size * 0.8
    if size >= 100:
        assert min(counts) >= ENOUGH


@settings(deadline=None)
@given(st.lists(st.text(max_size=5), unique=True), st.floats(0, 0.5))
def test_something_stays_for_training_or_nothing_is_split(texts: list[str], share: float) -> None:
    held = split(texts, share)
    assert len(held) < len(texts) or not texts
    assert not (share == 0 and held)


def test_a_single_document_is_trained_on() -> None:
    assert all(split([text]) == set() for text in CORPUS[:50])


@pytest.mark.parametrize("share", [-0.1, 0.51, 2, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"0 .*to 0\.5"):
        check_share(share)
