from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import sentencepiece

from fastvocab.errors import DataError
from fastvocab.tokenizer.train import sample, train_sentencepiece
from tests.conftest import sentences
from tests.tokenizer.conftest import letters, made_up

CYRILLIC = frozenset({"Cyrl"})


def test_pieces_are_those_of_plain_sentencepiece(tmp_path: Path) -> None:
    lines = [line.strip(".") for line in made_up("абвгдежз")]
    ours = train_sentencepiece(lines, tmp_path / "ours.model", pieces=200, scripts=CYRILLIC)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(tmp_path / "plain"),
        vocab_size=200 + len(ours.chars) + 2,
        model_type="bpe",
        normalization_rule_name="identity",
        max_sentencepiece_length=24,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    plain = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "plain.model"))
    learnt = [plain.id_to_piece(i) for i in range(plain.get_piece_size())]
    assert set(ours.pieces) == {piece for piece in learnt if len(piece) > 1 and piece != "<unk>"}


def test_a_line_of_any_length_is_read(tmp_path: Path) -> None:
    line = " ".join(sentences(400))  # far beyond SentencePiece's 4,192 bytes
    assert len(line.encode()) > 50_000
    long = train_sentencepiece([line], tmp_path / "a.model", pieces=100, scripts=CYRILLIC)
    short = train_sentencepiece(sentences(400), tmp_path / "b.model", pieces=100, scripts=CYRILLIC)
    assert long.pieces == short.pieces


def test_asking_for_more_than_the_text_supports_gives_what_there_is(tmp_path: Path) -> None:
    trained = train_sentencepiece(["слово словом слова"] * 3, tmp_path / "m", pieces=5000, scripts=CYRILLIC)
    assert 0 < len(trained.pieces) < 50
    assert trained.asked == 5000


@pytest.mark.parametrize("text", ["", "only English words here", "12 34"])
def test_a_text_without_the_target_script_is_an_error_with_figures(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="0 words") as error:
        train_sentencepiece([text], tmp_path / "m", pieces=100, scripts=CYRILLIC)
    assert "Cyrl" in str(error.value)


def test_unspaced_text_gives_pieces_of_a_word_or_two(tmp_path: Path) -> None:
    lines = ["".join(line) for line in made_up(letters(0xE01, 0xE2E), space="")] * 3
    trained = train_sentencepiece(lines, tmp_path / "m", pieces=3000, scripts=frozenset({"Thai"}))
    assert max(map(len, trained.pieces)) <= 14
    assert max(map(len, trained.pieces)) > 3


def test_no_piece_crosses_a_cut(tmp_path: Path) -> None:
    trained = train_sentencepiece(
        ["обід обід обід"],
        tmp_path / "m",
        pieces=50,
        scripts=CYRILLIC,
        cut=lambda word: [word[:3], word[3:]],
    )
    assert "▁об" in trained.pieces and "ід" in trained.pieces
    assert not any("бі" in piece for piece in trained.pieces)


def test_the_sample_is_bounded_even_and_repeatable() -> None:
    documents = [f"{number} " + "х" * 500 for number in range(4000)]  # 4 MB
    first, seen = sample(documents, 200_000, seed=3)
    again, _ = sample(iter(documents), 200_000, seed=3)
    other, _ = sample(documents, 200_000, seed=4)
    assert first == again and first != other and seen == 4000
    assert 190_000 < sum(len(text.encode()) for text in first) <= 200_000
    numbers = [int(text.split()[0]) for text in first]
    assert sum(number < 2000 for number in numbers) == pytest.approx(len(numbers) / 2, rel=0.25)


def test_sampling_takes_memory_by_the_sample_not_by_the_corpus() -> None:
    tracemalloc.start()
    sample(("слово " * 20_000 for _ in range(200)), 500_000, seed=0)  # 44 MB streamed
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000
