"""A Modelfile for Ollama: the chat template in Go's template language, the marks at which a reply ends, the context.

Nothing of the Jinja template is translated. It is rendered for conversations of marker words, and what stands between
the words is the layout: the same after each question and after each reply, or the template changes with the turn and
cannot be said in a Modelfile. What the Go template gives is then compared with the Jinja template on other
conversations.

As of Ollama 0.12 (``template/template.go``): consecutive messages of one role come as one, ``.System`` has the
instructions, ``.Messages`` all turns; BOS is put in front by llama.cpp where the file says so, and would stand there
twice if the template had it too. Two things are not the same: a template that strips a message's outer white space
(Llama-3's does) strips it there only, and a date in it stays that of its default.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from fastvocab import files
from fastvocab.errors import ConfigError, ModelError
from fastvocab.export.gguf import chat

#: Ollama sets memory for the whole context aside when a model is loaded: a model's own 131,072 would fill a laptop.
MOST_CONTEXT = 8192

#: What Llama-3.1 and later say where they are not told the day.
_DATE = "26 Jul 2024"


@dataclass(frozen=True)
class Turns:
    """How a chat template lays out a conversation that begins with a question.

    Attributes:
        start: before the first question where there are no instructions; a default instruction may be in it.
        before_system, after_system: around the instructions, up to the first question; None where they have no place.
        reply: from a question to the reply that the model is to write.
        written: what stands before a reply that was written earlier, beyond that (Mistral's templates: a space).
        question: from a reply to the next question; begins with what ends the reply.
    """

    start: str
    before_system: str | None
    after_system: str | None
    reply: str
    written: str
    question: str

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        """The prompt that ends where the next reply begins."""
        turns = list(messages)
        text = self.start
        if turns and turns[0]["role"] == "system":
            text = f"{self.before_system}{turns.pop(0)['content']}{self.after_system}"
        for message, following in zip_longest(turns, turns[1:]):
            behind = self.question if message["role"] == "assistant" else self.reply
            text += message["content"] + behind + (self.written if following and behind is self.reply else "")
        return text

    def go(self) -> str:
        """The same in Go's template language; without trim marks, so that white space stays what it is."""
        start = _literal(self.start)
        if self.before_system is not None and self.after_system is not None:
            system = f"{_literal(self.before_system)}{{{{ .System }}}}{_literal(self.after_system)}"
            start = f"{{{{ if .System }}}}{system}{{{{ else }}}}{start}{{{{ end }}}}"
        more = "gt (len (slice $.Messages $i)) 1"
        written = f"{{{{ if {more} }}}}{_literal(self.written)}{{{{ end }}}}" if self.written else ""
        return (
            f"{start}{{{{ range $i, $_ := .Messages }}}}"
            f'{{{{ if eq .Role "user" }}}}{{{{ .Content }}}}{_literal(self.reply)}{written}'
            '{{ else if eq .Role "assistant" }}{{ .Content }}'
            f"{{{{ if {more} }}}}{_literal(self.question)}{{{{ end }}}}"
            "{{ end }}{{ end }}"
        )


def _literal(text: str) -> str:
    """``text`` that means itself in a Go template."""
    return text.replace("{{", '{{ "{{" }}')


def write(
    folder: Path, gguf_file: Path, tokenizer_folder: Path, *, system: str | None = None
) -> dict[str, Any]:
    """Write ``folder/Modelfile`` for a GGUF file.

    Args:
        folder: existing.
        gguf_file: what `fastvocab.export.gguf.write` wrote; best in ``folder``.
        tokenizer_folder: the Hugging Face folder that it was made of, with the chat template.
        system: instructions that every conversation begins with.

    Returns:
        ``{"name", "modelfile", "template", "stop", "num_ctx", "system", "notes", "start"}``; ``start`` is what to type.

    Raises:
        ConfigError: there is a Modelfile already, or the instructions have no place in the chat template.
        ModelError: there is no chat template, or one that a Modelfile cannot say.
    """
    from fastvocab.export.gguf import readback
    from fastvocab.tokenizer.folder import load_auto

    path = folder / "Modelfile"
    if path.exists():
        raise ConfigError(f"{path} is there already", fix="choose another folder, or remove it")
    tokenizer = load_auto(tokenizer_folder)
    turns, notes = find(tokenizer, tokenizer_folder)
    if system is not None and turns.before_system is None:
        raise ConfigError(
            "instructions (system) were given, and the chat template has no place for them",
            fix="leave them out, or write them into the first question",
        )
    if system is not None and '"""' in system:
        raise ConfigError('instructions with """ in them', rule='a Modelfile quotes with """')
    context, adds_bos = readback.header(gguf_file)
    if adds_bos:
        turns, more = _without_bos(turns, str(tokenizer.bos_token))
        notes += more
    stop = _stops(turns, tokenizer, tokenizer_folder)
    name = re.sub(r"[^a-z0-9._-]+", "-", gguf_file.stem.lower()).strip("-._") or "model"
    source = f"./{gguf_file.name}" if gguf_file.parent == folder else str(gguf_file)
    start = [f"ollama create {name} -f Modelfile", f"ollama run {name}"]
    lines = [
        *(f"# {line}" for line in (*start, *notes)),
        f"FROM {source}",
        f'TEMPLATE """{turns.go()}"""',
        *(f"PARAMETER stop {_quoted(text)}" for text in stop),
        f"PARAMETER num_ctx {min(context, MOST_CONTEXT)}",
        *([f'SYSTEM """{system}"""'] if system is not None else []),
    ]
    files.write_text(path, "\n".join(lines) + "\n")
    return {
        "name": name,
        "modelfile": str(path),
        "template": turns.go(),
        "stop": stop,
        "num_ctx": min(context, MOST_CONTEXT),
        "system": turns.before_system is not None,
        "notes": notes,
        "start": start,
    }


def find(tokenizer: Any, folder: Path) -> tuple[Turns, list[str]]:
    """The layout of a tokenizer's chat template, and what a user should know of it.

    Raises:
        ModelError: there is no template, or it is not the same at every turn.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            f"{folder} has no chat template",
            rule="Ollama asks a model in turns",
            fix="tune it on conversations (instruct.train), or put a chat_template.jinja into the folder",
        )
    notes = []
    marks = [f"QQ{n}ZZ" for n in range(5)]
    said = [{"role": ("user", "assistant")[n % 2], "content": mark} for n, mark in enumerate(marks)]
    plain = _parts(tokenizer, said, marks)
    if plain is None:
        raise _changing(
            folder, "a conversation of three questions is not rendered in the order in which it was said"
        )
    replies, questions, reply = plain[1:-1:2], plain[2:-1:2], plain[-1]
    if len(set(replies)) > 1 or len(set(questions)) > 1:
        odd = replies if len(set(replies)) > 1 else questions
        raise _changing(folder, f"what follows a turn is {odd[0]!r} once and {odd[-1]!r} then")
    if not replies[0].startswith(reply):
        raise _changing(
            folder, f"a reply is to follow {reply!r}, and once it is there it follows {replies[0]!r}"
        )
    before, after = None, None
    with_system = _parts(tokenizer, [{"role": "system", "content": "SS0ZZ"}, *said], ["SS0ZZ", *marks])
    if with_system is not None and with_system[2:] == plain[1:]:
        before, after = with_system[:2]
    else:
        notes.append(
            "The chat template has no place for instructions (system) before the conversation: they are left out."
        )
    turns = Turns(plain[0], before, after, reply, replies[0][len(reply) :], questions[0])
    if '"""' in turns.go():
        raise _changing(folder, 'it has """ in it')
    for messages in (*chat.conversations(False), *(chat.conversations(True) if before is not None else [])):
        expected = _render(tokenizer, messages)
        if expected != turns.render(messages):
            raise _changing(
                folder, f"{expected!r} was expected and {turns.render(messages)!r} is what turns give"
            )
    if "strftime_now" in str(tokenizer.chat_template):
        notes.append("The chat template names the day; here it stays the same.")
    return turns, notes


def _render(tokenizer: Any, messages: Sequence[dict[str, str]]) -> str | None:
    return chat.render(tokenizer, messages, date_string=_DATE)


def _parts(tokenizer: Any, messages: list[dict[str, str]], marks: list[str]) -> list[str] | None:
    """What stands before, between and after the marks; None where they are not all there once and in order."""
    text = _render(tokenizer, messages)
    if text is None or any(text.count(mark) != 1 for mark in marks):
        return None
    places = [text.index(mark) for mark in marks]
    if places != sorted(places):
        return None
    ends = [0, *(place + len(mark) for place, mark in zip(places, marks))]
    return [text[start:stop] for start, stop in zip(ends, [*places, len(text)])]


def _changing(folder: Path, why: str) -> ModelError:
    return ModelError(
        f"{folder}: the chat template cannot be said in a Modelfile: {why}",
        rule="every question and every reply are laid out alike",
        fix="export as gguf: llama.cpp's own server (llama-server --jinja) reads the template as it is",
    )


def _without_bos(turns: Turns, bos: str) -> tuple[Turns, list[str]]:
    """The layout without the BOS that llama.cpp puts in front of every prompt."""
    starts = [text for text in (turns.start, turns.before_system) if text is not None]
    if not all(text.startswith(bos) for text in starts):
        return turns, [f"The prompt begins with {bos}, which the chat template alone does not have."]
    before = turns.before_system and turns.before_system.removeprefix(bos)
    return replace(turns, start=turns.start.removeprefix(bos), before_system=before), []


def _stops(turns: Turns, tokenizer: Any, folder: Path) -> list[str]:
    """Texts at which a reply ends: the special token behind it, or the words; and EOS."""
    special = [str(token) for token in tokenizer.get_added_vocab() if turns.question.startswith(str(token))]
    first = max(special, key=len) if special else turns.question.strip().split("\n")[0]
    if not first:
        raise _changing(folder, "nothing ends a reply")
    eos = [str(tokenizer.eos_token)] if tokenizer.eos_token else []
    return list(dict.fromkeys([first, *eos]))


def _quoted(text: str) -> str:
    return f'"""{text}"""' if '"' in text or "\n" in text else f'"{text}"'
