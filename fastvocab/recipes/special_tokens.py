"""Give a chat model tags such as <think> and <answer>, and teach it to use them, in one command.

    python -m fastvocab.recipes.special_tokens
    python -m fastvocab.recipes.special_tokens model.base=DIR instruct.train=qa.jsonl instruct.columns.output=answer
    python -m fastvocab.recipes.special_tokens --config recipes/special_tokens.yaml instruct.minutes=30

Without anything of yours SmolLM2-135M learns to reason between tags, on word problems written by a program.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from fastvocab.config import Config
from fastvocab.recipes import common, given, planning
from fastvocab.recipes.embedded import SPECIAL_TOKENS
from fastvocab.run import Context, Run, Step


def configure(path: Path | None, overrides: list[str], *, need_text: bool = True) -> Config:
    """The configuration; the embedded default where nothing of one's own is given."""
    return common.configure(path, overrides, SPECIAL_TOKENS, need_text=need_text)


def steps(run: Run) -> list[Step]:
    """The five stages: what each reads, which settings decide it, and what it calls."""
    config, seed = run.config, run.config.seed
    precision: dict[str, Any] = {"load_in_4bit": config.model.load_in_4bit, "seed": seed}
    trained_on = partial(given.chat, config, heldout=False)

    def tokenizer(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.model.backend import unsloth
        from fastvocab.tokenizer.named_stage import build

        unsloth()  # it asks to be imported before transformers, which the proofs use
        section = config.tokenizer
        return build(
            given.base(config).tokenizer_folder, folder, section.tokens, reuse=section.reuse_reserved
        )

    def extend(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.model.extend import extend

        given.require_gguf(config, context.inputs["tokenizer"])
        own = config.extend
        return extend(
            folder, given.base(config), context.inputs["tokenizer"], init=own.init, descriptions=own.descriptions,
            pad_to_multiple_of=own.pad_to_multiple_of, **precision,
        )  # fmt: skip

    def instruct(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.train.instruct import instruct
        from fastvocab.train.trackers import Tracking

        planning.require_memory(config, given.base(config), context.figures["extend"], "instruct")
        packages = given.packages([*config.instruct.train, *config.instruct.replay])
        return packages | instruct(
            folder,
            previous=context.inputs["extend"],
            rows=lambda dropped: given.chat(config, heldout=False, dropped=dropped),
            replay=lambda dropped: given.chat(config, heldout=False, replay=True, dropped=dropped),
            heldout=lambda _: given.chat(config, heldout=True),
            section=given.tuned(config, context.figures["tokenizer"]),
            lora=config.pretrain.lora,
            track=Tracking(config.track, run.folder),
            seed=seed,
            key=context.key,
            saves_folder=context.saves,
        )

    def evaluate(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.control.untagged import evaluate_tags

        return evaluate_tags(
            folder, base=given.base(config), points={name: context.inputs[name] for name in ("extend", "instruct")},
            section=config.evaluate, tokenizer=context.inputs["tokenizer"], layout=given.layout(config),
            rows=trained_on, heldout=partial(given.chat, config, heldout=True), replay=partial(trained_on, replay=True),
            named=[one.token for one in config.tokenizer.tokens], init=config.extend.init, tuned=config.instruct,
            lora=config.pretrain.lora, steps=context.figures["instruct"]["steps"], key=context.key,
            saves=context.saves, **precision,
        )  # fmt: skip

    known: dict[str, Any] = {"base": config, **precision}
    words: dict[str, Any] = {"files": lambda: given.tokenizer_files(given.base(config), "base"), "seed": seed}
    said: dict[str, Any] = {"sources": {"descriptions": config.extend.descriptions or ()}}
    told = given.chat_sources(config) | {"lora": config.pretrain.lora.model_dump(mode="json")}
    line = [
        given.step("tokenizer", config.tokenizer, tokenizer, base=config, **words),
        given.step("extend", config.extend, extend, reads=("tokenizer",), **said, **known),
        given.step("instruct", config.instruct, instruct, reads=("extend",), **told, **known),
        given.step("evaluate", config.evaluate, evaluate, reads=("tokenizer", "extend", "instruct"), **known),
    ]
    return line + given.export_steps(run, "instruct", "evaluate")


def main(arguments: list[str] | None = None) -> int:
    """Run it from a command line; returns the exit code."""
    return common.main(arguments, __doc__ or "", configure, steps, SPECIAL_TOKENS.idle)


if __name__ == "__main__":
    sys.exit(main())
