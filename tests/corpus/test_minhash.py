"""Near-duplicates: what the signatures estimate, against exact Jaccard indices by brute force, in many scripts."""

import random
import tracemalloc
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from fastvocab.corpus import minhash
from fastvocab.corpus.clean import Cleaner, clean_text
from fastvocab.corpus.minhash import HASHES, Near, Signer, equal, pieces, rows_of_a_band
from fastvocab.errors import ConfigError
from tests.texts import lines

LANGUAGES = ("uk", "vi", "he", "fa", "hi", "th", "km", "zh_Hans", "ja", "ko")
sign = Signer()


@cache
def exactly(text: str) -> frozenset[bytes]:
    return frozenset(pieces(text))


def jaccard(one: str, other: str) -> float:
    a, b = exactly(one), exactly(other)
    common = len(a & b)
    return common / (len(a) + len(b) - common)


def perturbed(language: str, seed: int, families: int, copies: int) -> list[str]:
    """Documents of ten lines, and copies of them in which more and more lines are others; shuffled."""
    chance, text = random.Random(seed), lines(language)
    documents = []
    for _ in range(families):
        first = chance.sample(text, 10)
        documents.append(first)
        for changed in range(copies):
            places = chance.sample(range(10), changed)
            documents.append([chance.choice(text) if n in places else line for n, line in enumerate(first)])
    chance.shuffle(documents)
    return [clean_text("\n".join(document)) for document in documents]


@pytest.mark.parametrize("language", LANGUAGES)
def test_signatures_estimate_the_jaccard_index(language: str) -> None:
    documents = perturbed(language, 1, 12, 7)
    chance = random.Random(2)
    pairs = [*pairwise(documents), *(chance.sample(documents, 2) for _ in range(200))]
    signatures = {document: sign(document) for document in documents}
    errors = [equal(signatures[a], signatures[b]) / HASHES - jaccard(a, b) for a, b in pairs]
    # the standard error is at most 0.044, at an index of one half; the mean of hundreds is far below it
    assert max(map(abs, errors)) < 5 * 0.0442
    assert abs(sum(errors) / len(errors)) < 0.01


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9])
@pytest.mark.parametrize("language", LANGUAGES[::3])
def test_what_is_dropped_is_what_brute_force_finds(language: str, threshold: float) -> None:
    near, kept, right, near_the_line = Near(threshold), list[str](), 0, 0
    documents = perturbed(language, 3, 25, 8)
    for document in documents:
        closest = max((jaccard(document, other) for other in kept), default=0.0)
        stays = near.add(sign(document))
        right += stays == (closest < threshold)
        near_the_line += abs(closest - threshold) < 0.1
        # three standard errors away from the threshold there is no doubt left
        assert closest < threshold + 0.11 or not stays
        assert closest > threshold - 0.11 or stays
        if stays:
            kept.append(document)
    assert near_the_line > 10 and 25 <= len(kept) < len(documents)
    assert right > 0.93 * len(documents)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=12),
    st.integers(50, 100),
)
def test_any_text_at_all(texts: list[str], percent: int) -> None:
    near, kept = Near(percent / 100), list[str]()
    for text in texts:
        if near.add(sign(text)):
            kept.append(text)
        assert not near.add(sign(text))  # a second time, nothing stays
    sets = [frozenset(pieces(text)) for text in kept]
    assert len(set(sets)) == len(sets)


def test_a_signature_is_the_written_minimum_in_whole_numbers() -> None:
    text = "\n".join(lines("uk")[:60])
    step = sign._minima.__self__
    (a,), (b,) = (row.tolist() for row in step.parameters)
    hashed = [xxhash.xxh3_64_intdigest(piece) for piece in pieces(text)]
    assert len(hashed) > 2 * minhash._CHUNK
    prime = (1 << 61) - 1
    minima = [min((h * x + y) % (1 << 64) % prime for h in hashed) % (1 << 16) for x, y in zip(a, b)]
    assert np.frombuffer(sign(text), "<u2").tolist() == minima


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Їжак і їжачок живуть тут.", "ЇЖАК — і їжачок\nживуть тут!", True),
        ("ภาษาไทยเขียนโดยไม่เว้นวรรค", "ภาษาไทย\u200bเขียน\u200bโดย\u200bไม่\u200bเว้นวรรค", True),
        ("中文书写不使用空格，句子之间用句号。", "中文书写不使用空格句子\n之间用句号", True),
        ("한국어 문장은 띄어쓰기가 있다", "한국어문장은띄어쓰기가 있다", True),
        ("می‌خواهم کتاب‌هایم را بخوانم", "می خواهم کتاب هایم را بخوانم", True),
        ("កម្ពុជា ជា ប្រទេស", "កម្ពុជា​ជា​ប្រទេស", True),
        ("मिल मील मेल मोल", "मल मल मल मल", False),  # vowel signs are spelling
        ("ที่ ที ทา ทอ", "ท ท ท ท", False),
        ("한국어 문장", "하구어 무자", False),
        ("версія 12 від 2024", "версія 13 від 2025", False),
    ],
)
def test_case_spaces_and_punctuation_do_not_count_but_spelling_does(one: str, other: str, same: bool) -> None:
    assert (sign(clean_text(one)) == sign(clean_text(other))) == same


def test_the_first_stays_and_a_chain_loses_only_what_is_like_something_that_stays() -> None:
    text = [line for line in lines("uk") if 60 < len(line) < 80][::5]
    chain = ["\n".join(text[start : start + 16]) for start in range(0, 9, 3)]
    assert jaccard(chain[0], chain[1]) > 0.66 > 0.55 > jaccard(chain[0], chain[2])
    cleaner = Cleaner(near_duplicates=0.6)
    assert [cleaner(document).reason for document in chain] == [None, "near_duplicate", None]
    assert cleaner(chain[1]).reason == "duplicate"  # of a text that was dropped: still the same text
    assert cleaner.dropped == {"near_duplicate": 1, "duplicate": 1}
    backwards = Cleaner(near_duplicates=0.6)
    assert [backwards(document).reason for document in chain[::-1]] == [None, "near_duplicate", None]


def test_without_the_option_only_equal_texts_go() -> None:
    cleaner = Cleaner()
    assert cleaner("Їжак і їжачок живуть тут.").reason is None
    assert cleaner("Їжак і їжачок живуть тут!").reason is None


@pytest.mark.parametrize("threshold", [0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_bands_find_what_is_as_similar_as_the_threshold(threshold: float) -> None:
    rows = rows_of_a_band(threshold)
    bands = HASHES // rows
    chance = np.random.default_rng(0)
    agree = chance.random((4000, bands, rows)) < threshold  # each hash by itself agrees so often
    assert agree.all(axis=2).any(axis=1).mean() > 0.985
    more = 1 - (1 - threshold ** (rows + 1)) ** (HASHES // (rows + 1))
    assert threshold == 1 or more < 0.99, "one more row would do, with fewer false alarms"


def test_a_band_in_which_thousands_meet_is_remembered_of_a_hundred() -> None:
    # pages of one template: the first half of every signature is the same, the second is each one's own
    near, chance = Near(0.8), random.Random(4)
    template = chance.randbytes(HASHES)
    pages = [template + chance.randbytes(HASHES) for _ in range(1500)]
    assert all(near.add(page) for page in pages)
    assert not any(near.add(page) for page in pages[:50])
    assert near._table is not None
    crowds = near._table.execute("SELECT COUNT(*) FROM band GROUP BY key ORDER BY 1 DESC").fetchall()
    assert crowds[0] == (minhash._CROWD,) and len(crowds) > 1500


def test_the_memory_of_one_document_is_bounded() -> None:
    text = "".join(random.Random(5).choices("абвгґдеєжзиіїйклмнопрстуфхцчшщьюя", k=1_000_000))
    tracemalloc.start()
    sign(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6  # the matrix of all its hashes would be 1,024 MB


@pytest.mark.parametrize("wrong", [0.0, 0.49, 1.01, -1.0, float("nan")])
def test_no_threshold_is_a_config_error(wrong: float) -> None:
    with pytest.raises(ConfigError, match=r"near_duplicates is .*\n.*0\.5"):
        Cleaner(near_duplicates=wrong)
