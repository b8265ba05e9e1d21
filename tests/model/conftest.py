"""Tiny models extended and trained for real, once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import english, sentences, write_jsonl


@dataclass
class Made:
    """A base (a model, or a checkpoint), its tokenizer stage, checkpoint 0, and one after two steps of training."""

    base: Path
    corpus: Path
    tokenizer: Path
    extend: Path
    pretrain: Path


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    made: dict[tuple[object, ...], Made] = {}

    def build(
        base: Path,
        embeddings: str = "full",
        *,
        texts: list[str] | None = None,
        script: str = "Cyrl",
        pad: int | None = None,
        load_in_4bit: bool = False,
    ) -> Made:
        key = (base, embeddings, script, pad, load_in_4bit)
        if key in made:
            return made[key]
        from fastvocab.config import load
        from fastvocab.model import reference
        from fastvocab.model.extend import extend
        from fastvocab.tokenizer.stage import build as build_tokenizer
        from fastvocab.train.pretrain import pretrain

        root = tmp_path_factory.mktemp("made")
        corpus, tokenizer, zero, trained = (root / n for n in ("corpus", "tokenizer", "extend", "pretrain"))
        for folder in (corpus, tokenizer, zero, trained):
            folder.mkdir()
        texts = texts or sentences(300)
        write_jsonl(corpus / "train.jsonl", texts[:-40])
        write_jsonl(corpus / "heldout.jsonl", texts[-40:])
        write_jsonl(corpus / "replay.jsonl", english(30))
        write_jsonl(corpus / "replay_heldout.jsonl", english(40)[30:])
        build_tokenizer(
            base, corpus / "train.jsonl", tokenizer,
            heldout=corpus / "heldout.jsonl", replay=corpus / "replay_heldout.jsonl",
            new_tokens=100, scripts=frozenset({script}),
        )  # fmt: skip
        extend(
            zero, reference.resolve(str(base)), tokenizer, init="calibrated", seed=3, calibration_bytes=10_000,
            target_text=corpus / "train.jsonl", original_text=corpus / "replay.jsonl", pad_to_multiple_of=pad,
            load_in_4bit=load_in_4bit,
        )  # fmt: skip
        section = load(
            None,
            ["pretrain.steps=2", "pretrain.block=48", "pretrain.batch=2", f"pretrain.embeddings={embeddings}",
             "pretrain.learning_rate=1e-2", "pretrain.embedding_learning_rate=1e-2", "pretrain.lora.r=4"],
        ).pretrain  # fmt: skip
        pretrain(
            trained,
            previous=zero,
            corpus=corpus,
            section=section,
            key="k",
            saves_folder=root / "saves",
            seed=3,
        )
        made[key] = Made(base, corpus, tokenizer, zero, trained)
        return made[key]

    return build
