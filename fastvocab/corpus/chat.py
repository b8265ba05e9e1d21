"""Chat rows of the ordinary shapes, as ``{"messages": [{"role": ..., "content": ...}, ...]}``.

| shape | fields |
|---|---|
| messages | ``messages``: list of ``role``, ``content`` (OpenAI, TRL) |
| sharegpt | ``conversations``: list of ``from``, ``value``; human or user, gpt or assistant, system |
| alpaca | ``instruction``, ``output``, and ``input`` if there is one |
| prompt/completion | ``prompt``, ``completion``: two strings, or two lists of messages (TRL) |

Columns may have other names (``columns``), and a reply may be laid out from several of them (`fastvocab.layout`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastvocab.corpus.clean import clean_text
from fastvocab.corpus.items import Display, Row, names
from fastvocab.corpus.read import rows
from fastvocab.errors import DataError
from fastvocab.layout import Layout

#: Why a row is dropped.
REASONS = {
    "empty_prompt": "a message of the user or the system has no text",
    "empty_reply": "a message of the assistant has no text",
    "roles_out_of_order": "user and assistant do not alternate, beginning with the user",
    "last_not_assistant": "the last message is not the assistant's, so that nothing answers it",
    "empty_field": "a field of the reply has no text",
    "not_in_layout": "the reply is not laid out as instruct.reply has it",
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
    sources: str | Sequence[str],
    *,
    display: Display | None = None,
    dropped: Counter[str] | None = None,
    columns: Mapping[str, str] | None = None,
    reply: Layout | None = None,
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
        columns: what fields are called in these rows, by the name that they have here.
        reply: how the reply of a row with an instruction or a prompt is written from the row's fields. Replies that
            come as messages must be laid out so already.

    Raises:
        DataError: missing or damaged sources; a row of no known shape, or without a field that ``columns`` or ``reply``
            names, with its place and its fields.
        DependencyError: a package source that is not installed.
    """
    read = rows(sources, display=display)
    return _chat_rows(read, Counter() if dropped is None else dropped, columns or {}, reply)


def _chat_rows(
    read: Iterator[Row], dropped: Counter[str], columns: Mapping[str, str], reply: Layout | None
) -> Iterator[dict[str, list[_Message]]]:
    for given in read:
        row = _renamed(given, columns) if columns else given
        turns = _turns(row, reply)
        messages = [_normal(role, content, row.source) for role, content in turns]
        reason = _fault(messages)
        if reply is not None and reason is None and reply.read(messages[-1]["content"]) is None:
            reason = "empty_field" if _is_laid_out(row) else "not_in_layout"
        if reason:
            dropped[reason] += 1
        else:
            yield {"messages": messages}


def _renamed(row: Row, columns: Mapping[str, str]) -> Row:
    """A row with the names that fields have here."""
    if not isinstance(row.fields, dict):
        return row
    if missing := [name for name in columns.values() if name not in row.fields]:
        raise DataError(
            f"{row.source} has no field {', '.join(map(repr, missing))}; it has: {names(row.fields)}",
            rule="instruct.columns says what the fields of the rows are called",
            fix=f"instruct.columns.{next(k for k, v in columns.items() if v == missing[0])}=NAME",
        )
    taken = set(columns.values())
    kept = {name: value for name, value in row.fields.items() if name not in taken}
    return replace(row, fields=kept | {own: row.fields[name] for own, name in columns.items()})


def _is_laid_out(row: Row) -> bool:
    """Is the reply of a row written from its fields, rather than there as a message?"""
    return not {"messages", "conversations"} & row.fields.keys()


def _reply(row: Row, reply: Layout | None, own: str) -> Any:
    """The reply of a row: the field ``own``, or what the layout makes of several."""
    if reply is None:
        return row.fields[own]
    values = {
        name: row.fields.get(name, row.fields.get(own) if name == "output" else None) for name in reply.fields
    }
    if missing := [name for name, value in values.items() if value is None and name not in row.fields]:
        raise DataError(
            f"{row.source} has no field {', '.join(map(repr, missing))}; it has: {names(row.fields)}",
            rule=f"instruct.reply lays replies out from {', '.join(reply.fields)}",
            fix=f"name the field: instruct.columns.{missing[0]}=NAME",
        )
    if odd := [
        name
        for name, value in values.items()
        if value is not None and not isinstance(value, str | int | float)
    ]:
        raise _malformed(row, odd[0], "text or a number")
    return reply.write({name: "" if value is None else str(value).strip() for name, value in values.items()})


def _turns(row: Row, reply: Layout | None = None) -> list[tuple[Any, Any]]:
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
            if role == "assistant" and not isinstance(value, list):
                value = _reply(row, reply, name)
            parts += _listed(value, name, row) if isinstance(value, list) else [(role, value)]
        return parts
    if "instruction" in fields and ("output" in fields or reply is not None):
        given = [part for part in (fields["instruction"], fields.get("input")) if part]
        if not all(isinstance(part, str) for part in given):
            raise _malformed(row, "instruction", "strings")
        return [("user", "\n\n".join(given)), ("assistant", _reply(row, reply, "output"))]
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
