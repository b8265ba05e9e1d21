"""Both methods, the better one, and as many tokens as pay; and the figures that both must reach."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from fastvocab.tokenizer import find as module
from fastvocab.tokenizer import proofs, size
from fastvocab.tokenizer.base import Base
from fastvocab.tokenizer.find import METHODS, Found, Request, find
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.measure import measure
from fastvocab.tokenizer.merge import assemble, cutter
from fastvocab.tokenizer.pretokenizer import repair
from fastvocab.tokenizer.prune import count_fires
from fastvocab.tokenizer.spelling import count_parts, spell
from fastvocab.tokenizer.train import fresh
from fastvocab.tokenizer.words import Words, count_target_words
from tests import texts
from tests.conftest import english, sentences
from tests.tokenizer.conftest import read_once, spelt_tokens, words_of
from tests.tokenizer.test_pretokenizer import step_of


def request_of(words: Words, heldout: list[str], **more: Any) -> Request:
    guard = Guard(words.scripts, (), words.chars)
    return Request(words, count_target_words(heldout, guard), guard, **{"new_tokens": 120} | more)


@pytest.fixture
def request_uk() -> Request:
    lines = sentences(80)
    return request_of(words_of(lines[:60]), lines[60:])


def heldout_tokens(base: Base, found: Found, request: Request) -> int:
    """Tokens of the held-out words with an extended base that is really made."""
    merged = assemble(base, base, found.grown)
    parts = count_parts(request.heldout, cutter(base), request.guard)
    tokens = spelt_tokens(merged.spec, [spell(base.kind, part) for part in parts])
    return sum(number * len(row) for number, row in zip(parts.values(), tokens))


@pytest.mark.parametrize("base", ["gpt2_base", "fallback_base", "mistral_base"], indirect=True)
def test_auto_takes_the_method_with_fewer_held_out_tokens(
    base: Base, request_uk: Request, tmp_path: Path
) -> None:
    found = find(base, request_uk, tmp_path)
    assert {one.method for one in found} == set(METHODS)
    counts = [heldout_tokens(base, one, request_uk) for one in found]
    assert counts == sorted(counts)
    for one, count in zip(found, counts):
        assert len(one.grown.tokens) == 120 == one.choice.size and one.choice.reason == "as asked"
        assert one.heldout(120) == round(count / sum(request_uk.heldout.values()), 4)
        (alone,) = find(base, replace(request_uk, method=one.method), tmp_path)
        assert alone.grown == one.grown
    assert (tmp_path / "sentencepiece.model").is_file()


@pytest.mark.parametrize("better", METHODS)
def test_the_better_one_comes_first_whichever_it_is(
    better: str, gpt2_base: Path, request_uk: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = module._learn

    def worse(method: Any, *rest: Any) -> list[str]:
        return learn(method, *rest) if method == better else learn(method, *rest)[-10:]

    monkeypatch.setattr(module, "_learn", worse)
    found = find(read_once(gpt2_base), replace(request_uk, new_tokens=90), tmp_path)
    assert [one.method for one in found] == [better, *(name for name in METHODS if name != better)]
    assert found[0].heldout(90) < found[1].heldout(90)


def test_unigram_and_bpe_learn_different_pieces(gpt2_base: Path, request_uk: Request, tmp_path: Path) -> None:
    base = read_once(gpt2_base)
    wanted = replace(request_uk, method="sentencepiece")
    (bpe,) = find(base, wanted, tmp_path)
    (unigram,) = find(base, replace(wanted, algorithm="unigram"), tmp_path)
    assert len(unigram.grown.tokens) == 120 and unigram.grown.tokens != bpe.grown.tokens
    assert unigram.heldout(120) < unigram.heldout(0) / 2


def test_as_many_as_pay_are_the_first_of_all(gpt2_base: Path, request_uk: Request, tmp_path: Path) -> None:
    base = read_once(gpt2_base)
    every = find(base, replace(request_uk, new_tokens=None), tmp_path)
    for one in every:
        assert one.choice.size == len(one.pruned.grown.tokens) < 1000
        assert one.choice.reason == "the text supports no more"
    (some,) = find(base, replace(request_uk, method="continued"), tmp_path)
    (all_of,) = [one for one in every if one.method == "continued"]
    # silent tokens are dropped from a longer list, so that the two are not one the beginning of the other
    assert all_of.curve.tokens[0] == some.curve.tokens[0]
    assert all_of.heldout(120) == pytest.approx(some.heldout(120), rel=0.02)


def test_more_than_there_is_gives_all_and_says_so(
    gpt2_base: Path, request_uk: Request, tmp_path: Path
) -> None:
    base = read_once(gpt2_base)
    parts = count_parts(request_uk.words.counts, cutter(base), request_uk.guard)
    for one in find(base, replace(request_uk, new_tokens=5000), tmp_path):
        assert 100 < one.choice.size < 1000 and one.choice.reason == "the text supports no more"
        assert len(one.grown.tokens) == one.choice.size
        fires = count_fires(base, one.grown, parts)
        steps = {part for pair in one.grown.merges for part in pair}
        assert all(fires[token] or token in steps for token in one.grown.tokens)


def figures(base: Base, words: Words, held: list[str], size: int, folder: Path) -> dict[str, Any]:
    """Tokens per held-out word by each method over those of a fresh model; the proofs hold."""
    repaired = repair(base, words)
    yardstick = measure(fresh(words, size), held)["tokens_per_word_alone"]
    out: dict[str, Any] = {"repaired": repaired.changed}
    for one in find(repaired.base, request_of(words, held, new_tokens=size), folder):
        merged = assemble(base, repaired.base, one.grown)
        assert len(merged.tokens) == size
        alone = measure(Tokenizer.from_str(json.dumps(merged.spec)), held)["tokens_per_word_alone"]
        out[one.method] = alone / yardstick
        extended = replace(base, spec=merged.spec)
        assert proofs.reachable(base, extended).passed
    replay = [line for text in english(10) for line in text.splitlines()]
    assert proofs.other_text(base, extended, words.scripts, replay).passed
    assert proofs.round_trip(base, extended, proofs.Texts(replay, held)).detail["heldout_exact"] == len(held)
    return out


def prose(language: str) -> list[str]:
    """Lines of message catalogues, eight to a document."""
    lines = texts.lines(language)
    random.Random(0).shuffle(lines)
    return [" ".join(lines[start : start + 8]) for start in range(0, len(lines), 8)]


@pytest.mark.slow
@pytest.mark.parametrize(("language", "script"), [("hi", "Deva"), ("bn", "Beng"), ("ta", "Taml")])
def test_scripts_with_marks_reach_the_figures_on_llama3_s_regex(
    language: str, script: str, qwen_base: Path, tmp_path: Path
) -> None:
    source = read_once(qwen_base)
    base = replace(source, spec=source.spec | {"pre_tokenizer": step_of("llama3"), "normalizer": None})
    documents = prose(language)
    cut = len(documents) * 9 // 10
    found = figures(base, words_of(documents[:cut], script), documents[cut:], 1000, tmp_path)
    assert found["repaired"]
    assert found["continued"] <= 1.0 and found["sentencepiece"] <= 1.04


@pytest.mark.parametrize("base", ["gpt2_base", "mistral_base"], indirect=True)
def test_as_many_as_pay_are_the_same_however_many_are_grown(
    base: Base, request_uk: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size, "STEP", 20)
    monkeypatch.setattr(size, "LEAST_GAIN", 0.04)  # for 20 more
    grow, grown = module.grow_pruned, []

    def seen(base: Any, parts: Any, more: Any, limit: int) -> Any:
        grown.append(limit)
        return grow(base, parts, more, limit)

    monkeypatch.setattr(module, "grow_pruned", seen)
    wanted = replace(request_uk, new_tokens=None, method="continued")
    choices, steps = [], [40, 80, 160, 400, size.MOST]
    for limits in ([size.MOST], steps):
        monkeypatch.setattr(module, "_LIMITS", limits)
        (found,) = find(base, wanted, tmp_path)
        choices.append(found.choice)
    assert choices[0] == choices[1] and 40 <= choices[0].size < 400
    enough = next(limit for limit in steps if limit > choices[0].size)
    assert grown == [size.MOST, *(limit for limit in steps if limit <= enough)]
