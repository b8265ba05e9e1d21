"""The curve is what encoding gives at each size; the size is chosen by the rule that stops first."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fastvocab.tokenizer import size
from fastvocab.tokenizer.base import Base, read
from fastvocab.tokenizer.continued import continue_bpe
from fastvocab.tokenizer.grow import Grown
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.merge import candidates, cutter, extend_spec, grow
from fastvocab.tokenizer.prune import truncate
from fastvocab.tokenizer.size import Choice, Cost, Curve, choose, draw_curve
from fastvocab.tokenizer.spelling import count_parts, spell
from fastvocab.tokenizer.train import train_sentencepiece
from fastvocab.tokenizer.words import Words
from tests.conftest import sentences
from tests.tokenizer.conftest import letters, made_up, spelt_tokens, words_of

TEXTS = {
    "Cyrl": sentences(80),
    "Geor": made_up(letters(0x10D0, 0x10F0)),
    "Khmr": made_up(letters(0x1780, 0x17A2), letters(0x17B6, 0x17C8), space=""),
}


def grown_by(method: str, base: Base, words: Words, folder: Path) -> Grown:
    guard, cut = Guard(words.scripts, (), words.chars), cutter(base)
    if method == "continued":
        parts = count_parts(words.counts, cut, guard)
        learnt = continue_bpe(base, parts, pieces=300, longest=words.longest, guard=guard)
    else:
        learnt = train_sentencepiece(words, folder / "m", pieces=300, cut=cut)
    return grow(base, candidates(learnt, words.chars, guard)[0], limit=400, guard=guard)


def counted(base: Base, grown: Grown, parts: Counter[str]) -> int:
    """Tokens of the parts with an extended base that is really made."""
    spec = extend_spec(base, grown)
    tokens = spelt_tokens(spec, [spell(base.kind, part) for part in parts])
    return sum(number * len(row) for number, row in zip(parts.values(), tokens))


@pytest.mark.parametrize("method", ["continued", "sentencepiece"])
@pytest.mark.parametrize("script", TEXTS)
@pytest.mark.parametrize("base", ["gpt2_base", "qwen_base", "fallback_base", "mistral_base"], indirect=True)
def test_the_curve_is_the_count_with_the_list_cut_off_there(
    base: Base, script: str, method: str, tmp_path: Path
) -> None:
    lines = TEXTS[script]
    cut = len(lines) * 4 // 5
    grown = grown_by(method, base, words_of(lines[:cut], script), tmp_path)
    held = count_parts(words_of(lines[cut:], script).counts, cutter(base), Guard(frozenset({script})))
    curve = draw_curve(base, grown, held, 1000)
    most = len(grown.tokens)
    assert len(curve.tokens) == most + 1 > 80 and curve.words == 1000
    sizes = (0, 1, 2, 7, most // 3, most - 1, most)
    assert [curve.tokens[k] for k in sizes] == [counted(base, truncate(grown, k), held) for k in sizes]
    assert curve.tokens == sorted(curve.tokens, reverse=True)
    assert curve.at(most + 5000) == curve.tokens[-1] < curve.tokens[0] / 2


def test_the_curve_of_many_words_is_drawn_on_some_of_them(
    gpt2_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, words = read(gpt2_base), words_of(made_up(letters(0x10D0, 0x10F0)), "Geor")
    grown = grown_by("continued", base, words, tmp_path)
    held = count_parts(words.counts, cutter(base), Guard(words.scripts))
    whole = draw_curve(base, grown, held, words.units(words.counts))
    monkeypatch.setattr(size, "_MOST_PARTS", 70)
    some = draw_curve(base, grown, held, words.units(words.counts))
    assert some.words < whole.words / 2
    for k in (0, 50, 200):
        assert some.at(k) / some.words == pytest.approx(whole.at(k) / whole.words, rel=0.2)


def falling(*shares: float, step: int = 1000) -> Curve:
    """10,000 words; each thousand tokens leave this share of the tokens of the one before."""
    tokens = [50_000.0]
    for share in shares:
        first = tokens[-1]
        tokens += [first * (1 - (1 - share) * (n + 1) / step) for n in range(step)]
    return Curve([round(number) for number in tokens], 10_000)


def take(curve: Curve, fires: int = 1000, **more: Any) -> Choice:
    return choose(curve, [fires] * (len(curve.tokens) - 1), sample_words=100_000, **more)


def test_it_stops_where_a_thousand_more_take_off_less_than_one_percent() -> None:
    choice = take(falling(0.5, 0.8, 0.98, 0.995, 0.9))
    assert choice.size == 3000
    assert "1,000 more would take off 0.50%" in choice.reason and "must take off 1.00%" in choice.reason
    assert take(falling(0.5, 0.8, 0.98, 0.985, 0.98)).size == 5000


def test_a_small_model_with_a_large_head_stops_earlier() -> None:
    curve = falling(0.5, 0.9, 0.95, 0.95)
    large = Cost(body=8_000_000_000, width=4096, rows=128_256, matrices=2)
    assert take(curve, cost=large).size == 4000
    tiny = Cost(body=100_000, width=64, rows=10_000, matrices=1)
    choice = take(curve, cost=tiny)
    # with 2,000 new rows: 64,000 more multiply-adds on 100,000 + 12,000 * 64
    assert choice.size == 2000
    assert "5.00%" in choice.reason and f"{64_000 / (100_000 + 12_000 * 64):.2%}" in choice.reason


def test_it_stops_where_tokens_would_hardly_be_seen_in_training() -> None:
    curve = falling(0.5, 0.8, 0.9, 0.9)
    fires = [400] * 1000 + [40] * 1000 + [20] * 2000
    assert choose(curve, fires, sample_words=100_000).size == 4000
    # after 2,000 tokens a word is 2 tokens: 19,000 tokens are 9,500 words, 0.095 of the sample
    choice = choose(curve, fires, sample_words=100_000, training_tokens=19_000)
    assert choice == Choice(2000, "each of the next 1,000 would be seen 1.9 times in training")
    assert choose(curve, fires, sample_words=100_000, training_tokens=21_000).size == 4000
    assert choose(curve, fires, sample_words=100_000, passes=0.09).size == 2000


def test_it_takes_all_that_the_text_supports() -> None:
    assert take(falling(0.5, 0.8)) == Choice(2000, "the text supports no more")
    short = Curve(falling(0.5).tokens[:300], 10_000)
    assert take(short) == Choice(299, "the text supports no more")
    assert take(short, fires=0).size == 299  # the first thousand is given whatever it costs


def test_it_looks_no_further_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "MOST", 2000)
    assert take(falling(0.5, 0.8)) == Choice(2000, "no more are looked at")


def test_the_last_step_counts_by_its_length() -> None:
    curve = Curve(falling(0.5, 0.98).tokens[:1251], 10_000)  # 0.5% in 250 tokens is 2% in 1,000
    assert take(curve).size == 1250


CONFIGS = {
    "llama": ("LlamaConfig", {"num_key_value_heads": 2}),
    "llama untied": ("LlamaConfig", {"tie_word_embeddings": False}),
    "mistral": ("MistralConfig", {"head_dim": 128, "num_key_value_heads": 2, "tie_word_embeddings": False}),
    "qwen2": ("Qwen2Config", {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "gemma": ("Gemma3TextConfig", {"head_dim": 128, "num_key_value_heads": 1}),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("inner", [False, True])
def test_costs_are_those_of_the_real_model(name: str, inner: bool) -> None:
    import torch
    import transformers

    kind, more = CONFIGS[name]
    sizes = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 3, "vocab_size": 5000}
    config = getattr(transformers, kind)(**sizes, num_attention_heads=8, **more)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    tables = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    body = sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in tables)
    data = config.to_dict()
    cost = Cost.read({"text_config": data, "model_type": "any"} if inner else data)
    assert cost is not None
    assert cost.body == pytest.approx(body, rel=0.01)
    assert (cost.width, cost.rows, cost.matrices) == (512, 5000, 1 if config.tie_word_embeddings else 2)
    assert cost.of_token(100) == cost.body + 5100 * 512


@pytest.mark.parametrize("config", [{}, {"hidden_size": 8}, {"text_config": {"hidden_size": "8"}}])
def test_a_config_without_sizes_has_no_cost(config: dict[str, Any]) -> None:
    assert Cost.read(config) is None
