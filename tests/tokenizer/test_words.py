"""The sample that tokens are learnt from: bounded, even, repeatable, and nothing in it counted twice or lost."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastvocab.errors import DataError
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.words import count_target_words, default_cut, draw, sample
from tests.conftest import UKRAINIAN

CYRILLIC = frozenset({"Cyrl"})


@pytest.mark.parametrize("text", ["", "only English words here", "12 34"])
def test_a_text_without_the_target_script_is_an_error_with_figures(text: str) -> None:
    with pytest.raises(DataError, match="0 words") as error:
        draw([text], scripts=CYRILLIC, max_bytes=1000, seed=0)
    assert "Cyrl" in str(error.value)


def test_the_sample_is_bounded_even_and_repeatable() -> None:
    documents = [f"{number} " + "х" * 500 for number in range(4000)]  # 4 MB
    first, seen, total = sample(documents, 200_000, seed=3)
    assert total == sum(len(text.encode()) for text in documents)
    assert first == sample(iter(documents), 200_000, seed=3)[0] != sample(documents, 200_000, seed=4)[0]
    assert seen == 4000
    assert 190_000 < sum(len(text.encode()) for text in first) <= 200_000
    numbers = [int(text.split()[0]) for text in first]
    assert numbers == sorted(numbers)
    assert sum(number < 2000 for number in numbers) == pytest.approx(len(numbers) / 2, rel=0.25)


def test_sampling_takes_memory_by_the_sample_not_by_the_corpus() -> None:
    tracemalloc.start()
    sample(("слово " * 20_000 for _ in range(200)), 500_000, seed=0)  # 44 MB streamed
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


def test_words_are_counted_with_their_spaces_and_others_apart() -> None:
    words = draw(["слово і слово", "слово two words"], scripts=CYRILLIC, max_bytes=1000, seed=0)
    assert words.counts == Counter({"слово": 2, " слово": 1, " і": 1})
    assert words.others == Counter({" two": 1, " words": 1})
    assert words.chars["о"] == 6 and words.units(words.counts) == 4 and words.documents == 2
    assert words.bytes == words.total_bytes == len("слово і словослово two words".encode())


@pytest.mark.parametrize(
    ("script", "text", "units"), [("Cyrl", "мова і слово", 3), ("Thai", "ภาษาไทย ไทย", 10)]
)
def test_units_are_words_or_characters_where_no_spaces_tell_words(script: str, text: str, units: int) -> None:
    words = draw([text], scripts=frozenset({script}), max_bytes=1000, seed=0)
    assert words.unit == ("word" if script == "Cyrl" else "character")
    assert words.units(words.counts) == units


def test_the_chunks_of_a_long_document_hold_all_of_its_words() -> None:
    line = " ".join(UKRAINIAN) + " "
    document = line * 400  # several chunks of 64 k characters
    counts = draw([document], scripts=CYRILLIC, max_bytes=1 << 24, seed=0).counts
    again = Counter(word for word in document.split() if Guard(CYRILLIC).has_target(word))
    spaceless = Counter[str]()
    for word, number in counts.items():
        spaceless[word.strip()] += number
    assert spaceless == again


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(st.text(st.sampled_from("абв’\u0301 \u200dxy1.\n▁\x00"), max_size=40), max_size=4))
def test_target_words_and_others_are_all_words_once(texts: list[str]) -> None:
    found = count_target_words(texts, Guard(CYRILLIC))
    expected = Counter(
        word
        for text in texts
        for word in text.split()
        if set(word) & set("абв") and not set(word) & set("▁\x00")
    )
    total = Counter[str]()
    for word, number in found.items():
        assert word.count(" ") == word.startswith(" ")
        total[word.strip(" ")] += number
    assert total == expected


@settings(max_examples=200, deadline=None)
@given(word=st.text(max_size=30))
def test_the_default_cut_loses_nothing(word: str) -> None:
    assert "".join(default_cut(word)) == word


@pytest.mark.parametrize(
    "word", [" об’єкт", " किताब", " می\u200cخواهم", "ශ්\u200dරී", " བོད་", " ខ្មែរ", " שָׁלוֹם", " അവന്\u200d"]
)
def test_the_default_cut_leaves_words_whole(word: str) -> None:
    assert default_cut(word) == [word]
    assert default_cut(f"{word}, 12!") == [word, ",", " 12!"]
