"""Verbs that let a model speak: generate, recommend."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from fastvocab.cli.app import BASE, JSON, app, newest, print_json


@app.command()
def generate(
    path: Path = typer.Argument(help="A run folder, or a checkpoint in it."),
    prompt: list[str] = typer.Argument(help="What to say to the model."),
    tokens: int = typer.Option(120, min=1, help="Length of the reply, in tokens."),
    raw: bool = typer.Option(False, "--raw", help="Continue the text instead of answering it as a chat."),
    temperature: float = typer.Option(0.0, min=0.0, max=5.0, help="0 is greedy."),
    parse: bool = typer.Option(
        False, "--parse", help="Take the reply apart, as instruct.reply has laid it out, and print JSON."
    ),
    base: str | None = BASE,
) -> None:
    """Let the model of a run speak (its last checkpoint)."""
    from fastvocab.errors import ConfigError
    from fastvocab.model import checkpoint, generation

    if parse and raw:
        raise ConfigError(
            "--parse together with --raw", rule="a reply is laid out, a text is not", fix="leave one out"
        )
    model, tok = checkpoint.load(newest(path), base=base)
    text = " ".join(prompt)
    if parse:
        print_json(generation.parsed(model, tok, text, max_new_tokens=tokens, temperature=temperature))
        return
    answer = generation.generate(
        model, tok, [text], max_new_tokens=tokens, chat=not raw, temperature=temperature
    )
    sys.stdout.write(answer[0].strip() + "\n")


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
