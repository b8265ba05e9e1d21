"""Chat rows of the ordinary shapes, as ``{"messages": [{"role": ..., "content": ...}, ...]}``.

| shape | fields |
|---|---|
| messages | ``messages``: list of ``role``, ``content`` (OpenAI, TRL) |
| sharegpt | ``conversations``: list of ``from``, ``value``; human or user, gpt or assistant, system |
| alpaca | ``instruction``, ``output``, and ``input`` if there is one |
| prompt/completion | ``prompt``, ``completion``: two strings, or two lists of messages (TRL) |
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from fastvocab.corpus.clean import clean_text
from fastvocab.corpus.items import Display, Row, names
from fastvocab.corpus.read import rows
from fastvocab.errors import DataError

#: Why a row is dropped.
REASONS = {
    "empty_prompt": "a message of the user or the system has no text",
    "empty_reply": "a message of the assistant has no text",
    "roles_out_of_order": "user and assistant do not alternate, beginning with the user",
    "last_not_assistant": "the last message is not the assistant's, so that nothing answers it",
    "other_role": "a role besides system, user and assistant (tool calls, say)",
}

SHAPES = "messages; conversations (from, value); instruction, input, output; prompt, completion"

_ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user", "assistant": "assistant", "gpt": "assistant",
    "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
}  # fmt: skip

_Message = dict[str, str]


def chat_rows(
    sources: str | Sequence[str], *, display: Display | None = None, dropped: Counter[str] | None = None
) -> Iterator[dict[str, list[dict[str, str]]]]:
    """Conversations of ``sources``, as messages that end with one of the assistant.

    Contents are cleaned as a corpus is (`clean.clean_text`), so that both spell alike. What cannot be learnt
    from is dropped and counted; what is of no known shape is an error, because then all of the file is.

    Args:
        sources: as for `read.rows`: jsonl, json, csv, parquet, ``hf:...``,
            ``package:chatterbot-corpus/ukrainian``.
            In csv, a list of messages is a cell of JSON.
        display: called with the number of bytes read since its last call.
        dropped: filled while the rows are taken: rows by reason (`REASONS`).

    Raises:
        DataError: missing or damaged sources; a row of no known shape, with its place and its fields.
        DependencyError: a package source that is not installed.
    """
    return _chat_rows(rows(sources, display=display), Counter() if dropped is None else dropped)


def _chat_rows(read: Iterator[Row], dropped: Counter[str]) -> Iterator[dict[str, list[_Message]]]:
    for row in read:
        messages = [_normal(role, content, row.source) for role, content in _turns(row)]
        reason = _fault(messages)
        if reason:
            dropped[reason] += 1
        else:
            yield {"messages": messages}


def _turns(row: Row) -> list[tuple[Any, Any]]:
    """``(role, content)`` of a row of any shape, as they stand in it."""
    fields = row.fields
    if not isinstance(fields, dict):
        raise DataError(f"{row.source} is no object with fields", rule=f"a chat row has: {SHAPES}")
    for name in ("messages", "conversations"):
        if name in fields:
            return _listed(fields[name], name, row)
    if "prompt" in fields and "completion" in fields:
        parts: list[tuple[Any, Any]] = []
        for name, role in (("prompt", "user"), ("completion", "assistant")):
            value = fields[name]
            parts += _listed(value, name, row) if isinstance(value, list) else [(role, value)]
        return parts
    if "instruction" in fields and "output" in fields:
        given = [part for part in (fields["instruction"], fields.get("input")) if part]
        if not all(isinstance(part, str) for part in given):
            raise _malformed(row, "instruction", "strings")
        return [("user", "\n\n".join(given)), ("assistant", fields["output"])]
    raise DataError(
        f"{row.source} has none of the fields of a chat row; it has: {names(fields)}",
        rule=f"a chat row has: {SHAPES}",
        fix="rename the fields; plain text belongs into corpus.train",
    )


def _malformed(row: Row, name: str, rule: str) -> DataError:
    return DataError(
        f"{row.source}: {name} is {str(row.fields[name])[:60]!r}", rule=f"{name} is made of {rule}"
    )


def _listed(value: Any, name: str, row: Row) -> list[tuple[Any, Any]]:
    if isinstance(value, str):  # a cell of a csv file
        try:
            value = json.loads(value)
        except ValueError:
            raise _malformed(row, name, "messages; in csv, written as JSON") from None
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise _malformed(row, name, "messages, each with role and content, or from and value")
    turns = []
    for turn in value:
        role = turn.get("role", turn.get("from"))
        if role is None or not ("content" in turn or "value" in turn):
            raise DataError(
                f"{row.source}: a message has the fields {names(turn)}",
                rule="role and content, or from and value",
            )
        turns.append((role, turn.get("content", turn.get("value"))))
    return turns


def _normal(role: Any, content: Any, where: str) -> _Message:
    if isinstance(content, list):  # OpenAI's parts; images and the like have no text
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if content is not None and not isinstance(content, str):
        raise DataError(f"{where}: a message's content is {str(content)[:60]!r}", rule="content is a string")
    text = clean_text(content or "").strip()
    if not _encodes(text):
        text = ""
    return {"role": _ROLES.get(str(role).lower(), "other"), "content": text}


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _fault(messages: list[_Message]) -> str | None:
    if any(message["role"] == "other" for message in messages):
        return "other_role"
    for message in messages:
        if not message["content"]:
            return "empty_reply" if message["role"] == "assistant" else "empty_prompt"
    turns = messages[1:] if messages and messages[0]["role"] == "system" else messages
    if any(message["role"] != ("user", "assistant")[number % 2] for number, message in enumerate(turns)):
        return "roles_out_of_order"
    if not turns or turns[-1]["role"] != "assistant":
        return "last_not_assistant"
    return None
