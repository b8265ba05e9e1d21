"""Text of a run as it is shown: cut short, by prompt, and with the language that it is in."""

from __future__ import annotations

import unicodedata
from typing import Any

#: Points whose name does not say what they are.
POINTS = {"base": "before", "extend": "untrained", "control": "no new tokens", "plain": "plain way"}
#: Characters of a document that are shown.
_OPENING = 200


def opening(text: str, length: int = _OPENING) -> str:
    """The beginning of a document on one line, not cut between a letter and its marks."""
    line = " ".join(text[: 4 * length].split())
    if len(line) <= length:
        return line + ("…" if len(text) > 4 * length else "")
    end = length
    while end > 1 and unicodedata.category(line[end]).startswith("M"):
        end -= 1
    return line[:end].rstrip() + "…"


def by_prompt(said: list[tuple[str, str, str, str]], language: str | None) -> list[dict[str, Any]]:
    """(who, what that is, prompt, text) by prompt, the prompt itself left out of the text."""
    prompts: dict[str, list[tuple[str, str, str, str | None]]] = {}
    for who, gloss, prompt, text in said:
        alone = text.removeprefix(prompt)
        prompts.setdefault(prompt, []).append((who, gloss, alone, lang(alone, language)))
    return [
        {"prompt": prompt, "lang": lang(prompt, language), "texts": texts}
        for prompt, texts in prompts.items()
    ]


def lang(text: str, language: str | None) -> str | None:
    """The new language's code for text in its script, so that the browser picks its glyphs (Han, Cyrillic).

    Latin letters tell nothing: the text may as well be in the original language.
    """
    from fastvocab.unicode import dominant_scripts, language_scripts, letter_scripts

    if language is None:
        return None
    scripts = dominant_scripts(letter_scripts(text))
    return language if scripts & (language_scripts(language) - {"Latn"}) else None
