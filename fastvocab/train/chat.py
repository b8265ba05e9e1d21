"""Chat rows as token ids, with the loss on the assistant's words alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from fastvocab.errors import DataError
from fastvocab.train.data import IGNORED, Data, pad


def encode(messages: list[dict[str, str]], tok: Any, max_length: int) -> tuple[list[int], list[int]]:
    """Ids and labels of one conversation; labels are -100 outside of the assistant's replies.

    What a reply is, is found by rendering the chat template with and without it, so any template works whose
    rendering of the first messages is the beginning of its rendering of all. A reply's end mark is learnt too.

    Returns:
        (input_ids, labels), equal lengths, at most ``max_length``.

    Raises:
        DataError: if the template does not render, or changes earlier messages when later ones come.
    """
    ids: list[int] = []
    labels: list[int] = []
    done = ""
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = _render(tok, messages[:number], reply_follows=True)
        whole = _render(tok, messages[: number + 1], reply_follows=False)
        if not (prompt.startswith(done) and whole.startswith(prompt)):
            raise DataError(
                "the chat template renders a conversation's beginning otherwise once the reply is there",
                rule="each rendering must begin with the one before, or the reply cannot be told from the prompt",
                fix="give another template with instruct.template=FILE",
            )
        before, reply = _ids(tok, prompt[len(done) :]), _ids(tok, whole[len(prompt) :])
        ids += before + reply
        labels += [IGNORED] * len(before) + reply
        done = whole
    return ids[:max_length], labels[:max_length]


def _render(tok: Any, messages: list[dict[str, str]], *, reply_follows: bool) -> str:
    from jinja2.exceptions import TemplateError

    try:
        return tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=reply_follows)
    except (TemplateError, TypeError, KeyError) as error:
        raise DataError(f"the chat template cannot render {str(messages)[:120]}: {error}") from error


def _ids(tok: Any, text: str) -> list[int]:
    return tok(text, add_special_tokens=False)["input_ids"]


def dataset(rows: Iterable[dict[str, Any]], tok: Any, *, max_length: int) -> Data:
    """Conversations to train on, one a row; figures: rows, cut, dropped by reason, tokens with loss.

    Raises:
        DataError: if there is no template, or no row is left.
    """
    from datasets import Dataset

    if not tok.chat_template:
        raise DataError(
            "the base model has no chat template", fix="give one with instruct.template=FILE (Jinja)"
        )
    out: list[dict[str, list[int]]] = []
    numbers: list[int] = []
    counts: Counter[str] = Counter()
    for row in rows:
        counts["read"] += 1
        ids, labels = encode(row["messages"], tok, max_length)
        if all(label == IGNORED for label in labels):
            counts["no reply within max_length"] += 1
            continue
        counts["cut"] += len(ids) == max_length
        counts["loss_tokens"] += sum(label != IGNORED for label in labels)
        numbers.append(counts["read"])
        out.append({"input_ids": ids, "labels": labels, "attention_mask": [1] * len(ids)})
    if not out:
        raise DataError(
            f"no chat row is left to train on: {dict(counts)}", fix="check instruct.train and max_length"
        )
    return Data(
        Dataset.from_list(out),
        {"rows": len(out), **counts},
        collate=pad,
        origin=lambda row: f"number {numbers[row]} of the conversations to train on",
        kind="conversation",
    )
