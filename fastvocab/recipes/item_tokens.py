"""Recommend items with a language model: each item is a few new tokens, a history is read, the next item is written.

    python -m fastvocab.recipes.item_tokens
    python -m fastvocab.recipes.item_tokens corpus.items.interactions=log.csv corpus.items.catalogue=items.csv
    python -m fastvocab.recipes.item_tokens --config recipes/item_tokens.yaml pretrain.minutes=30

Without anything of yours it recommends films: MovieLens-100K, on a shallow copy of SmolLM2, on a CPU or a GPU.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fastvocab.config import Config
from fastvocab.recipes import common, given, planning
from fastvocab.recipes.embedded import ITEM_TOKENS
from fastvocab.run import Context, Run, Step, code_digest


def configure(path: Path | None, overrides: list[str], *, need_text: bool = True) -> Config:
    """The configuration; the embedded default where nothing of one's own is given."""
    return common.configure(path, overrides, ITEM_TOKENS, need_text=need_text)


def steps(run: Run) -> list[Step]:
    """The six stages: what each reads, which settings decide it, and what it calls."""
    config, seed = run.config, run.config.seed
    precision: dict[str, Any] = {"load_in_4bit": config.model.load_in_4bit, "seed": seed}

    def corpus(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.items.interactions import build

        return build(folder, **config.corpus.items.model_dump())

    def tokenizer(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.items.stages import tokens
        from fastvocab.model.backend import unsloth

        unsloth()  # it asks to be imported before transformers, which the proofs use
        section, text = config.tokenizer.items, context.inputs["corpus"]
        return tokens(folder, base=given.base(config), corpus=text, section=section, **precision)

    def extend(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.items.stages import start_rows
        from fastvocab.model.extend import extend

        init, tokens = config.extend.init, context.inputs["tokenizer"]
        given.require_gguf(config, tokens)
        rows = (
            start_rows(context.inputs["corpus"], tokens, init, seed=seed)
            if init.startswith("item_")
            else None
        )
        multiple = config.extend.pad_to_multiple_of
        known: dict[str, Any] = {"init": init, "rows": rows, "pad_to_multiple_of": multiple, **precision}
        return extend(folder, given.base(config), tokens, **known)

    def pretrain(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.items.sequences import sequences
        from fastvocab.train.pretrain import pretrain
        from fastvocab.train.trackers import Tracking

        before, section = context.inputs["extend"], config.pretrain
        planning.require_memory(config, given.base(config), context.figures["extend"], "pretrain")
        given.require_beams(config, context.figures["corpus"]["items"])
        rows = sequences(context.inputs["corpus"], context.inputs["tokenizer"], before, section.block)
        saved: dict[str, Any] = {"key": context.key, "saves_folder": context.saves}
        saved["track"] = Tracking(config.track, run.folder)
        return pretrain(folder, previous=before, sequences=rows, section=section, seed=seed, **saved)

    def evaluate(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.evaluate import rows_view
        from fastvocab.items.evaluation import evaluate

        read: dict[str, Any] = {name: context.inputs[name] for name in ("corpus", "tokenizer")}
        points = {"pretrain": context.inputs["pretrain"]}
        read |= {"section": config.evaluate.items, "block": config.pretrain.block}
        figures = evaluate(folder, base=given.base(config), points=points, **read, **precision)
        line = {"extend": context.inputs["extend"], **points}
        return figures | {"rows_view": rows_view.view(given.base(config), line)}

    own: dict[str, Any] = {
        "items_code": code_digest(["items"])
    }  # which stages of other recipes do not depend on
    known: dict[str, Any] = {"base": config, **own, **precision}
    items = config.corpus.items
    texts: dict[str, Any] = {"interactions": items.interactions, "catalogue": items.catalogue}
    made = given.item_sources(config)
    words: dict[str, Any] = {"files": lambda: [*given.tokenizer_files(given.base(config), "base"), *made()]}
    line = [
        given.step("corpus", items, corpus, sources=texts, **own),
        given.step("tokenizer", config.tokenizer, tokenizer, reads=("corpus",), **words, **known),
        given.step("extend", config.extend, extend, reads=("corpus", "tokenizer"), **known),
        given.step("pretrain", config.pretrain, pretrain, reads=("corpus", "tokenizer", "extend"), together=True,
                   **known),
        given.step("evaluate", config.evaluate, evaluate, reads=("corpus", "tokenizer", "extend", "pretrain"),
                   **known, block=config.pretrain.block),
    ]  # fmt: skip
    return line + given.export_steps(run, "pretrain", "evaluate", "tokenizer")


def main(arguments: list[str] | None = None) -> int:
    """Run it from a command line; returns the exit code."""
    return common.main(arguments, __doc__ or "", configure, steps, ITEM_TOKENS.idle)


if __name__ == "__main__":
    sys.exit(main())
