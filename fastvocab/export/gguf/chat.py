"""Conversations rendered by a tokenizer's chat template: what a program with a template of its own must send too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Messages = list[dict[str, str]]

_USER = ("Що це за слово?", "How many is 12 and 30?\n\n  Write it down.", "नमस्ते दुनिया, नाम क्या है?", "A")
_REPLY = ("Це “слово”, 42.", "It is 42.", "B!", "дім і море")


def conversations(system: bool) -> list[Messages]:
    """One question, a second one after a reply, and two more; with or without instructions first."""
    first = [{"role": "system", "content": "Answer briefly. Відповідай коротко."}] if system else []
    turns: Messages = []
    found: list[Messages] = []
    for asked, replied in zip(_USER, _REPLY):
        turns.append({"role": "user", "content": asked})
        found.append([*first, *turns])
        turns.append({"role": "assistant", "content": replied})
    return found


def render(tokenizer: Any, messages: Sequence[dict[str, str]], **given: Any) -> str | None:
    """A conversation as a prompt; None where the template refuses it (some take no system message).

    Args:
        given: variables of the template.
    """
    from jinja2.exceptions import TemplateError

    try:
        return tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, **given
        )
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError):
        return None


def rendered(tokenizer: Any) -> list[str]:
    """All of `conversations` that the tokenizer's template renders; none where it has no template."""
    if not tokenizer.chat_template:
        return []
    texts = [render(tokenizer, messages) for system in (False, True) for messages in conversations(system)]
    return [text for text in texts if text is not None]
