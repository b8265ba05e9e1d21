"""Tokenizers without a model: from text to an extended tokenizer, the same stages as in a run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from fastvocab import files
from fastvocab.corpus.read import documents
from fastvocab.corpus.stage import build as build_corpus
from fastvocab.errors import ConfigError, DataError, ModelError
from fastvocab.model import reference
from fastvocab.tokenizer import verify
from fastvocab.tokenizer.find import Method
from fastvocab.tokenizer.stage import build as build_tokenizer
from fastvocab.tokenizer.train import Algorithm, train_sentencepiece
from fastvocab.tokenizer.words import draw
from fastvocab.unicode import dominant_scripts, language_scripts, letter_scripts


def merge(
    base: str,
    corpus: Sequence[str],
    out: Path,
    *,
    replay: Sequence[str] = (),
    language: str | None = None,
    new_tokens: int | Literal["auto"] = "auto",
    method: Method | Literal["auto"] = "auto",
    sentencepiece: Algorithm = "bpe",
    pretokenizer: Literal["auto", "repair", "keep"] = "auto",
    sample_mb: float = 20,
    seed: int = 3407,
) -> dict[str, Any]:
    """Learn tokens from ``corpus``, merge them into the tokenizer of ``base``, prove and measure it.

    Args:
        base: reference of the base model or a folder that holds only a tokenizer.
        corpus: text of the new language: files, globs, folders, ``package:NAME``.
        out: folder to write; must not exist.
        replay: text whose tokens must not change.
        language: BCP 47 code; without it the text decides.
        new_tokens: how many, or "auto" for as many as pay.
        method, sentencepiece, pretokenizer: as in the configuration's section ``tokenizer``.
        sample_mb: text that tokens are learnt from.

    Returns:
        The figures of ``merge.json``.
    """
    if out.exists():
        raise ConfigError(f"{out} is there already", fix="choose another folder, or remove it")
    _check_language(language)
    source = _folder(base)
    config = model_config(source)
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
            method=method,
            sentencepiece=sentencepiece,
            pretokenizer=pretokenizer,
            scripts=frozenset(figures["target_scripts"]),
            config=config,
            max_bytes=int(sample_mb * 1e6),
            seed=seed,
        )


def check(base: str, extended: Path, corpus: Sequence[str] = ()) -> dict[str, Any]:
    """Compare an extended tokenizer with its base: `fastvocab.tokenizer.verify.check` on any text files."""
    return verify.check(_folder(base), extended, (d.text for d in documents(list(corpus))) if corpus else ())


def _folder(base: str) -> Path:
    folder = Path(base).expanduser()
    return folder if folder.is_dir() else reference.resolve(base).tokenizer_folder


def model_config(folder: Path) -> dict[str, Any] | None:
    """config.json of a model folder; None where there is only a tokenizer."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path} is damaged: {error}", fix="copy it from the base model again") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object", fix="copy it from the base model again")
    return config


def train(
    corpus: Sequence[str],
    out: Path,
    *,
    pieces: int,
    language: str | None = None,
    algorithm: Algorithm = "bpe",
    sample_mb: float = 20,
    seed: int = 3407,
) -> str:
    """Train ``out/sentencepiece.model`` on ``corpus``; returns a sentence on what came of it."""
    _check_language(language)
    scripts = language_scripts(language) if language else frozenset()
    if not scripts:
        head = "".join(d.text for d, _ in zip(documents(list(corpus)), range(2000)))
        scripts = dominant_scripts(letter_scripts(head))
        if not scripts:
            raise DataError("the text has no letters to tell a script by", fix="give --language")
    if out.exists():
        raise ConfigError(f"{out} is there already", fix="choose another folder, or remove it")
    words = draw(
        (d.text for d in documents(list(corpus))), scripts=scripts, max_bytes=int(sample_mb * 1e6), seed=seed
    )
    with files.atomic_folder(out) as target:
        learnt = train_sentencepiece(
            words, target / "sentencepiece.model", pieces=pieces, algorithm=algorithm
        )
    return f"{len(learnt):,} pieces in {out / 'sentencepiece.model'}"


def _check_language(language: str | None) -> None:
    try:
        if language:
            language_scripts(language)
    except ValueError as error:
        raise ConfigError(f"--language: {error}") from None
