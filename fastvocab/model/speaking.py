"""A model that speaks: replies that are shown as they are made, and measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from fastvocab.errors import ConfigError
from fastvocab.model import backend, generation
from fastvocab.model.open import Opened

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Manner:
    """How to reply.

    Attributes:
        tokens: the longest reply.
        temperature: 0 is greedy; ``top_p`` and ``seed`` are for what is drawn.
        raw: continue the text instead of answering it as a chat.
        system: what the system says before a chat.
    """

    tokens: int = 120
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    raw: bool = False
    system: str | None = None


@dataclass(frozen=True)
class Reply:
    """A reply and how long it took.

    Attributes:
        tokens: of the reply, without special ones; ``prompt_tokens`` those of all that the model was given.
        seconds: until the last token; ``seconds_to_first`` until the first one, in which the prompt is read.
        finished: did the model end it, rather than its longest length or a person?
        interrupted: was it a person?
    """

    prompt: str
    text: str
    prompt_tokens: int
    tokens: int
    seconds: float
    seconds_to_first: float | None
    finished: bool
    interrupted: bool = False

    @property
    def tokens_per_second(self) -> float | None:
        """Of the tokens after the first one: reading the prompt is not in it. None where there are none."""
        if self.tokens < 2 or self.seconds_to_first is None:
            return None
        return (self.tokens - 1) / max(self.seconds - self.seconds_to_first, 1e-9)

    @property
    def characters_per_second(self) -> float | None:
        """At that rate, as many characters as this reply's tokens have."""
        rate = self.tokens_per_second
        return None if rate is None else rate * len(self.text) / self.tokens

    def as_json(self) -> dict[str, Any]:
        """All of it, with the rates."""

        def rounded(value: float | None) -> float | None:
            return None if value is None else round(value, 3)

        return {
            "prompt": self.prompt,
            "text": self.text,
            "prompt_tokens": self.prompt_tokens,
            "tokens": self.tokens,
            "characters": len(self.text),
            "seconds": rounded(self.seconds),
            "tokens_per_second": rounded(self.tokens_per_second),
            "characters_per_second": rounded(self.characters_per_second),
            "seconds_to_first": rounded(self.seconds_to_first),
            "finished": self.finished,
        }

    def line(self) -> str:
        """The same for people, in one line."""
        said = [f"{self.tokens} token{'' if self.tokens == 1 else 's'}"]
        if self.tokens_per_second is not None and self.characters_per_second is not None:
            said.append(f"{self.tokens_per_second:.1f} tokens/s")
            said.append(f"{self.characters_per_second:.0f} characters/s")
        if self.seconds_to_first is not None:
            said.append(f"first after {self.seconds_to_first:.2f} s")
        if self.interrupted:
            said.append("stopped")
        elif not self.finished:
            said.append("cut at its longest length")
        return ", ".join(said)


class Stream:
    """transformers' ``streamer`` that shows text as soon as its characters are whole.

    transformers' own waits for a space, so that Thai, Khmer or Georgian would appear at the end; this one shows each
    token, but holds back what ends in the middle of a character: byte tokens spell one of two to four bytes.

    Attributes:
        text: what was shown.
        count: of tokens that are said; ``first`` and ``last`` when such tokens came, by ``time.monotonic``.
        ended: has a token come that ends a reply?
    """

    def __init__(
        self, tok: Any, unsaid: set[int], stop: set[int], show: Callable[[str], None] | None = None
    ) -> None:
        self._tok, self._unsaid, self._stop, self._show = tok, unsaid, stop, show
        self._ids: list[int] = []
        # of the tokens, those before _shown are shown; those from _before on are decoded with the next ones, because
        # what stands before a token may change how it is written (a SentencePiece token's space at the beginning)
        self._before = self._shown = 0
        self._prompt = True
        self.text = ""
        self.count = 0
        self.first: float | None = None
        self.last: float | None = None
        self.ended = False

    def put(self, value: Any) -> None:
        """Take the prompt, which comes first, or the next token."""
        if self._prompt:
            self._prompt = False
            return
        for token in value.reshape(-1).tolist():
            self.ended = self.ended or token in self._stop
            if token in self._unsaid:
                continue
            now = time.monotonic()
            self.first, self.last = self.first or now, now
            self.count += 1
            self._ids.append(token)
            self._more(whole=False)

    def end(self) -> None:
        """Show what was held back, whole or not; may be called twice."""
        self._more(whole=True)

    def _more(self, *, whole: bool) -> None:
        known, now = (
            self._decode(self._ids[self._before : self._shown]),
            self._decode(self._ids[self._before :]),
        )
        if len(now) <= len(known) or (now.endswith(_UNFINISHED) and not whole):
            return
        piece = now[len(known) :]
        self.text += piece
        self._before, self._shown = self._shown, len(self._ids)
        if self._show is not None:
            self._show(piece)

    def _decode(self, ids: list[int]) -> str:
        return generation.decode(self._tok, [ids], keep=True)[0] if ids else ""


def reply(
    opened: Opened,
    ids: Sequence[int],
    manner: Manner,
    *,
    prompt: str = "",
    show: Callable[[str], None] | None = None,
) -> Reply:
    """Reply to what the model is given, and show it on the way.

    Args:
        ids: of the prompt (`ids_of`).
        show: is called with each further piece of text.

    Raises:
        ConfigError: the prompt leaves no room for a reply.
    """
    import torch

    tok, room = opened.tokenizer, opened.context - len(ids)
    if room < 1:
        raise ConfigError(
            f"the prompt has {len(ids):,} tokens",
            rule=f"{opened.name} takes {opened.context:,}",
            fix="shorten it",
        )
    if manner.seed is not None:
        torch.manual_seed(manner.seed)
    stop = stops(opened)
    stream = Stream(tok, generation.unsaid(tok) | stop, stop, show)
    began, interrupted = time.monotonic(), False
    try:
        generation.continuations(
            opened.model, tok, [ids],
            max_new_tokens=min(manner.tokens, room), temperature=manner.temperature, top_p=manner.top_p,
            stop=stop, streamer=stream,
        )  # fmt: skip
    except KeyboardInterrupt:
        interrupted = True
    stream.end()
    return Reply(
        prompt=prompt,
        text=stream.text,
        prompt_tokens=len(ids),
        tokens=stream.count,
        seconds=(stream.last or time.monotonic()) - began,
        seconds_to_first=None if stream.first is None else stream.first - began,
        finished=stream.ended,
        interrupted=interrupted,
    )


def ids_of(opened: Opened, prompt: str | Sequence[dict[str, str]], manner: Manner) -> list[int]:
    """What the model is given: a text to be continued, or a conversation in its chat template.

    Raises:
        ConfigError: it has no chat template, or the template refuses the conversation.
    """
    tok = opened.tokenizer
    if manner.raw:
        assert isinstance(prompt, str), "a text"
        return generation.prompt_ids(tok, prompt, chat=False)
    if not tok.chat_template:
        raise ConfigError(
            f"{opened.name} has no chat template",
            rule="a base model continues text and cannot answer",
            fix="--raw continues the text; or tune it on conversations (instruct.train)",
        )
    from jinja2 import TemplateError

    messages = generation.conversation(prompt, manner.system) if isinstance(prompt, str) else prompt
    try:
        return generation.chat_ids(tok, messages)
    except TemplateError as error:
        raise ConfigError(
            f"the chat template of {opened.name} refuses this conversation: {error}",
            fix="leave --system out"
            if messages[0]["role"] == "system"
            else "--raw continues a text without it",
        ) from error


def stops(opened: Opened) -> set[int]:
    """Tokens that end a reply: those of the model's settings and its tokenizer, and what its chat template writes after
    a reply, which the settings of GGUF files do not always have.
    """
    tok = opened.tokenizer
    named = getattr(opened.model.generation_config, "eos_token_id", None)
    found = {*(named if isinstance(named, list) else [named]), tok.eos_token_id, _end_of_turn(tok)}
    return {token for token in found if token is not None}


def _end_of_turn(tok: Any) -> int | None:
    from jinja2 import TemplateError

    if not tok.chat_template:
        return None
    said = [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "Zq"}]
    try:
        shown = tok.apply_chat_template(said, tokenize=False)
    except TemplateError:
        return None
    after = tok(shown.rpartition("Zq")[2].lstrip(), add_special_tokens=False)["input_ids"]
    return after[0] if after and after[0] in tok.get_added_vocab().values() else None


@contextmanager
def reading(opened: Opened) -> Iterator[Opened]:
    """Inside, a checkpoint's model is as fast as it gets (`backend.reading`); it is used up afterwards."""
    if opened.kind != "checkpoint":
        yield opened
        return
    with backend.reading(opened.model) as live:
        yield replace(opened, model=live)
