"""Find new tokens by training SentencePiece, BPE or unigram, on the words of the target script."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fastvocab.errors import DataError
from fastvocab.tokenizer.base import parse_proto
from fastvocab.tokenizer.bpe import META_SPACE
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.words import CUT, Cut, Words, default_cut

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

Algorithm = Literal["bpe", "unigram"]

_NORMAL = 1  # ModelProto.SentencePiece.Type.NORMAL


def train_sentencepiece(
    words: Words,
    out: Path,
    *,
    pieces: int,
    algorithm: Algorithm = "bpe",
    threads: int = 2,
    cut: Cut | None = None,
) -> list[str]:
    """Train SentencePiece on ``words`` and write the model to ``out``.

    Identity normaliser, no byte fallback (the base has its own), every character of the sample kept down to
    one in 100,000.

    Args:
        words: the sample.
        out: file to write, such as ``sentencepiece.model``.
        pieces: pieces of two or more characters wanted; fewer are given if the text holds fewer.
        algorithm: bpe gives pieces in the order learnt, unigram by probability.
        threads: threads of the trainer.
        cut: splits a word (with its leading space) where no piece can go across, such as the base's own
            pre-tokenizer; by default letters apart from the rest.

    Returns:
        texts of the pieces (a space is a space), the most useful first.

    Raises:
        DataError: if the text supports not a single piece.
    """
    import sentencepiece

    names = ", ".join(sorted(words.scripts))
    alphabet = len({char for word in words.counts for char in word})
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(words.counts, cut or default_cut),
            model_writer=model,
            input_format="tsv",
            model_type=algorithm,
            # unknown token, space and the alphabet come on top of the pieces
            vocab_size=pieces + alphabet + 2,
            hard_vocab_limit=False,
            character_coverage=0.99999,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,  # words have their space, where there is one
            pretokenization_delimiter=CUT,
            split_by_unicode_script=False,  # the cuts above are finer: об’єкт and کتاب‌ها stay whole
            max_sentencepiece_length=words.longest,
            max_sentence_length=1 << 20,
            bos_id=-1,
            eos_id=-1,
            num_threads=threads,
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"SentencePiece could not train on {len(words.counts):,} distinct words ({names}): {error}",
            rule="a vocabulary needs text that supports it",
            fix="give more text, or ask for fewer new tokens",
        ) from error
    out.write_bytes(model.getvalue())
    proto = parse_proto(model.getvalue())
    learnt = [p for p in proto.pieces if p.type == _NORMAL and len(p.piece) > 1]
    learnt.sort(key=lambda p: -p.score)  # stable: BPE has them in this order already
    texts = [p.piece.replace(META_SPACE, " ") for p in learnt]
    guard = Guard(words.scripts)
    if not any(map(guard.has_target, texts)):
        raise DataError(
            f"the training text supports no new pieces: {len(words.counts):,} distinct words ({names}) in "
            f"{words.bytes:,} bytes, {pieces:,} pieces asked for",
            rule="a piece is learnt where two neighbours occur together more than once",
            fix="give more text, or ask for fewer new tokens",
        )
    return texts[:pieces]


def _lines(words: Counter[str], cut: Cut) -> Iterator[str]:
    """``word TAB count`` with the cuts marked."""
    for word, number in sorted(words.items()):
        yield f"{CUT.join(cut(word))}\t{number}"


def fresh(words: Words, size: int, threads: int = 2) -> SentencePieceProcessor:
    """A SentencePiece model of its own for this language, as one would train it without a base.

    The yardstick for an extension: BPE with the library's own settings (16 characters, split by script and
    number) and byte fallback, ``size`` pieces on top of the bytes and the unknown token.
    """
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    model = io.BytesIO()
    every: Counter[str] = Counter()
    for word, number in (words.counts + words.others).items():
        every[word.removeprefix(" ")] += number  # the library puts a space before every word
    alphabet = len({char for word in every for char in word})  # each is a piece, however few are asked for
    SentencePieceTrainer.train(
        sentence_iterator=(f"{word}\t{number}" for word, number in sorted(every.items())),
        model_writer=model,
        input_format="tsv",
        model_type="bpe",
        vocab_size=max(size, alphabet + 1) + 256 + 1,
        hard_vocab_limit=False,
        byte_fallback=True,
        max_sentence_length=1 << 20,
        bos_id=-1,
        eos_id=-1,
        num_threads=threads,
        minloglevel=2,
    )
    return SentencePieceProcessor(model_proto=model.getvalue())
