"""Verbs that let a model speak: generate, recommend."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fastvocab import console
from fastvocab.cli.app import BASE, JSON, app, newest, print_json, printable

if TYPE_CHECKING:
    from fastvocab.model.open import Opened
    from fastvocab.model.speaking import Manner, Reply


@app.command()
def generate(
    path: Path = typer.Argument(help="A run folder, a checkpoint, a Hugging Face folder or a .gguf file."),
    prompt: list[str] = typer.Argument(None, help="What to say. Without it: a chat, or standard input."),
    tokens: int = typer.Option(120, min=1, help="Length of the reply, in tokens."),
    temperature: float = typer.Option(0.0, min=0.0, max=5.0, help="0 is greedy."),
    top_p: float = typer.Option(
        1.0, min=0.01, max=1.0, help="Draw of the likeliest tokens that have this probability together."
    ),
    seed: int | None = typer.Option(None, min=0, help="Of what is drawn."),
    raw: bool = typer.Option(False, "--raw", help="Continue the text instead of answering it as a chat."),
    parse: bool = typer.Option(
        False, "--parse", help="Take the reply apart, as instruct.reply has laid it out, and print JSON."
    ),
    system: str | None = typer.Option(None, help="What the system says before."),
    compare: bool = typer.Option(
        False,
        "--compare",
        help="The base model's reply beside it; --base says which, where the path does not.",
    ),
    base: str | None = BASE,
    as_json: bool = JSON,
) -> None:
    """Let a model speak: one reply, or a chat where no prompt is given. Replies appear as they are made.

    The reply goes to standard output, and its tokens, tokens/s and characters/s to standard error.
    """
    from fastvocab.model import open as opening
    from fastvocab.model.speaking import Manner

    text = " ".join(prompt) if prompt else None
    manner = Manner(tokens, temperature, top_p, seed, raw, system)
    _refuse(manner, text, parse=parse, compare=compare, as_json=as_json)
    if opening.kind(path) == "checkpoint":
        path = newest(path)
    if text is None and not sys.stdin.isatty():
        text = _standard_input()
    if text is None:
        _talk(path, manner, base)
    elif compare:
        _compare(path, text, manner, base, as_json)
    elif parse:
        _parsed(path, text, manner, base)
    else:
        _one(path, text, manner, base, as_json)


def _refuse(manner: Manner, text: str | None, *, parse: bool, compare: bool, as_json: bool) -> None:
    """Options that do not go together, before a model is loaded."""
    from fastvocab.errors import ConfigError

    chat = text is None and sys.stdin.isatty()
    wrong = {
        "--parse together with --raw: a reply is laid out, a text is not": parse and manner.raw,
        "--system together with --raw: a text has no system": manner.system is not None and manner.raw,
        "--parse together with --compare: a base knows of no layout": parse and compare,
        "--top-p without --temperature: nothing is drawn": manner.top_p < 1 and not manner.temperature,
        "--seed without --temperature: nothing is drawn": manner.seed is not None and not manner.temperature,
        "--raw without a prompt: there is no text to continue": chat and manner.raw,
        "--parse without a prompt": chat and parse,
        "--compare without a prompt": chat and compare,
        "--json without a prompt": chat and as_json,
    }
    if said := [what for what, is_so in wrong.items() if is_so]:
        raise ConfigError("\n".join(said), fix="leave one out")


def _standard_input() -> str:
    from fastvocab.errors import ConfigError

    text = sys.stdin.read().strip()
    if not text:
        raise ConfigError(
            "no prompt", rule="standard input is empty, and no terminal", fix='fastvocab generate PATH "..."'
        )
    return text


@contextmanager
def _opened(path: Path, base: str | None) -> Iterator[Opened]:
    """The model, loaded and as fast as it gets."""
    from fastvocab.model import open as opening
    from fastvocab.model import speaking

    with _waiting(f"loading {path}"):
        found = opening.model(path, base=base)
    with speaking.reading(found) as live:
        yield live


def _waiting(what: str) -> AbstractContextManager[object]:
    return console.console.status(what) if console.console.is_terminal else nullcontext()


def _talk(path: Path, manner: Manner, base: str | None) -> None:
    from fastvocab.cli.chat import Chat
    from fastvocab.model import speaking

    with _opened(path, base) as opened:
        speaking.ids_of(opened, "?", manner)  # a base model cannot chat: said at once
        Chat(opened, manner).loop()


def _one(path: Path, text: str, manner: Manner, base: str | None, as_json: bool) -> None:
    from fastvocab.cli.chat import show
    from fastvocab.model import speaking

    streams = sys.stdout.isatty() and not as_json
    with _opened(path, base) as opened:
        ids = speaking.ids_of(opened, text, manner)
        found = speaking.reply(opened, ids, manner, prompt=text, show=show if streams else None)
    if as_json:
        print_json(found.as_json())
    else:
        _print("\n" if streams else found.text.strip() + "\n")
        console.say(found.line(), style="dim")
    if found.interrupted:
        raise KeyboardInterrupt


def _parsed(path: Path, text: str, manner: Manner, base: str | None) -> None:
    from fastvocab.model import generation, speaking

    with _opened(path, base) as opened:
        speaking.ids_of(opened, text, manner)  # whether it can chat at all
        if manner.seed is not None:
            import torch

            torch.manual_seed(manner.seed)
        found = generation.parsed(
            opened.model, opened.tokenizer, text, max_new_tokens=manner.tokens,
            temperature=manner.temperature, top_p=manner.top_p, system=manner.system,
        )  # fmt: skip
    print_json(found)


def _compare(path: Path, text: str, manner: Manner, base: str | None, as_json: bool) -> None:
    from fastvocab.model import side_by_side

    found = []
    for which, name, reply in side_by_side.replies(path, text, manner, base=base, waiting=_waiting):
        found.append((which, name, reply))
        if not as_json and not sys.stdout.isatty():
            _print(f"{which} ({name}): {_figures(reply)}\n{reply.text.strip()}\n\n")
    if as_json:
        print_json([{"which": which, "model": name, **reply.as_json()} for which, name, reply in found])
    elif sys.stdout.isatty():
        _columns(found)


def _figures(reply: Reply) -> str:
    return f"prompt of {reply.prompt_tokens} tokens; {reply.line()}"


def _columns(found: list[tuple[str, str, Reply]]) -> None:
    """Replies beside each other."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(expand=True, show_lines=True)
    for which, name, _ in found:
        table.add_column(Text(f"{which}: {name}"), ratio=1)
    table.add_row(*(Text(printable(reply.text.strip())) for *_, reply in found))
    table.add_row(*(Text(_figures(reply), style="dim") for *_, reply in found))
    Console(file=sys.stdout, highlight=False, force_jupyter=False).print(table)


def _print(text: str) -> None:
    """Text on standard output; a reader that has gone (``| head -1``) is no error."""
    try:
        sys.stdout.write(printable(text))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.command()
def recommend(
    path: Path = typer.Argument(help="A run folder of the recipe item_tokens."),
    history: list[str] = typer.Argument(help="Ids of the items that the user took, the newest last."),
    count: int = typer.Option(10, min=1, help="How many items to recommend."),
    beams: int | None = typer.Option(None, min=1, help="Width of the beam search. Default: twice as many."),
    seen: bool = typer.Option(False, "--seen", help="Items of the history may be recommended, too."),
    base: str | None = BASE,
    as_json: bool = JSON,
) -> None:
    """Recommend the next items after a history, with the log-probability of each."""
    from fastvocab.items.serve import next_items

    found = next_items(path, history, count=count, beams=beams, bar_seen=not seen, base=base)
    if as_json:
        print_json(found)
    else:
        for one in found:
            sys.stdout.write(f"{one['score']:8.3f}  {one['item']}  {one['text']}\n")
