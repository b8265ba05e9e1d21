"""What a model says."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fastvocab.errors import CheckpointError
from fastvocab.layout import KEY, Layout
from fastvocab.model import backend, text


def generate(
    model: Any,
    tok: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    chat: bool = False,
    temperature: float = 0.0,
) -> list[str]:
    """Continue each prompt.

    Args:
        chat: put the prompt into the chat template as the user's message.
        temperature: 0 is greedy.

    Returns:
        The new text of each, special tokens left out. Rows of the matrix that no token has are never sampled.
    """
    rows = [prompt_ids(tok, prompt, chat=chat) for prompt in prompts]
    return decode(
        tok, continuations(model, tok, rows, max_new_tokens=max_new_tokens, temperature=temperature)
    )


def parsed(
    model: Any,
    tok: Any,
    prompt: str,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    system: str | None = None,
) -> dict[str, Any]:
    """A reply taken apart: as ``instruct.reply`` laid it out, else by the ``response_template`` of the tokenizer.

    Args:
        system: what the system says before.

    Returns:
        ``well_formed``; the ``fields``, empty where it is not; and the ``text`` of the reply.

    Raises:
        CheckpointError: the tokenizer knows of neither.
    """
    layout, template = tok.init_kwargs.get(KEY), getattr(tok, "response_template", None)
    if not layout and not template:
        raise CheckpointError(
            f"the model's replies have no layout: neither {KEY} nor response_template is in its tokenizer_config.json",
            fix="instruct.reply='<think>{reasoning}</think><answer>{output}</answer>' lays replies out; or leave "
            "--parse out",
        )
    ids = chat_ids(tok, conversation(prompt, system)) if system else prompt_ids(tok, prompt, chat=True)
    marks = layout or json.dumps(template, ensure_ascii=False)
    # special tokens that are part of the layout are part of what is said
    keep = [i for token, i in tok.get_added_vocab().items() if token in marks and i != tok.eos_token_id]
    written = continuations(
        model, tok, [ids], max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, keep=keep
    )
    text = decode(tok, written, keep=True)[0].strip()
    if layout:
        fields = Layout(layout).read(text)
    else:
        try:
            fields = tok.parse_response(text, prefix=tok.decode(ids))
        except ValueError:  # a field that may not be missing is
            fields = None
    return {"well_formed": fields is not None, "fields": fields or {}, "text": text}


def decode(tok: Any, ids: list[list[int]], *, keep: bool = False) -> list[str]:
    """The text of what `continuations` gives; with ``keep`` that of special tokens too."""
    if not ids:
        return []  # transformers takes no rows for one empty row
    return tok.batch_decode(ids, skip_special_tokens=not keep, clean_up_tokenization_spaces=False)


def prompt_ids(tok: Any, prompt: str, *, chat: bool) -> list[int]:
    """A prompt as the model gets it: in the chat template as the user's message, or after a BOS."""
    if chat and tok.chat_template:
        return chat_ids(tok, [{"role": "user", "content": prompt}])
    return [text.bos_id(tok), *text.encode(tok, [prompt])[0]]


def conversation(prompt: str, system: str | None = None) -> list[dict[str, str]]:
    """The messages that begin a conversation."""
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": prompt}]


def chat_ids(tok: Any, messages: Sequence[dict[str, str]]) -> list[int]:
    """A conversation as the model gets it before it replies."""
    shown = tok.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    return tok(shown, add_special_tokens=False)["input_ids"]


def continuations(
    model: Any,
    tok: Any,
    rows: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_seconds: float | None = None,
    keep: Collection[int] = (),
    stop: Collection[int] = (),
    streamer: Any = None,
) -> list[list[int]]:
    """Ids of what follows each row of ids, without special tokens and padding.

    A model that is being trained is in training again afterwards, its random states untouched where ``temperature`` is
    0.

    Args:
        top_p: with a temperature, only of the likeliest tokens that have this probability together.
        max_seconds: stop, in the middle of a sentence, after so long.
        keep: special tokens that are part of what is said, such as tags.
        stop: tokens that end a reply; none: those that the model's generation settings name.
        streamer: is given each token as it is made (transformers' ``streamer``); for one row.
    """
    import torch

    if not rows or not max_new_tokens:
        return [[] for _ in rows]
    width = max(map(len, rows))
    pad = tok.pad_token_id if tok.pad_token_id is not None else text.bos_id(tok)
    device = model.get_input_embeddings().weight.device
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    more: dict[str, Any] = (
        {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    )
    if temperature and top_p < 1:
        more["top_p"] = top_p
    if stop:
        more["eos_token_id"] = sorted(stop)
    text.suppress_unused(model, tok)  # a base that was just loaded does not know of its own padding
    # what a library keeps from here (masks, rotary tables) may be used in training next
    graph = torch.no_grad() if model.training else torch.inference_mode()
    # no autocast of its own: it would cast every weight anew for each single token (`backend.reading` does it once)
    with _switched(model), graph:
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            max_time=max_seconds,
            pad_token_id=pad,
            streamer=streamer,
            **more,
        )
    special = unsaid(tok, keep)
    return [[i for i in row if i not in special] for row in out[:, width:].tolist()]


def unsaid(tok: Any, keep: Collection[int] = ()) -> set[int]:
    """Tokens that are no part of what is said: special ones and padding, but for ``keep``."""
    pad = tok.pad_token_id if tok.pad_token_id is not None else text.bos_id(tok)
    return {*tok.all_special_ids, pad} - set(keep)


@contextmanager
def _switched(model: Any) -> Iterator[None]:
    """`backend.generating`, but for a model of plain transformers in a program without unsloth (12 s to import)."""
    if "unsloth" not in sys.modules:
        yield
        return
    with backend.generating(model):
        yield
