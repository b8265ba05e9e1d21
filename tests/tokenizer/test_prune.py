"""Tokens that never fire go, and nothing else changes by it."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from fastvocab.tokenizer.base import Base
from fastvocab.tokenizer.continued import continue_bpe
from fastvocab.tokenizer.grow import Grown
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.merge import cutter, extend_spec, grow
from fastvocab.tokenizer.prune import count_fires, drop_silent, grow_pruned, truncate
from fastvocab.tokenizer.spelling import count_parts, spell
from tests.conftest import sentences
from tests.tokenizer.conftest import spelt_tokens, words_of

GUARD = Guard(frozenset({"Cyrl"}))
BASES = ["gpt2_base", "fallback_base", "mistral_base"]
#: Words that the training text does not hold: no step of theirs fires unless others need it too.
SILENT = [" щебетання", "ґудзик", " фіолетовий", "щщщщщ", " ѣѣѣѫѫ"]


def parts_of(base: Base) -> Counter[str]:
    return count_parts(words_of(sentences(60)).counts, cutter(base), GUARD)


def wanted_of(base: Base) -> list[str]:
    learnt = continue_bpe(base, parts_of(base), pieces=250, longest=24, guard=GUARD)
    return [*SILENT[:2], *learnt[:50], *SILENT[2:], *learnt[50:]]


def tokens_of(base: Base, grown: Grown, spelt: list[str]) -> list[list[str]]:
    return spelt_tokens(extend_spec(base, grown), spelt)


@pytest.mark.parametrize("base", BASES, indirect=True)
def test_dropping_silent_tokens_leaves_every_training_word_as_it_is(base: Base) -> None:
    parts = parts_of(base)
    grown = grow(base, wanted_of(base), limit=1000, guard=GUARD)
    fires = count_fires(base, grown, parts)
    kept = drop_silent(grown, fires)
    for word in SILENT:
        assert spell(base.kind, word) in grown.tokens and spell(base.kind, word) not in kept.tokens
    spelt = [spell(base.kind, part) for part in parts]
    before = tokens_of(base, grown, spelt)
    assert before == tokens_of(base, kept, spelt)
    expected = Counter[str]()
    for tokens, number in zip(before, parts.values()):
        for token in tokens:
            expected[token] += number
    assert fires == Counter({token: expected[token] for token in grown.tokens if expected[token]})


@pytest.mark.parametrize("base", BASES, indirect=True)
def test_what_is_dropped_neither_fires_nor_serves(base: Base) -> None:
    grown = grow(base, wanted_of(base), limit=1000, guard=GUARD)
    fires = count_fires(base, grown, parts_of(base))
    kept = drop_silent(grown, fires)
    have = {*base.vocab, *kept.tokens}
    used = {part for pair in kept.merges for part in pair}
    assert used <= have
    assert {a + b for a, b in kept.merges} <= have
    assert all(fires[token] or token in used for token in kept.tokens)
    assert {token for token in grown.tokens if fires[token]} <= have
    order = {token: place for place, token in enumerate(grown.tokens)}
    assert kept.tokens == sorted(kept.tokens, key=order.__getitem__)


@pytest.mark.parametrize("base", BASES, indirect=True)
def test_a_word_seen_once_gets_no_token_and_keeps_its_text(base: Base) -> None:
    once = " щебетання"
    parts = parts_of(base) + Counter({once: 1})
    grown = grow(base, wanted_of(base), limit=1000, guard=GUARD)
    fires = count_fires(base, grown, parts)
    kept = drop_silent(grown, fires)
    spelling = spell(base.kind, once)
    assert fires[spelling] == 1 and spelling not in kept.tokens
    (tokens,) = tokens_of(base, kept, [spelling])
    assert len(tokens) > 1 and "".join(tokens) == spelling
    others = [spell(base.kind, part) for part, number in parts.items() if number > 1]
    assert tokens_of(base, kept, others) == tokens_of(base, grown, others)


@pytest.mark.parametrize("base", BASES, indirect=True)
@pytest.mark.parametrize("limit", [1, 2, 17, 60, 131])
def test_a_shortened_list_makes_each_of_its_tokens(limit: int, base: Base) -> None:
    grown = truncate(grow(base, wanted_of(base), limit=400, guard=GUARD), limit)
    assert len(grown.tokens) == limit
    assert tokens_of(base, grown, grown.tokens) == [[token] for token in grown.tokens]
    assert {a + b for a, b in grown.merges} <= {*base.vocab, *grown.tokens}


@pytest.mark.parametrize("base", BASES, indirect=True)
def test_the_count_is_made_up_from_the_next_candidates(base: Base) -> None:
    parts, wanted = parts_of(base), wanted_of(base)

    def more(size: int) -> Grown:
        return grow(base, wanted, limit=size, guard=GUARD)

    first = more(80)
    fires = count_fires(base, first, parts)
    assert len(drop_silent(first, fires).tokens) < 80
    pruned = grow_pruned(base, parts, more, 80)
    assert len(pruned.grown.tokens) == 80 and pruned.dropped > 0
    # cut to size what was a step may be the last of its line: it fires then
    again = count_fires(base, pruned.grown, parts)
    used = {part for pair in pruned.grown.merges for part in pair}
    assert all(again[token] or token in used for token in pruned.grown.tokens)
    all_of_them = grow_pruned(base, parts, more, 100_000)
    assert len(all_of_them.grown.tokens) < 1000


@pytest.mark.parametrize("base", ["gpt2_base"], indirect=True)
def test_growing_stops_where_more_candidates_leave_no_more_tokens(base: Base) -> None:
    draw = random.Random(1)
    silent = ["".join(draw.choices("ѣѫѭѯѱѳѵ", k=6)) for _ in range(4000)]
    wanted, asked = [*wanted_of(base), *dict.fromkeys(silent)], []

    def grown(limit: int) -> Grown:
        asked.append(limit)
        return grow(base, wanted, limit=limit, guard=GUARD)

    pruned = grow_pruned(base, parts_of(base), grown, 1000)
    assert len(asked) == 2 and len(grown(asked[-1]).tokens) == asked[-1], "there were more to be had"
    (first, kept) = (drop_silent(g, count_fires(base, g, parts_of(base))) for g in map(grown, asked[:2]))
    assert len(pruned.grown.tokens) == len(first.tokens) == len(kept.tokens) < 1000
