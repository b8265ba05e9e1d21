"""Give a Llama-family model a new language, in one command.

    python -m fastvocab.recipes.new_language
    python -m fastvocab.recipes.new_language model.base=DIR corpus.train='data/*.txt' corpus.language=ka
    python -m fastvocab.recipes.new_language --config recipes/new_language.yaml pretrain.minutes=30

Without any text of yours it gives SmolLM2-135M Ukrainian, from packages, on a CPU or a GPU.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fastvocab.config import Config
from fastvocab.config.models import TrainSection
from fastvocab.plan import bases
from fastvocab.recipes import common, given, planning
from fastvocab.recipes.embedded import NEW_LANGUAGE
from fastvocab.run import Context, Run, Step
from fastvocab.train.instruct import template_text
from fastvocab.train.trackers import Tracking


def configure(path: Path | None, overrides: list[str], *, need_text: bool = True) -> Config:
    """The configuration; the embedded default where nothing of one's own is given."""
    return common.configure(path, overrides, NEW_LANGUAGE, need_text=need_text)


def steps(run: Run) -> list[Step]:
    """The seven stages: what each reads, which settings decide it, and what it calls."""
    config, seed = run.config, run.config.seed
    precision: dict[str, Any] = {"load_in_4bit": config.model.load_in_4bit, "seed": seed}

    def corpus(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.corpus.stage import build

        return build(folder, **config.corpus.model_dump(exclude={"items"}), saves=context.saves)

    def tokenizer(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.model.backend import unsloth
        from fastvocab.tokenizer.stage import build

        unsloth()  # it asks to be imported before transformers, which the proofs use
        text = context.inputs["corpus"]
        return build(
            given.base(config).tokenizer_folder,
            text / "train.jsonl",
            folder,
            heldout=text / "heldout.jsonl",
            replay=text / "replay_heldout.jsonl",
            scripts=frozenset(context.figures["corpus"]["target_scripts"]),
            seed=seed,
            **given.tokenizer_settings(config),
        )

    def extend(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.model.extend import extend

        given.require_gguf(config, context.inputs["tokenizer"])
        text = context.inputs["corpus"]
        return extend(
            folder,
            given.base(config),
            context.inputs["tokenizer"],
            init=config.extend.init,
            descriptions=config.extend.descriptions,
            calibration_bytes=config.extend.calibration_bytes,
            pad_to_multiple_of=config.extend.pad_to_multiple_of,
            target_text=text / "train.jsonl",
            original_text=text / "replay.jsonl",
            **precision,
        )

    def training(section: TrainSection, context: Context) -> dict[str, Any]:
        where = {"key": context.key, "saves_folder": context.saves}
        return {"section": section, "track": Tracking(config.track, run.folder), "seed": seed, **where}

    def pretrain(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.train.pretrain import pretrain

        before, text = context.inputs["extend"], context.inputs["corpus"]
        planning.require_memory(config, given.base(config), context.figures["extend"], "pretrain")
        given.require_chat(config, before)
        return pretrain(folder, previous=before, corpus=text, **training(config.pretrain, context))

    def instruct(folder: Path, context: Context) -> dict[str, Any]:
        before = context.inputs["pretrain"]
        if (chat := bases.find_chat(config, fetch=True)) is not None:
            from fastvocab.model.chat_vector import add

            template = template_text(config.instruct)
            return add(folder, previous=before, chat=chat, template=template, seed=seed)
        from fastvocab.train.instruct import instruct

        data: dict[str, Any] = {
            "rows": lambda dropped: given.chat(config, heldout=False, dropped=dropped),
            "replay": lambda dropped: given.chat(config, heldout=False, replay=True, dropped=dropped),
            "heldout": lambda _: given.chat(config, heldout=True),
        }
        packages = given.packages([*config.instruct.train, *config.instruct.replay])
        return packages | instruct(folder, previous=before, **data, **training(config.instruct, context))

    def evaluate(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.control.stage import evaluate_with_control
        from fastvocab.evaluate.stage import evaluate

        measured: dict[str, Any] = {"base": given.base(config), "corpus": context.inputs["corpus"]}
        measured |= {"section": config.evaluate, "points": {name: context.inputs[name] for name in points}}
        measured["questions"] = [row["messages"][0]["content"] for row in given.chat(config, heldout=True)]
        if last == "instruct":
            measured["replies"] = given.questions(config, context.inputs[last])
        if not config.evaluate.control:
            return evaluate(folder, **measured, **precision)
        measured |= {"tokenizer": context.inputs["tokenizer"], "pretrain": config.pretrain}
        saved: dict[str, Any] = {"key": context.key, "saves": context.saves, "records": run.records}
        return evaluate_with_control(folder, **measured, **saved, **precision)

    known: dict[str, Any] = {"base": config, **precision}
    words: dict[str, Any] = {"files": lambda: given.tokenizer_files(given.base(config), "base"), "seed": seed}
    said: dict[str, Any] = {"sources": {"descriptions": config.extend.descriptions or ()}}
    texts = {"train": config.corpus.train, "replay": config.corpus.replay}
    line = [
        given.step("corpus", config.corpus, corpus, sources=texts),
        given.step("tokenizer", config.tokenizer, tokenizer, reads=("corpus",), base=config, **words),
        given.step("extend", config.extend, extend, reads=("corpus", "tokenizer"), **said, **known),
        given.step("pretrain", config.pretrain, pretrain, reads=("corpus", "extend"), together=True, **known),
    ]
    points = ["extend", "pretrain"]
    if config.instruct.train or config.instruct.chat_vector:
        told = given.chat_sources(config)
        line.append(given.step("instruct", config.instruct, instruct, reads=("pretrain",), **told, **known))
        points.append("instruct")
    last = points[-1]
    reads = ("corpus", *(["tokenizer"] if config.evaluate.control else []), *points)
    line.append(given.step("evaluate", config.evaluate, evaluate, reads=reads, **known))
    return line + given.export_steps(run, last, "evaluate")


def main(arguments: list[str] | None = None) -> int:
    """Run it from a command line; returns the exit code."""
    return common.main(arguments, __doc__ or "", configure, steps, NEW_LANGUAGE.idle)


if __name__ == "__main__":
    sys.exit(main())
