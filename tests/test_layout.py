"""Layouts of replies: what is written is read back, by us and by transformers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastvocab.layout import Layout

TAGS = Layout("<think>{reasoning}</think><answer>{output}</answer>")
MARKS = ("<think>", "</think>", "<answer>", "</answer>")
WORDS = (
    st.text(min_size=1)
    .map(lambda t: " ".join(t.split()))
    .filter(lambda t: t and not any(mark in t for mark in MARKS))
)


@settings(deadline=None)
@given(WORDS, WORDS)
def test_what_is_written_is_read_back(reasoning: str, output: str) -> None:
    fields = {"reasoning": reasoning.strip(), "output": output.strip()}
    assert TAGS.read(TAGS.write(fields)) == fields


@settings(deadline=None)  # it imports transformers
@given(WORDS, WORDS)
def test_transformers_takes_a_reply_apart_as_we_do(reasoning: str, output: str) -> None:
    from transformers.utils.chat_parsing import parse_response

    reply = TAGS.write({"reasoning": reasoning, "output": output})
    template = TAGS.response_template("<|im_start|>assistant\n")
    found = parse_response(reply, template, prefix="<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n")
    assert {k: v.strip() for k, v in found.items()} == {"role": "assistant", **(TAGS.read(reply) or {})}


@pytest.mark.parametrize(
    "reply",
    [
        "", "7", "<think>a</think>", "<answer>7</answer>", "<think>a</think>7", "<think></think><answer>7</answer>",
        "<think>a</think><answer> </answer>", "x<think>a</think><answer>7</answer>",
        "<think>a</think><answer>7</answer> so", "<think>a</think><think>b</think><answer>7</answer>",
        "<answer>7</answer><think>a</think>", "<think>a</think><answer>7</answer><answer>8</answer>",
        "<think>a</think> hm <answer>7</answer>",
    ],
)  # fmt: skip
def test_a_reply_that_is_laid_out_otherwise_is_not_read(reply: str) -> None:
    assert TAGS.read(reply) is None


def test_white_space_around_marks_is_no_fault() -> None:
    assert TAGS.read("\n<think>\n a\nb </think>\n\n<answer>7</answer>\n") == {
        "reasoning": "a\nb",
        "output": "7",
    }


def test_without_its_tags_the_last_line_is_the_answer() -> None:
    plain = TAGS.without(MARKS)
    assert plain.text == "{reasoning}\n{output}"
    fields = {"reasoning": "1 + 2 = 3.\n3 * 4 = 12.", "output": "12"}
    assert plain.read(plain.write(fields)) == fields
    assert plain.read("12") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no field", "no field in braces"),
        ("{a}{b}", "nothing between them"),
        ("{a} and {a}", "there twice"),
        ("{a b}", "is no field"),
        ("{}", "is no field"),
    ],
)
def test_layouts_that_could_not_be_read_back_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Layout(text)


@pytest.mark.parametrize(
    "text", ["A: {a}\nB: {b}", "{a} = {b}", "<<{a}|{b}>>", "Думка: {a} — Відповідь: {b}."]
)
def test_other_layouts(text: str) -> None:
    layout, fields = Layout(text), {"a": "один два", "b": "три"}
    assert layout.read(layout.write(fields)) == fields
