"""The time of a decoding step, and the peak of memory: against clocks and sizes that are known."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from fastvocab import memory
from fastvocab.evaluate import decoding


def test_the_figure_is_the_median_step_times_the_steps(
    tied_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tok = AutoModelForCausalLM.from_pretrained(tied_llama), AutoTokenizer.from_pretrained(tied_llama)
    real = type(model).forward
    lengths: list[int] = []

    def slow(self: Any, *args: Any, **kwargs: Any) -> Any:
        lengths.append(kwargs["input_ids"].shape[1])
        time.sleep(0.5 if len(lengths) == 1 else 0.02)  # reading the context is no step
        return real(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", slow)
    found = decoding.measure(model, tok, "some text to begin with, " * 30, tokens=1000)
    assert 0.02 <= found["step_seconds"] < 0.2
    assert found["seconds"] == pytest.approx(1000 * found["step_seconds"]) and found["steps"] == 1000
    assert found["measured_steps"] == decoding.STEPS - 1 and found["context_tokens"] == decoding.CONTEXT
    assert lengths[0] == decoding.CONTEXT and set(lengths[1:]) == {1}, "with the KV cache, a token a step"


def test_a_short_context_leaves_room_for_the_steps(tied_llama: Path) -> None:
    model, tok = AutoModelForCausalLM.from_pretrained(tied_llama), AutoTokenizer.from_pretrained(tied_llama)
    model.config.max_position_embeddings = 40
    found = decoding.measure(model, tok, "words and words " * 100, tokens=10)
    assert found["context_tokens"] + found["measured_steps"] <= 40 and found["measured_steps"] > 8


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot set the peak back")
def test_a_peak_counts_from_where_it_was_set_back() -> None:
    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    block = bytearray(300_000_000)
    del block
    high = peak()
    memory.reset_peak()
    assert peak() < high - 200_000_000
    block = bytearray(100_000_000)
    assert peak() < high - 100_000_000 and len(block)
