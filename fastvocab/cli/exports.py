"""The verb export: a model in the form that other programs read."""

from __future__ import annotations

from pathlib import Path

import typer

from fastvocab import console
from fastvocab.cli.app import BASE, app, newest

_TO = "hf (a plain folder), gguf, ollama, adapter (PEFT), hub. Repeatable."


@app.command()
def export(
    path: Path = typer.Argument(help="A run folder, or a checkpoint."),
    to: list[str] = typer.Option((), metavar="hf|gguf|ollama|adapter|hub", help=_TO),
    out: Path | None = typer.Option(
        None, help="Where it goes; must not exist. Default: RUN/exports. With several --to a folder for all."
    ),
    kind: str | None = typer.Option(
        None, metavar="q8_0|bf16|f16", help="Of the GGUF file, for gguf and ollama. Default: q8_0."
    ),
    repo: str | None = typer.Option(None, help="For hub: user/name or organization/name. Private."),
    public: bool = typer.Option(False, "--public", help="For hub: for everyone to see."),
    update: bool = typer.Option(False, "--update", help="For hub: also where there is something already."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be made and uploaded; no network."),
    base: str | None = BASE,
) -> None:
    """Hand a model out: a plain Hugging Face folder, GGUF, Ollama, a PEFT adapter, or an upload to the Hub.

    What was merged before is used again. The Hub's token is read from HF_TOKEN or from hf auth login.
    """
    from fastvocab.export import deliver, targets

    source = newest(path)
    order = targets.order(
        source, to, out=out, kind=kind, repo=repo, public=public, update=update, base=base, reach=not dry_run
    )
    if dry_run:
        deliver.show(order)
        return
    for target, place in order.there.items():
        console.say(f"{target}: there already, made of this checkpoint: {place}")
    places = deliver.deliver(order)
    for target in places:
        if target not in order.there:
            console.say(f"{target}: {places[target]}")
    console.say()
    for line in deliver.commands({t: p for t, p in places.items() if t in order.wanted}):
        console.say(f"next    {line}")
