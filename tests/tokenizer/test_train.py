"""SentencePiece on counted words: the pieces of the library itself, whatever the length of the lines."""

from __future__ import annotations

from pathlib import Path

import pytest
import sentencepiece

from fastvocab.errors import DataError
from fastvocab.tokenizer.train import fresh, train_sentencepiece
from tests.conftest import sentences
from tests.tokenizer.conftest import letters, made_up, words_of


def plain(lines: list[str], folder: Path, **options: object) -> sentencepiece.SentencePieceProcessor:
    """The library on the lines themselves."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(folder / "plain"),
        model_type="bpe",
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
        **options,
    )
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "plain.model"))


def test_pieces_are_those_of_plain_sentencepiece_in_its_order(tmp_path: Path) -> None:
    # a space first, so that no word is there in two forms, as with the library's dummy prefix
    lines = [line.strip(".") for line in made_up("абвгдежз")]
    words = words_of([f" {line}" for line in lines])
    ours = train_sentencepiece(words, tmp_path / "ours.model", pieces=200)
    other = plain(
        lines,
        tmp_path,
        vocab_size=200 + len(words.chars) + 2,
        normalization_rule_name="identity",
        max_sentencepiece_length=24,
    )
    learnt = [other.id_to_piece(i).replace("▁", " ") for i in range(other.get_piece_size())]
    assert ours == [piece for piece in learnt if len(piece) > 1 and piece != "<unk>"]


def test_the_yardstick_is_plain_sentencepiece_with_byte_fallback(tmp_path: Path) -> None:
    lines = [line.strip(".") for line in made_up("абвгдежз")]
    ours = fresh(words_of(lines), 150)
    other = plain(lines, tmp_path, vocab_size=150 + 257, byte_fallback=True)
    pieces = [{m.id_to_piece(i) for i in range(m.get_piece_size())} for m in (ours, other)]
    assert len(pieces[0]) == len(pieces[1]) == 150 + 257
    assert len(pieces[0] ^ pieces[1]) <= 4  # ties at the end
    counts = [sum(len(m.encode(line)) for line in lines[-40:]) for m in (ours, other)]
    assert counts[0] == pytest.approx(counts[1], rel=0.002)


def test_a_line_of_any_length_is_read(tmp_path: Path) -> None:
    line = " ".join(sentences(400))  # far beyond SentencePiece's 4,192 bytes
    assert len(line.encode()) > 50_000
    long = train_sentencepiece(words_of([f" {line}"]), tmp_path / "a.model", pieces=100)
    short = train_sentencepiece(
        words_of([f" {line}" for line in sentences(400)]), tmp_path / "b.model", pieces=100
    )
    assert long == short


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_asking_for_more_than_the_text_supports_gives_what_there_is(algorithm: str, tmp_path: Path) -> None:
    words = words_of(["слово словом слова"] * 3)
    learnt = train_sentencepiece(words, tmp_path / "m", pieces=5000, algorithm=algorithm)  # type: ignore[arg-type]
    assert 0 < len(learnt) < 50


def test_a_text_that_supports_no_piece_is_an_error_with_figures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="distinct words"):
        train_sentencepiece(words_of(["я"]), tmp_path / "m", pieces=100)


def test_unspaced_text_gives_pieces_of_a_word_or_two(tmp_path: Path) -> None:
    lines = made_up(letters(0xE01, 0xE2E), space="")
    words = words_of(lines, "Thai")
    lengths = [len(piece) for piece in train_sentencepiece(words, tmp_path / "m", pieces=3000)]
    assert 3 < max(lengths) <= words.longest == 14


def test_no_piece_crosses_a_cut(tmp_path: Path) -> None:
    learnt = train_sentencepiece(
        words_of(["обід обід обід"]),
        tmp_path / "m",
        pieces=50,
        cut=lambda word: word.replace("об", "об|").split("|"),
    )
    assert " об" in learnt and "ід" in learnt
    assert not any("бі" in piece for piece in learnt)
