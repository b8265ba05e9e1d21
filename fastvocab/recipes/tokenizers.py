"""Tokenizers without a model: from text to an extended tokenizer, the same stages as in a run."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastvocab import files
from fastvocab.corpus.read import documents
from fastvocab.corpus.stage import build as build_corpus
from fastvocab.errors import ConfigError, DataError
from fastvocab.model import reference
from fastvocab.tokenizer.stage import build as build_tokenizer
from fastvocab.tokenizer.train import train_sentencepiece
from fastvocab.unicode import dominant_scripts, language_scripts, letter_scripts


def merge(
    base: str,
    corpus: Sequence[str],
    out: Path,
    *,
    replay: Sequence[str] = (),
    language: str | None = None,
    new_tokens: int = 8000,
    seed: int = 3407,
) -> dict[str, Any]:
    """Learn tokens from ``corpus``, merge them into the tokenizer of ``base``, prove and measure it.

    Args:
        base: reference of the base model or a folder that holds only a tokenizer.
        out: folder to write; must not exist.

    Returns:
        The figures of ``merge.json``.
    """
    if out.exists():
        raise ConfigError(f"{out} is there already", fix="choose another folder, or remove it")
    _check_language(language)
    folder = Path(base).expanduser()
    source = folder if folder.is_dir() else reference.resolve(base).folder
    with tempfile.TemporaryDirectory() as work, files.atomic_folder(out) as target:
        text = Path(work)
        figures = build_corpus(text, train=list(corpus), replay=list(replay), language=language)
        return build_tokenizer(
            source,
            text / "train.jsonl",
            target,
            heldout=text / "heldout.jsonl",
            replay=text / "replay_heldout.jsonl" if replay else None,
            new_tokens=new_tokens,
            scripts=frozenset(figures["target_scripts"]),
            seed=seed,
        )


def train(corpus: Sequence[str], out: Path, *, pieces: int, language: str | None, seed: int) -> str:
    """Train ``out/sentencepiece.model`` on ``corpus``; returns a sentence on what came of it."""
    _check_language(language)
    scripts = language_scripts(language) if language else frozenset()
    if not scripts:
        head = "".join(d.text for d, _ in zip(documents(list(corpus)), range(2000)))
        scripts = dominant_scripts(letter_scripts(head))
        if not scripts:
            raise DataError("the text has no letters to tell a script by", fix="give --language")
    out.mkdir(parents=True, exist_ok=True)
    trained = train_sentencepiece(
        (d.text for d in documents(list(corpus))),
        out / "sentencepiece.model",
        pieces=pieces,
        scripts=scripts,
        seed=seed,
    )
    return f"{len(trained.pieces):,} pieces in {out / 'sentencepiece.model'}"


def _check_language(language: str | None) -> None:
    try:
        if language:
            language_scripts(language)
    except ValueError as error:
        raise ConfigError(f"--language: {error}") from None
