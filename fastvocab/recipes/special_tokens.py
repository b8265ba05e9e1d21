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
from fastvocab.run import Context, Run, Step

#: Rows that were added last have everything to learn; four tokens have no text to count.
DEFAULTS: dict[str, Any] = {
    "extend": {"init": "subtokens"},
    "instruct": {"embeddings": "new_rows", "new_rows_learning_rate": None},
}
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
#: The embedded default, sized for two CPU cores and five minutes.
EMBEDDED: dict[str, Any] = {
    "name": "smollm2-tags",
    "tokenizer": {"tokens": [{"token": tag, "init": "clone:<|im_start|>"} for tag in _TAGS]},
    "instruct": {
        "train": "package:fastvocab/arithmetic",
        "reply": "<think>{reasoning}</think><answer>{output}</answer>",
        "minutes": 1.1,
        "max_length": 192,
        "batch": 4,
        "learning_rate": 1e-3,
        "evaluations": 0,
        "save_minutes": 1,
    },
    "evaluate": {"control": True, "questions": 50, "reply_tokens": 80},
}


def configure(path: Path | None, overrides: list[str], *, need_text: bool = True) -> Config:
    """The configuration; the embedded default where nothing of one's own is given."""
    return common.configure(
        path, overrides, recipe="special_tokens", embedded=EMBEDDED, defaults=DEFAULTS, need_text=need_text,
        own=("model.", "tokenizer.tokens", "instruct.train"),
        needed={
            "tokenizer.tokens": "name your tokens: tokenizer.tokens='[\"<think>\", \"</think>\"]'",
            "instruct.train": "name conversations that use them: instruct.train=FILE",
        },
        idle=(
            "corpus.", "tokenizer.new_tokens", "tokenizer.method", "tokenizer.sentencepiece", "tokenizer.pretokenizer",
            "tokenizer.sample_mb", "tokenizer.items.", "extend.calibration_bytes", "instruct.chat_vector",
            *(f"pretrain.{key}" for key in type(Config().pretrain).model_fields if key != "lora"),
            "evaluate.heldout_bytes", "evaluate.replay_bytes", "evaluate.piece_bytes", "evaluate.prompts",
            "evaluate.sample_tokens", "evaluate.items.",
        ),
    )  # fmt: skip


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

        own = config.extend
        return extend(
            folder, given.base(config), context.inputs["tokenizer"], init=own.init, descriptions=own.descriptions,
            pad_to_multiple_of=own.pad_to_multiple_of, **precision,
        )  # fmt: skip

    def instruct(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.train.instruct import instruct

        planning.require_memory(config, given.base(config), context.figures["extend"], "instruct")
        packages = given.packages([*config.instruct.train, *config.instruct.replay])
        return packages | instruct(
            folder,
            previous=context.inputs["extend"],
            rows=lambda dropped: given.chat(config, heldout=False, dropped=dropped),
            replay=lambda dropped: given.chat(config, heldout=False, replay=True, dropped=dropped),
            heldout=lambda _: given.chat(config, heldout=True),
            section=config.instruct,
            lora=config.pretrain.lora,
            track=config.track,
            seed=seed,
            key=context.key,
            saves_folder=context.saves,
        )

    def evaluate(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.control.untagged import evaluate_tags

        return evaluate_tags(
            folder, base=given.base(config), points={name: context.inputs[name] for name in ("extend", "instruct")},
            section=config.evaluate, tokenizer=context.inputs["tokenizer"], layout=given.layout(config),
            rows=trained_on, heldout=partial(given.chat, config, heldout=True), tuned=config.instruct,
            lora=config.pretrain.lora, steps=context.figures["instruct"]["steps"], key=context.key,
            saves=context.saves, **precision,
        )  # fmt: skip

    def export(folder: Path, context: Context) -> dict[str, Any]:
        from fastvocab.export.stage import export

        return export(folder, source=context.inputs["instruct"], records=run.records)

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
    if config.export.to:
        line.append(given.step("export", config.export, export, reads=("instruct", "evaluate"), base=config))
    return line


def main(arguments: list[str] | None = None) -> int:
    """Run it from a command line; returns the exit code."""
    return common.main(sys.argv[1:] if arguments is None else arguments, __doc__ or "", configure, steps)


if __name__ == "__main__":
    sys.exit(main())
