"""Train a SentencePiece BPE model on the target-script words of a text.

SentencePiece sees words with their counts, not sentences: that is equivalent for BPE (no piece crosses a
space), makes training independent of the length of the text, and no line is too long to be read
(`max_sentence_length` silently drops lines over 4,192 bytes).
"""

from __future__ import annotations

import heapq
import io
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import regex

from fastvocab.errors import DataError
from fastvocab.tokenizer.base import parse_proto
from fastvocab.tokenizer.bpe import META_SPACE
from fastvocab.tokenizer.guard import Guard
from fastvocab.unicode import UNSPACED

#: Separates the parts of a word that no piece may cross. A control character that cleaned text never holds.
_CUT = "\x1f"
_FORBIDDEN = {_CUT, "\x00", META_SPACE}

#: A word with its space: letters, marks, joiners and inner apostrophes; or a run of anything else.
_PARTS = regex.compile(r" ?\p{L}(?:[\p{L}\p{M}\u200c\u200d]|['’](?=\p{L}))*| ?[^\s\p{L}]+|\s+")

#: Longest piece in characters, with its space: whole words where spaces tell them apart, a word or two where
#: nothing does, two or three ideographs or a few kana.
_LONGEST, _LONGEST_UNSPACED, _LONGEST_IDEOGRAPHIC = 24, 14, 6
_IDEOGRAPHIC = frozenset({"Hani", "Hira", "Kana"})

#: SentencePiece works on words up to this many characters; longer runs (unspaced scripts) are fed in parts.
_LONGEST_WORD = 500
_CHUNK = 1 << 16

Cut = Callable[[str], list[str]]


@dataclass(frozen=True)
class Trained:
    """What training gave.

    Attributes:
        path: the SentencePiece model file.
        pieces: pieces of two or more characters in the order in which they were learnt, ``▁`` for a space.
        chars: non-ASCII target characters with their counts, most frequent first.
        asked: how many pieces were asked for.
        documents: documents seen; words: distinct words trained on; bytes: size of the sample, UTF-8.
        seconds: wall time.
    """

    path: Path
    pieces: list[str]
    chars: Counter[str]
    asked: int
    documents: int
    words: int
    bytes: int
    seconds: float


def sample(documents: Iterable[str], max_bytes: int, seed: int) -> tuple[list[str], int]:
    """At most ``max_bytes`` (UTF-8) of the documents, drawn evenly in one pass, and how many there were.

    Each document draws a random key and the smallest keys stay, so memory is bounded by ``max_bytes``
    whatever the size of the corpus. Documents are drawn in chunks of 64 k characters, cut at a space.
    """
    draw = random.Random(seed)
    heap: list[tuple[float, int, str, int]] = []
    total = count = order = 0
    for document in documents:
        count += 1
        for chunk in _chunks(document):
            order += 1
            size = len(chunk.encode("utf-8", "replace"))
            heapq.heappush(heap, (-draw.random(), order, chunk, size))
            total += size
            while total > max_bytes and len(heap) > 1:
                total -= heapq.heappop(heap)[3]
    return [chunk for _, _, chunk, _ in sorted(heap, key=lambda item: item[1])], count


def _chunks(document: str) -> Iterator[str]:
    while len(document) > _CHUNK:
        cut = document.rfind(" ", _CHUNK // 2, _CHUNK)
        cut = cut if cut > 0 else _CHUNK
        yield document[:cut]
        document = document[cut:]
    yield document


def count_words(texts: Iterable[str], guard: Guard) -> Counter[str]:
    """Words between spaces that hold target-script characters, with their counts."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.split())
    words: Counter[str] = Counter()
    for word, number in counts.items():
        if guard.has_target(word) and not _FORBIDDEN & set(word):
            for start in range(0, len(word), _LONGEST_WORD):
                words[word[start : start + _LONGEST_WORD]] += number
    return words


def train_sentencepiece(
    documents: Iterable[str],
    out: Path,
    *,
    pieces: int,
    scripts: frozenset[str],
    seed: int = 0,
    threads: int = 2,
    max_bytes: int = 20_000_000,
    cut: Cut | None = None,
) -> Trained:
    """Train SentencePiece BPE on the target-script words of ``documents`` and write the model to ``out``.

    Identity normaliser, no byte fallback (the base has its own), every character of the sample kept down to
    one in 100,000.

    Args:
        documents: the text, read once.
        out: file to write, such as ``sentencepiece.model``.
        pieces: pieces of two or more characters wanted; fewer are given if the text holds fewer.
        scripts: ISO 15924 codes of the target scripts.
        seed: draws the sample.
        threads: threads of the trainer.
        max_bytes: size of the sample in UTF-8 bytes; memory stays within a few times this.
        cut: splits a word (with its leading space) where no piece can go across, such as the base's own
            pre-tokenizer; by default letters apart from the rest.

    Raises:
        DataError: if the text has no words in the target scripts, or too few to learn a single piece.
    """
    import sentencepiece

    start = time.perf_counter()
    texts, seen = sample(documents, max_bytes, seed)
    size = sum(len(text.encode("utf-8", "replace")) for text in texts)
    guard = Guard(scripts)
    words = count_words(texts, guard)
    del texts
    names = ", ".join(sorted(scripts)) or "none"
    if not words:
        raise DataError(
            f"the training text has no words to learn from: {seen:,} documents, {size:,} bytes, "
            f"0 words with non-ASCII characters of the target scripts ({names})",
            rule="new tokens are learnt from words in the target script; ASCII text is left as it is",
            fix="check that the corpus is in the language meant, or set its language or script",
        )
    chars = Counter[str]()
    for word, number in words.items():
        for char in word:
            if guard.is_target(char):
                chars[char] += number
    alphabet = len({char for word in words for char in word})
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(words, cut or _PARTS.findall),
            model_writer=model,
            input_format="tsv",
            model_type="bpe",
            # unknown token, space and the alphabet come on top of the pieces
            vocab_size=pieces + alphabet + 2,
            hard_vocab_limit=False,
            character_coverage=0.99999,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            pretokenization_delimiter=_CUT,
            split_by_unicode_script=False,  # the cuts above are finer: об’єкт and کتاب‌ها stay whole
            max_sentencepiece_length=_longest(scripts),
            max_sentence_length=1 << 20,
            bos_id=-1,
            eos_id=-1,
            num_threads=threads,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise DataError(
            f"SentencePiece could not train on {len(words):,} distinct words ({names}): {error}",
            rule="a vocabulary needs text that supports it",
            fix="give more text, or ask for fewer new tokens",
        ) from error
    out.write_bytes(model.getvalue())
    proto = parse_proto(model.getvalue())
    learnt = [piece.piece for piece in proto.pieces if piece.type == 1 and len(piece.piece) > 1]
    if not any(guard.has_target(piece) for piece in learnt):
        raise DataError(
            f"the training text supports no new pieces: {len(words):,} distinct words ({names}) in "
            f"{size:,} bytes, {pieces:,} pieces asked for",
            rule="a piece is learnt where two neighbours occur together more than once",
            fix="give more text, or ask for fewer new tokens",
        )
    seconds = time.perf_counter() - start
    ordered = Counter(dict(chars.most_common()))
    return Trained(out, learnt[:pieces], ordered, pieces, seen, len(words), size, round(seconds, 2))


def _longest(scripts: frozenset[str]) -> int:
    if scripts & _IDEOGRAPHIC and not scripts - UNSPACED:
        return _LONGEST_IDEOGRAPHIC
    return _LONGEST_UNSPACED if scripts & UNSPACED else _LONGEST


def _lines(words: Counter[str], cut: Cut) -> Iterator[str]:
    """``word TAB count`` with the cuts marked; SentencePiece itself puts ``▁`` in front of each word."""
    for word, number in sorted(words.items()):
        parts = cut(" " + word)
        parts[0] = parts[0].removeprefix(" ")
        yield f"{_CUT.join(parts)}\t{number}"
