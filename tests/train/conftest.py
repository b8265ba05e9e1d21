"""Tiny Llamas that were extended, and a corpus, once for all tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.conftest import english, make_llama, sentences, write_jsonl

#: About 14 blocks of Ukrainian; blocks hold the ends of one document and the beginnings of the next.
COMMON = ("block=48", "batch=2", "lora.r=4", "replay=0.1", "save_minutes=1000")
#: A letter that is in one training document alone, some blocks from the beginning, and the line of that document.
RARE, RARE_LINE = "Ω", 5


@dataclass
class Material:
    corpus: Path
    small: Path
    extend: dict[str, Path]
    base: dict[str, Path]


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    from fastvocab.model import backend, checkpoint, reference
    from fastvocab.model.extend import extend
    from fastvocab.tokenizer.stage import build

    backend.unsloth()
    root = tmp_path_factory.mktemp("training")
    texts, corpus = sentences(400), root / "corpus"
    corpus.mkdir()
    write_jsonl(corpus / "heldout.jsonl", texts[:80])
    write_jsonl(corpus / "replay_heldout.jsonl", english(40)[30:])
    write_jsonl(corpus / "replay.jsonl", english(4))
    texts[80 + RARE_LINE - 1] += f" {RARE}"
    write_jsonl(corpus / "train.jsonl", texts[80:])
    small = root / "small"  # three documents, read more than once by a few steps
    small.mkdir()
    write_jsonl(small / "train.jsonl", texts[80:83])
    write_jsonl(small / "replay.jsonl", [english(1)[0][:200]])
    made = Material(corpus, small, {}, {})
    for name in ("tied", "untied"):
        base = made.base[name] = make_llama(root / name, tied=name == "tied", pad_rows=7)
        tokenizer = root / f"{name}-tokenizer"
        tokenizer.mkdir()
        build(
            base, corpus / "train.jsonl", tokenizer, heldout=corpus / "heldout.jsonl",
            replay=corpus / "replay_heldout.jsonl", new_tokens=100, scripts=frozenset({"Cyrl"}),
        )  # fmt: skip
        folder = made.extend[name] = root / f"{name}-extend"
        folder.mkdir()
        extend(
            folder, reference.resolve(str(base)), tokenizer, init="calibrated", seed=3, calibration_bytes=10_000,
            target_text=corpus / "train.jsonl", original_text=corpus / "replay.jsonl", pad_to_multiple_of=64,
        )  # fmt: skip
    plain = made.extend["plain"] = root / "plain"
    plain.mkdir()
    base = reference.resolve(str(made.base["tied"]))
    model, tokenizer = checkpoint.on_base(base, load_in_4bit=False, seed=3)
    rows = len(model.get_input_embeddings().weight)
    checkpoint.save(
        plain, model, tokenizer, base=base, stage="extend", new_ids=range(rows, rows), init="none",
        load_in_4bit=False,
    )  # fmt: skip
    return made


@dataclass
class Trained:
    folder: Path
    saves: Path
    figures: dict[str, Any]

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "log.jsonl").read_text("utf-8").splitlines()]

    @property
    def steps(self) -> list[dict[str, Any]]:
        return [entry for entry in self.log if "loss" in entry]

    @property
    def looks(self) -> list[dict[str, Any]]:
        return [entry for entry in self.log if "target_bits_per_byte" in entry]

    def save(self, step: int) -> Path:
        return self.saves / f"step-{step:08d}"

    def tensors(self, step: int | None = None) -> dict[str, Any]:
        """All that was trained, as it was saved."""
        folder = self.folder if step is None else self.save(step)
        return load_file(folder / "rows.safetensors") | load_file(folder / "adapter_model.safetensors")


@pytest.fixture
def train(material: Material, tmp_path: Path) -> Callable[..., Trained]:
    """``train("tied", "steps=4", ...)`` is the pretrain stage; a second call goes on from the saves of ``name``."""
    from fastvocab.config import load
    from fastvocab.train.pretrain import pretrain

    def run(base: str, *settings: str, name: str = "run", corpus: Path = material.corpus) -> Trained:
        section = load(None, [f"pretrain.{setting}" for setting in (*COMMON, *settings)]).pretrain
        folder, number = tmp_path / name / "out", 0
        while folder.exists():
            number += 1
            folder = tmp_path / name / f"out-{number}"
        folder.mkdir(parents=True)
        saves = tmp_path / name / "saves"
        figures = pretrain(
            folder, previous=material.extend[base], corpus=corpus, section=section, key="k",
            saves_folder=saves, seed=3,
        )  # fmt: skip
        return Trained(folder, saves, figures)

    return run


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Are two dictionaries of tensors equal bit by bit?"""
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)
