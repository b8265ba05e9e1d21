"""Beam search held to a catalogue, against a forward pass over each item of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastvocab.errors import ConfigError, DataError, ModelError
from fastvocab.items.decoding import Recommendation, recommend
from fastvocab.items.trie import Trie

PAD = 1
#: One with a history of items.
PROMPTS = [[0, 17, 40, 8, 99, 23, 5], [0, 61], [7], [0, 12, 13, 300, 401, 502, 301, 404, 505, 50, 51]]


@pytest.fixture(scope="module")
def model(tied_llama: Path) -> Any:
    from fastvocab.model import backend

    backend.unsloth()  # it changes classes of transformers: before one of them is made
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tied_llama, dtype=torch.float32)
    with torch.no_grad():  # far from equal chances, as after training
        model.get_input_embeddings().weight *= 12
    return model.eval()


@pytest.fixture
def config(model: Any) -> Iterator[Any]:
    """What the model says of generation, to be changed."""
    from copy import deepcopy

    before = deepcopy(model.generation_config)
    yield model.generation_config
    model.generation_config = before


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    """30 items of 3 tokens, in no order."""
    rng = np.random.default_rng(0)
    drawn = np.unique(rng.integers((300, 400, 500), (304, 405, 506), (60, 3)), axis=0)
    return rng.permutation(drawn)[:30]


def scores(model: Any, prompt: list[int], codes: np.ndarray) -> np.ndarray:
    """Of each item, from a plain forward pass over prompt and item."""
    import torch

    ids = torch.tensor([prompt + item for item in codes.tolist()])
    with torch.no_grad():
        chances = model(ids).logits.log_softmax(-1)[:, len(prompt) - 1 : -1]
    return chances.gather(2, torch.from_numpy(codes)[:, :, None]).sum((1, 2)).numpy()


def same(found: list[Recommendation], wanted: np.ndarray, rows: list[int]) -> None:
    """Are these the rows, best first, with their scores?"""
    assert [item.row for item in found] == rows
    assert [item.score for item in found] == pytest.approx(wanted[rows].tolist(), abs=1e-4)


@pytest.mark.parametrize("batch", [1, 2, 3, 16])  # by length: one prompt of one token is read another way
def test_with_as_many_beams_as_items_the_order_is_that_of_all_scores(
    model: Any, codes: np.ndarray, batch: int
) -> None:
    found = recommend(model, PROMPTS, Trie.build(codes), count=10, num_beams=30, pad_id=PAD, batch=batch)
    for prompt, items in zip(PROMPTS, found, strict=True):
        wanted = scores(model, prompt, codes)
        same(items, wanted, np.argsort(-wanted)[:10].tolist())


def test_seen_items_do_not_come_and_scores_stay(model: Any, codes: np.ndarray) -> None:
    trie, kept = Trie.build(codes), [3, 11, 20]
    all_but = [row for row in range(30) if row not in kept]
    seen = [set(range(15)), [], iter(all_but), np.array([5, 5])]
    found = recommend(model, PROMPTS, trie, count=10, num_beams=30, seen=seen, pad_id=PAD, batch=3)
    for prompt, items, left in zip(
        PROMPTS, found, [range(15, 30), range(30), kept, {*range(30)} - {5}], strict=True
    ):
        wanted = scores(model, prompt, codes)
        same(items, wanted, sorted(left, key=lambda row: -wanted[row])[:10])
    assert len(found[2]) == 3


@pytest.mark.parametrize("num_beams", [1, 2, 7])
def test_with_few_beams_items_are_distinct_and_their_scores_exact(
    model: Any, codes: np.ndarray, num_beams: int
) -> None:
    trie = Trie.build(codes)
    alone = [
        recommend(model, [prompt], trie, count=num_beams, num_beams=num_beams, pad_id=PAD)[0]
        for prompt in PROMPTS
    ]
    found = recommend(model, PROMPTS, trie, count=num_beams, num_beams=num_beams, pad_id=PAD, batch=3)
    for prompt, items, by_itself in zip(PROMPTS, found, alone, strict=True):
        rows = [item.row for item in items]
        assert len(set(rows)) == len(rows) == num_beams
        wanted = scores(model, prompt, codes)
        same(items, wanted, sorted(rows, key=lambda row: -wanted[row]))
        same(by_itself, wanted, rows)


@pytest.mark.parametrize("items", [1, 2, 3])
def test_items_that_share_all_but_the_last_token_come_once(model: Any, items: int) -> None:
    codes = np.array([[300, 400, 500 + row] for row in range(items)])
    found = recommend(model, PROMPTS, Trie.build(codes), count=items, num_beams=items, pad_id=PAD)
    for prompt, got in zip(PROMPTS, found, strict=True):
        wanted = scores(model, prompt, codes)
        same(got, wanted, np.argsort(-wanted).tolist())


def test_items_of_one_token_are_ranked(model: Any) -> None:
    codes = np.arange(300, 340)[:, None]
    (found,) = recommend(model, PROMPTS[:1], Trie.build(codes), count=40, num_beams=40, pad_id=PAD)
    wanted = scores(model, PROMPTS[0], codes)
    same(found, wanted, np.argsort(-wanted).tolist())


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.8, "renormalize_logits": True, "length_penalty": 2.0},
        {"eos_token_id": [1, 300, 400], "forced_eos_token_id": 1, "min_length": 50, "max_length": 9},
        {"suppress_tokens": [300, 401], "no_repeat_ngram_size": 1, "use_cache": False},
        {"do_sample": True, "temperature": 0.5, "cache_implementation": "static"},
    ],
)
def test_settings_of_the_models_own_change_nothing(
    model: Any, codes: np.ndarray, config: Any, settings: dict[str, Any]
) -> None:
    trie, asked = Trie.build(codes), {"count": 10, "num_beams": 30, "pad_id": PAD, "batch": 2}
    before = recommend(model, PROMPTS, trie, **asked)
    config.update(**settings)
    assert recommend(model, PROMPTS, trie, **asked) == before


def test_a_prompt_is_read_once_whatever_the_beams(model: Any, codes: np.ndarray) -> None:
    read = []
    hook = model.model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    try:
        recommend(model, [PROMPTS[0], PROMPTS[3]], Trie.build(codes), count=5, num_beams=20, pad_id=PAD)
    finally:
        hook.remove()
    assert read == [(2, 10), (40, 1), (40, 1), (40, 1)]


def test_a_model_in_training_stays_as_it_was(model: Any, codes: np.ndarray) -> None:
    import torch

    trie, asked = Trie.build(codes), {"count": 5, "num_beams": 30, "pad_id": PAD}
    before = recommend(model, PROMPTS, trie, **asked)
    model.train()
    model.lm_head.eval()
    modes, state = {name: m.training for name, m in model.named_modules()}, torch.get_rng_state()
    try:
        assert recommend(model, PROMPTS, trie, **asked) == before
        assert {name: m.training for name, m in model.named_modules()} == modes
        assert torch.equal(torch.get_rng_state(), state)
        model(torch.tensor([PROMPTS[0]]), labels=torch.tensor([PROMPTS[0]])).loss.backward()
    finally:
        model.zero_grad()
        model.eval()


def test_no_prompts_no_answers(model: Any, codes: np.ndarray) -> None:
    assert recommend(model, [], Trie.build(codes), count=1, num_beams=1, pad_id=PAD) == []


@pytest.mark.parametrize(
    ("kind", "said", "changed"),
    [
        (ConfigError, "31 beams over a catalogue of 30 items", {"num_beams": 31}),
        (ConfigError, "9 items wanted of 8 beams", {"count": 9, "num_beams": 8}),
        (ConfigError, "0 items wanted", {"count": 0}),
        (DataError, "prompt 1 is empty", {"prompts": [[0], []]}),
        (DataError, "prompt 0 has 254 tokens, and an item 3 more", {"prompts": [[5] * 254]}),
        (DataError, "prompt 1: all 30 items are barred", {"seen": [[], range(30)], "prompts": [[0], [0]]}),
        (AssertionError, "seen items of 1 users for 4 prompts", {"seen": [[2]]}),
    ],
)
def test_what_cannot_be_asked_is_refused(
    model: Any, codes: np.ndarray, kind: type[Exception], said: str, changed: dict[str, Any]
) -> None:
    asked = {"prompts": PROMPTS, "count": 2, "num_beams": 4, **changed}
    with pytest.raises(kind, match=said) as error:
        recommend(model, trie=Trie.build(codes), pad_id=PAD, **asked)
    assert kind is AssertionError or (error.value.rule and error.value.fix)


def test_the_longest_prompt_that_fits_is_taken(model: Any, codes: np.ndarray) -> None:
    prompt = ([0, 60, 61, 70] * 64)[:253]
    (found,) = recommend(model, [prompt], Trie.build(codes), count=30, num_beams=30, pad_id=PAD)
    wanted = scores(model, prompt, codes)
    same(found, wanted, np.argsort(-wanted).tolist())


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("depth", [1, 3])
def test_a_model_of_nan_is_refused(model: Any, codes: np.ndarray, num_beams: int, depth: int) -> None:
    import torch

    trie = Trie.build(np.unique(codes[:, -depth:], axis=0))
    norm = model.model.norm.weight
    before = norm.detach().clone()
    try:
        with torch.no_grad():
            norm.fill_(float("nan"))
        with pytest.raises(ModelError, match="not finite"):
            recommend(model, PROMPTS, trie, count=1, num_beams=num_beams, pad_id=PAD)
    finally:
        with torch.no_grad():
            norm.copy_(before)
