"""Chat rows as token ids, with the loss on the assistant's words alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fastvocab import console
from fastvocab.errors import DataError
from fastvocab.train.data import IGNORED, Data, pad

#: Why a conversation is dropped here; why others are, `fastvocab.corpus.chat` says.
TOO_LONG = "no reply within max_length"


def encode(messages: list[dict[str, str]], tok: Any) -> tuple[list[int], list[int]]:
    """Ids and labels of one conversation; labels are -100 outside of the assistant's replies.

    What a reply is, is found by rendering the chat template with and without it, so any template works whose
    rendering of the first messages is the beginning of its rendering of all. A reply's end mark is learnt too.

    Prompt and reply are tokenized apart, as in use, where the prompt's ids are given and the reply's are generated. In
    one piece, a template without a line break or a special token between them would give the border another token,
    which the model would never be in a position to write.

    Returns:
        (input_ids, labels), of equal lengths.

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
    return ids, labels


def first_reply(messages: list[dict[str, str]], tok: Any) -> int:
    """Index of the first token with a loss.

    Raises:
        DataError: as `encode`.
    """
    _, labels = encode(messages, tok)
    return next((at for at, label in enumerate(labels) if label != IGNORED), len(labels))


def _render(tok: Any, messages: list[dict[str, str]], *, reply_follows: bool) -> str:
    from jinja2.exceptions import TemplateError

    try:
        return tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=reply_follows)
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise DataError(f"the chat template cannot render {str(messages)[:120]}: {error}") from error


def _ids(tok: Any, text: str) -> list[int]:
    return tok(text, add_special_tokens=False)["input_ids"]


@dataclass
class _Rows:
    """Conversations of one source as rows."""

    rows: list[dict[str, list[int]]] = field(default_factory=list)
    #: Of each, which of those that could be read it was, from 1.
    numbers: list[int] = field(default_factory=list)
    read: int = 0
    cut: int = 0

    def loss_tokens(self) -> int:
        return sum(label != IGNORED for row in self.rows for label in row["labels"][1:])


def _encoded(given: Iterable[dict[str, Any]], tok: Any, max_length: int, dropped: Counter[str]) -> _Rows:
    found = _Rows()
    for row in given:
        found.read += 1
        whole, labels = encode(row["messages"], tok)
        ids, labels = whole[:max_length], labels[:max_length]
        if all(label == IGNORED for label in labels):
            dropped[TOO_LONG] += 1
            continue
        found.cut += len(whole) > max_length
        found.numbers.append(found.read)
        found.rows.append({"input_ids": ids, "labels": labels, "attention_mask": [1] * len(ids)})
    return found


def dataset(
    rows: Iterable[dict[str, Any]],
    tok: Any,
    *,
    max_length: int,
    replay: Iterable[dict[str, Any]] = (),
    replay_share: float = 0.0,
    heldout: Iterable[dict[str, Any]] = (),
    dropped: Counter[str] | None = None,
) -> Data:
    """Conversations to train on, one a row; those of ``replay`` behind the others.

    Args:
        replay: conversations in the language that the model knows, repeated in their order where there are fewer than
            ``replay_share`` of all rows asks for.
        heldout: conversations to measure on the way.
        dropped: conversations by reason that reading drops (`fastvocab.corpus.chat.REASONS`), filled while they are
            taken.

    Returns:
        `Data`; its figures are ``read`` (usable conversations), ``rows`` (of them, in training), ``heldout_rows``,
        ``replay_rows`` and ``replay_repeats``, ``cut`` (longer than ``max_length``, their end left out), ``dropped`` by
        reason, ``tokens``, and ``loss_tokens`` with a loss.

    Raises:
        DataError: if there is no template, or no row is left.
    """
    from datasets import Dataset

    if not tok.chat_template:
        raise DataError(
            "the base model has no chat template", fix="give one with instruct.template=FILE (Jinja)"
        )
    gone = Counter[str]() if dropped is None else dropped
    new = _encoded(rows, tok, max_length, gone)
    if not new.rows:
        raise DataError(
            f"no conversation is left to train on: {new.read} could be read, dropped were "
            + (", ".join(f"{count} ({reason})" for reason, count in gone.items()) or "none"),
            fix="check instruct.train, and instruct.max_length",
        )
    old = _encoded(replay, tok, max_length, gone) if replay_share else _Rows()
    extra = round(len(new.rows) * replay_share / (1 - replay_share)) if old.rows else 0
    again = [number % len(old.rows) for number in range(extra)]
    out = new.rows + [old.rows[number] for number in again]
    numbers = new.numbers + [old.numbers[number] for number in again]
    watched = _encoded(heldout, tok, max_length, Counter())
    figures = {
        "heldout_rows": len(watched.rows),
        "read": new.read + old.read,
        "rows": len(new.rows),
        "replay_rows": extra,
        "replay_repeats": extra / len(old.rows) if old.rows else 0.0,
        "cut": new.cut + old.cut,
        "tokens": sum(len(row["input_ids"]) for row in out),
        "loss_tokens": _Rows(out).loss_tokens(),
        "dropped": dict(gone),
    }
    _say(figures, max_length)

    def origin(row: int) -> str:
        source = "instruct.train" if row < len(new.rows) else "instruct.replay"
        return f"number {numbers[row]} of the conversations to train on, from {source}"

    return Data(
        Dataset.from_list(out), figures, collate=pad, origin=origin, kind="conversation", heldout=watched.rows
    )


def _say(figures: dict[str, Any], max_length: int) -> None:
    """What there is to train on, and what was cut and dropped, and why, in a line."""
    parts = [f"{figures['rows']:,} conversations"]
    if figures["replay_rows"]:
        parts.append(f"{figures['replay_rows']:,} in the original language")
    parts.append(f"{figures['loss_tokens']:,} tokens of replies")
    if figures["cut"]:
        parts.append(f"{figures['cut']:,} cut at {max_length} tokens (instruct.max_length)")
    parts += [f"{count:,} dropped: {reason}" for reason, count in figures["dropped"].items()]
    console.say(f"  {', '.join(parts)}")
