"""What is shown of two tokenizers: a sentence in pieces that are the sentence, and the most frequent new tokens."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from fastvocab.tokenizer.shown import pieces, shown
from tests.conftest import sentences

#: Marks, no spaces, right-to-left, Hangul, emoji of several code points, runs of spaces, Latin between them.
TEXTS = [
    "Київ — столиця України.",
    "नई दिल्ली भारत की राजधानी है",
    "กรุงเทพมหานครเป็นเมืองหลวง",
    "القاهرة (Cairo) هي عاصمة مصر",
    "서울은 한국의 수도입니다",
    "日本の首都は東京です。",
    "e\N{COMBINING ACUTE ACCENT}\N{COMBINING DOT BELOW} \N{WOMAN}\u200d\N{WOMAN}\u200d\N{GIRL}  two  spaces ",
]


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    """Bytes alone, so that most characters are several tokens, and a merge across the border of two letters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # the last byte of и (D0 B8) with the first of ї (D1 97)
    merges = [("¸", "Ñ")]
    vocab = {token: i for i, token in enumerate([*alphabet, "¸Ñ"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@pytest.fixture(scope="module")
def sentencepiece() -> Tokenizer:
    """As Llama 2 and Mistral have it: spaces are letters, one is put in front, what is lacking is bytes."""
    letters = [*"▁abcdeioutwsnКиївнст", "▁t", "▁tw"]
    vocab = {
        token: i for i, token in enumerate(["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters])
    }
    merges = [("▁", "t"), ("▁t", "w")]
    model = models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    """Each Ukrainian word of the samples as one token, with the space before it; the rest is bytes."""
    tokenizer = Tokenizer(models.BPE(vocab={}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(sentences(60), trainer)
    return tokenizer


def check(tokenizer: Tokenizer, text: str) -> None:
    found = pieces(tokenizer, text)
    assert "".join(piece for piece, _ in found) == text
    assert sum(tokens for _, tokens in found) == len(tokenizer.encode(text, add_special_tokens=False).ids)
    assert all(piece and tokens > 0 for piece, tokens in found)


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece", "words"])
def test_pieces_are_the_text_and_count_its_tokens(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(kind)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=40))
    def of_any(text: str) -> None:
        if tokenizer.encode(text, add_special_tokens=False).ids:
            check(tokenizer, text)

    for text in TEXTS:
        check(tokenizer, text)
    of_any()


def test_bytes_of_a_letter_are_one_piece(byte_level: Tokenizer) -> None:
    assert pieces(byte_level, "aж字") == [("a", 1), ("ж", 2), ("字", 3)]
    # и and ї are four bytes in three tokens, the middle one a part of both
    assert pieces(byte_level, "иїж") == [("иї", 3), ("ж", 2)]
    assert pieces(byte_level, "") == []


def test_normalised_text_is_shown_as_it_was_written(words: Tokenizer) -> None:
    changed = Tokenizer.from_str(words.to_str())
    changed.normalizer = normalizers.NFC()
    check(changed, "е\N{COMBINING BREVE}жа\N{COMBINING ACUTE ACCENT} мова")


def test_the_sentence_has_the_average_gain_and_frequencies_are_counts(
    byte_level: Tokenizer, words: Tokenizer
) -> None:
    lines = sentences(30)
    new = {i: words.decode([i]) for i in range(300, words.get_vocab_size())}
    found = shown(byte_level, words, lines, new)
    text = found["sentence"]["text"]
    assert text in " ".join(lines) and 60 <= len(text) <= 140
    check(byte_level, text)
    counts = Counter(i for line in lines for i in words.encode(line).ids if i in new)
    best = counts.most_common(1)[0][1]
    assert [often for _, often in found["frequent"]] == sorted(
        (n for _, n in found["frequent"]), reverse=True
    )
    assert found["frequent"][0][1] == best and len(found["frequent"]) == 30
    gains = [
        len(words.encode(part).ids) / len(byte_level.encode(part).ids)
        for line in lines
        for part in (line[:140], line)
    ]
    ours = len(words.encode(text).ids) / len(byte_level.encode(text).ids)
    assert min(gains) < ours < max(gains)


def test_text_without_sentences_of_medium_length_has_an_opening(
    byte_level: Tokenizer, words: Tokenizer
) -> None:
    found = shown(byte_level, words, ["слово " * 200], {})
    assert found["frequent"] == [] and 60 <= len(found["sentence"]["text"]) <= 140
    assert shown(byte_level, words, ["Так."], {})["sentence"]["text"] == "Так."
    assert shown(byte_level, words, [], {})["sentence"] is None
