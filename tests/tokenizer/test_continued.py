"""Continued BPE: merges of the library's own trainer, begun where the base stopped."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
import sentencepiece
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from fastvocab.tokenizer.base import Base, Kind
from fastvocab.tokenizer.continued import continue_bpe
from fastvocab.tokenizer.grow import EXISTS
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.merge import assemble, cutter, grow
from fastvocab.tokenizer.spelling import count_parts, spell, token_bytes
from tests.conftest import sentences
from tests.tokenizer.conftest import letters, made_up, spelt_tokens, words_of

GEORGIAN, CYRILLIC = Guard(frozenset({"Geor"})), Guard(frozenset({"Cyrl"}))
BASES = ["gpt2_base", "qwen_base", "fallback_base", "mistral_base"]


def on_characters(words: Counter[str], *, pieces: int) -> list[str]:
    """The trainer run directly on words, their characters the units."""
    alphabet = sorted({char for word in words for char in word})
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + pieces, initial_alphabet=alphabet, min_frequency=2, show_progress=False
    )
    tokenizer.train_from_iterator((word for word, n in words.items() for _ in range(n)), trainer)
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return [piece for piece, _ in vocab if len(piece) > 1]


@pytest.mark.parametrize("base", ["gpt2_base", "fallback_base"], indirect=True)
def test_without_merges_in_the_script_it_is_the_trainer_on_characters(base: Base) -> None:
    draw = random.Random(5)
    parts = Counter(
        {"".join(draw.choices("აბგდევზთ", k=draw.randint(2, 5))): draw.randint(10, 300) for _ in range(300)}
    )
    ours = continue_bpe(base, parts, pieces=70, longest=24, guard=GEORGIAN)
    assert ours == on_characters(parts, pieces=70)  # no two pairs are equally frequent up to there


def reference_steps(runs: Counter[tuple[str, ...]], learnt: list[str]) -> None:
    """Each learnt text is of a pair that no other is more frequent than, once those before it are merged."""
    done: set[str] = set()
    left = list(learnt)
    while left:
        pairs: Counter[tuple[str, str]] = Counter()
        for run, number in runs.items():
            for a, b in pairwise(run):
                if CYRILLIC.has_target(a) or CYRILLIC.has_target(b):
                    pairs[a, b] += number
        best = pairs.most_common(1)[0][1]
        ties = [a + b for (a, b), number in pairs.items() if number == best]
        text = next((text for text in ties if text in done), left[0])
        assert text in ties, (text, best, ties)
        pair = next(pair for pair, number in pairs.items() if number == best and "".join(pair) == text)
        runs = Counter({_merge(run, pair): number for run, number in runs.items()})
        if text not in done:
            done.add(left.pop(0))


def _merge(run: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    for symbol in run:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return tuple(out)


def _units(base: Base) -> Callable[[str], tuple[str, ...]]:
    if base.kind is not Kind.SENTENCEPIECE:
        return tuple  # these bases have no Cyrillic: their units are characters
    processor = sentencepiece.SentencePieceProcessor(model_file=str(base.folder / "tokenizer.model"))
    return lambda word: tuple(piece.replace("▁", " ") for piece in processor.encode(word[1:], out_type=str))


@pytest.mark.parametrize("base", ["gpt2_base", "fallback_base", "mistral_base"], indirect=True)
def test_each_merge_is_of_the_most_frequent_pair_of_the_base_s_own_tokens(base: Base) -> None:
    draw = random.Random(5)
    known = sorted({f" {word}" for line in sentences(50) for word in line.split() if word.isalpha()})
    parts = Counter({word: draw.randint(2, 200) for word in known})
    units = _units(base)
    runs = Counter({units(word): number for word, number in parts.items()})
    assert all("".join(run) in parts for run in runs)
    learnt = continue_bpe(base, parts, pieces=60, longest=24, guard=CYRILLIC)
    assert len(learnt) == len(set(learnt)) == 60
    reference_steps(runs, learnt)


@pytest.mark.parametrize("base", BASES, indirect=True)
def test_every_learnt_piece_has_a_target_character_and_is_one_token_of_the_extended_base(base: Base) -> None:
    lines = [
        f"{line} x{n} foo-{word}123bar abc{word}xyz"
        for n, line in enumerate(sentences(60))
        for word in line.split()[:1]
    ]
    words = words_of(lines)
    parts = count_parts(words.counts, cutter(base), CYRILLIC)
    learnt = continue_bpe(base, parts, pieces=400, longest=words.longest, guard=CYRILLIC)
    assert len(learnt) > 150
    assert all(map(CYRILLIC.has_target, learnt)) and max(map(len, learnt)) <= words.longest
    grown = grow(base, learnt, limit=2000, guard=CYRILLIC)
    assert set(grown.rejected) <= {EXISTS}
    merged = assemble(base, base, grown)
    tokenizer = Tokenizer.from_str(json.dumps(merged.spec))
    ids = {token.text: token.id for token in merged.tokens if token.text is not None}
    missing = [text for text in learnt if text not in ids and spell(base.kind, text) not in base.vocab]
    assert missing == []
    spelt = [spell(base.kind, text) for text in ids]
    assert spelt_tokens(merged.spec, spelt) == [[spelling] for spelling in spelt]
    # behind a line break no dummy prefix stands before a piece; Qwen's regex takes a space with it, and a base
    # may have merged it with a Latin letter
    lead = tokenizer.encode("\n", add_special_tokens=False).ids
    for text, token_id in ids.items():
        if CYRILLIC.is_target(text[0]) or (text[0] == " " and base.folder.name != "qwen"):
            assert tokenizer.encode("\n" + text, add_special_tokens=False).ids == [*lead, token_id], text


@pytest.mark.parametrize("base", ["gpt2_base", "qwen_base"], indirect=True)
def test_characters_of_three_bytes_get_their_steps_in_the_script_alone(base: Base) -> None:
    words = words_of(made_up(letters(0x10D0, 0x10F0)), "Geor")
    parts = count_parts(words.counts, cutter(base), GEORGIAN)
    learnt = continue_bpe(base, parts, pieces=200, longest=24, guard=GEORGIAN)
    merged = assemble(base, base, grow(base, learnt, limit=2000, guard=GEORGIAN))
    fragments = [token.token for token in merged.tokens if token.text is None]
    assert 0 < len(fragments) < 10
    assert all(token_bytes(base.kind, token) in ("ა".encode()[:2], " ა".encode()[:3]) for token in fragments)
    texts = {token.text for token in merged.tokens}
    assert texts >= set(learnt)
    steps = {char for text in learnt for char in text} | {" " + text for text in learnt} | {None}
    assert all(text in steps or any(text in other for other in learnt) for text in texts)


@pytest.mark.parametrize("base", ["gpt2_base"], indirect=True)
def test_pieces_are_at_most_as_long_as_asked_and_the_same_each_time(base: Base) -> None:
    words = words_of(made_up(letters(0x10D0, 0x10F0), space=""), "Geor")
    parts = count_parts(words.counts, cutter(base), GEORGIAN)
    first = continue_bpe(base, parts, pieces=300, longest=5, guard=GEORGIAN)
    assert max(map(len, first)) == 5
    assert first == continue_bpe(base, parts, pieces=300, longest=5, guard=GEORGIAN)
    assert continue_bpe(base, parts, pieces=40, longest=5, guard=GEORGIAN) == first[:40]


@pytest.mark.parametrize("base", ["gpt2_base"], indirect=True)
def test_a_text_with_nothing_to_merge_gives_no_pieces(base: Base) -> None:
    assert continue_bpe(base, Counter({"ა": 5, "ბგ": 1}), pieces=10, longest=24, guard=GEORGIAN) == []
    assert continue_bpe(base, Counter(), pieces=10, longest=24, guard=GEORGIAN) == []
