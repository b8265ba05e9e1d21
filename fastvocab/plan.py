"""What a run will do, and what is wrong with it, before any weight is loaded; without torch."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from fastvocab import console, files
from fastvocab.config import Config
from fastvocab.corpus import chat, minhash, provenance, sources
from fastvocab.corpus.spread import Spread
from fastvocab.errors import ConfigError, DependencyError, FastvocabError, ModelError
from fastvocab.evaluate import tasks
from fastvocab.model import manifest, reference
from fastvocab.model.reference import Base
from fastvocab.run import Run, Step
from fastvocab.tokenizer import base as tokenizers
from fastvocab.tokenizer.size import MOST

#: README, "What it gained". Where a run has a control, its own figures are in its report.
_GAIN = (
    "gain     fewer tokens are certain, a better model is not: after 5 minutes on two cores SmolLM2-135M was 15% "
    "better at Greek with new tokens than without, at Ukrainian between 3% better and 1% worse; "
    "evaluate.control=true measures yours"
)


@dataclass(frozen=True)
class Estimate:
    """Sizes that follow from config.json and the configuration.

    Attributes:
        rows, new_rows, width: of the embedding matrix; ``new_rows`` at most ``tokenizer.new_tokens``.
        matrices: 1 where input and output embeddings are tied, else 2.
        checkpoint_bytes: of one checkpoint after training, at most.
        disk_bytes: of all stages and the saves between, at most.
    """

    rows: int
    new_rows: int
    width: int
    matrices: int
    checkpoint_bytes: int
    disk_bytes: int


def check(config: Config, base: Base | None) -> Estimate | None:
    """Find what would stop the run later; all of it in one error.

    Args:
        base: the base model, None where it is not on this machine yet.

    Raises:
        FastvocabError: of the kind of the first problem, naming all.
    """
    problems: list[FastvocabError] = []
    estimate = None

    def attempt(test: Any) -> Any:
        try:
            return test()
        except FastvocabError as error:
            problems.append(error)

    if base is not None:
        attempt(lambda: _check_place(config, base))
    attempt(lambda: _check_trackers(config))
    attempt(lambda: tasks.check(config.evaluate.tasks))
    # what a finished stage was made from may be gone, on another machine for one: its record stands for it
    if not _finished(config, "corpus"):
        attempt(lambda: _check_corpus(config))
        attempt(lambda: sources.resolve(config.corpus.train))
        if config.corpus.replay:
            attempt(lambda: sources.resolve(config.corpus.replay))
    if config.instruct.train and not _finished(config, "instruct"):
        attempt(lambda: _check_chat(config))
    if base is not None:
        attempt(lambda: settle(config, base))
        attempt(lambda: tokenizers.read(base.tokenizer_folder))
        attempt(lambda: _check_lengths(config, base))
        attempt(lambda: _check_template(config, base))
        estimate = estimate_sizes(config, base)
        attempt(lambda: _check_disk(config, estimate))
    if len(problems) == 1:
        raise problems[0]
    if problems:
        several = type(problems[0])(f"{len(problems)} things stand in the way:")
        several.message += "".join(f"\n- {problem}" for problem in problems)
        raise several
    return estimate


def _check_corpus(config: Config) -> None:
    section = config.corpus
    minhash.check_threshold(section.near_duplicates)
    Spread(section.executor, slurm=section.slurm.model_dump()).check()


def estimate_sizes(config: Config, base: Base) -> Estimate:
    """`Estimate` of a configuration, from the base's config.json alone."""
    model = base.config.get("text_config") or base.config
    rows, width = int(model["vocab_size"]), int(model["hidden_size"])
    matrices = 1 if base.config.get("tie_word_embeddings", model.get("tie_word_embeddings", True)) else 2
    new = MOST if config.tokenizer.new_tokens == "auto" else config.tokenizer.new_tokens
    trained = (rows + new) * width * matrices
    linear = sum(f.stat().st_size for f in base.folder.glob("*.safetensors"))
    # rows in float32; an adapter of rank 32 on all linear modules is about a hundredth of the weights per 4 ranks
    checkpoint = 4 * trained + linear * config.pretrain.lora.r // 150
    # checkpoint 0, two trained ones, three saves with Adam's moments, and the exported model in 16-bit
    return Estimate(
        rows, new, width, matrices, checkpoint, 3 * checkpoint + 9 * checkpoint + linear + 2 * trained
    )


def _finished(config: Config, stage: str) -> bool:
    return any((Path(config.runs).expanduser() / config.name).glob(f"[0-9]0-{stage}/stage.json"))


def _check_place(config: Config, base: Base) -> None:
    """A run that stood on what lies in its own folder would replace it, stage by stage."""
    folder = Path(config.runs).expanduser() / config.name
    for place in (base.checkpoint, base.folder):
        if place is not None and place.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(
                f"model.base={config.model.base} lies in the folder of the run itself, {folder}",
                rule="a run writes its own stages over what is there",
                fix=f"give the new run a name of its own: name={config.name}-2",
            )


def settle(config: Config, base: Base) -> Config:
    """``config`` with the adapter that training will use: that of the checkpoint it starts from, if it has one.

    Raises:
        ConfigError: another one was asked for.
    """
    from fastvocab.train.stage import own_adapter

    saved = manifest.peek(base.checkpoint).get("lora") if base.checkpoint else None
    if saved is None:
        return config
    lora = own_adapter(config.pretrain.lora, saved)
    return config.model_copy(update={"pretrain": config.pretrain.model_copy(update={"lora": lora})})


def _check_trackers(config: Config) -> None:
    if missing := [name for name in config.track if find_spec(name) is None]:
        raise DependencyError(
            f"track: {', '.join(missing)} is not installed", fix="pip install 'fastvocab[track]'"
        )


def _check_chat(config: Config) -> None:
    """The first rows must parse: better now than after hours of pretraining."""
    rows = list(islice(chat.chat_rows(config.instruct.train), 1))
    if not rows:
        raise ConfigError(f"instruct.train: {', '.join(config.instruct.train)} has no usable conversation")


def _check_lengths(config: Config, base: Base) -> None:
    limit = (base.config.get("text_config") or base.config).get("max_position_embeddings")
    wrong = [
        f"{key} is {value}"
        for key, value in (
            ("pretrain.block", config.pretrain.block),
            ("instruct.max_length", config.instruct.max_length),
        )
        if isinstance(limit, int) and value > limit
    ]
    if wrong:
        raise ConfigError(
            "; ".join(wrong), rule=f"{base.name} reads at most {limit} tokens (max_position_embeddings)"
        )


def _check_template(config: Config, base: Base) -> None:
    if not config.instruct.train:
        return
    if config.instruct.template is not None:
        from fastvocab.train.instruct import template_text

        template_text(config.instruct)
        return
    settings = base.tokenizer_folder / "tokenizer_config.json"
    inline = settings.is_file() and "chat_template" in json.loads(settings.read_text(encoding="utf-8"))
    if not inline and not (base.tokenizer_folder / "chat_template.jinja").is_file():
        raise ConfigError(
            f"{base.name} has no chat template, and instruct.train asks for instruction tuning",
            fix="give a template with instruct.template=FILE, or leave instruct.train out",
        )


def _check_disk(config: Config, estimate: Estimate | None) -> None:
    if estimate is not None:
        files.require_space(Path(config.runs).expanduser(), estimate.disk_bytes, "the run")


def find_base(config: Config, *, fetch: bool) -> Base | None:
    """The base model; None if it is not on this machine and must not be fetched (a dry run)."""
    _check_mistyped(config.model.base)
    try:
        return reference.resolve(config.model.base, fetch=fetch)
    except ModelError as error:
        if fetch or not ("not built yet" in str(error) or "Hub" in str(error)):
            raise
        return None


def _check_mistyped(name: str) -> None:
    """``runs/x`` looks like a name on the Hub. Where there is a folder ``runs``, it is none."""
    path = Path(name)
    if name.startswith((".", "/", "~", "package:")) or name.count("/") != 1 or "@" in name or path.exists():
        return
    if path.parent.is_dir():
        near = get_close_matches(path.name, [p.name for p in path.parent.iterdir() if p.is_dir()], 1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "check the path"
        raise ModelError(
            f"model.base: there is no {path.name} in the folder {path.parent}",
            fix=f"{hint} (for a model of that name on the Hub: {name}@main)",
        )


def place_of_base(wanted: dict[str, Any], base: str | None = None) -> Path | None:
    """Where the base of a checkpoint lies on this machine, without fetching anything; None if it is not here.

    Args:
        wanted: ``base`` of its manifest.
        base: where it lies now. It is checked, and remembered for every later command.

    Raises:
        FastvocabError: it is not in ``base``.
    """
    if base is not None:
        return reference.recorded(wanted, base=base).folder
    with suppress(FastvocabError):
        return reference.recorded(wanted, fetch=False).folder
    return None


def show(run: Run, steps: list[Step], base: Base | None, estimate: Estimate | None) -> None:
    """Print the plan: base, text, rows, disk, and for each stage whether it will run."""
    from rich.table import Table

    config = run.config
    console.say(f"run      {run.folder}" + ("" if run.folder.exists() else "  (new)"))
    if base is None:
        console.say(
            f"base     {config.model.base}, not on this machine yet: fetched or built by the first run"
        )
    else:
        console.say(f"base     {base.name}  ({base.fingerprint[:12]})")
        if base.checkpoint is not None and manifest.peek(base.checkpoint)["lora"]:
            lora = config.pretrain.lora
            console.say(f"adapter  that of the checkpoint goes on (r={lora.r}, alpha={lora.alpha})")
    for label, given in (
        ("text", config.corpus.train),
        ("replay", config.corpus.replay),
        ("chat", config.instruct.train),
    ):
        if given:
            size = sum(entry["bytes"] for entry in provenance.describe(given))
            console.say(f"{label:8} {', '.join(given)}  ({size / 1e6:.1f} MB)")
    if estimate is not None:
        matrices = "one matrix (tied)" if estimate.matrices == 1 else "two matrices"
        console.say(
            f"rows     {estimate.rows:,} + {estimate.new_rows:,} at most, of {estimate.width} numbers, {matrices}"
        )
        console.say(
            f"disk     {estimate.disk_bytes / 1e9:.1f} GB at most, "
            f"{estimate.checkpoint_bytes / 1e6:.0f} MB a checkpoint"
        )
    if config.evaluate.control:
        console.say(
            "control  two more trainings, each as long as the run takes up to its pretrained checkpoint"
        )
    else:
        console.say(_GAIN)
    table = Table("stage", "folder", "what will happen", box=None, pad_edge=False)
    if base is None:
        for step in steps:
            table.add_row(step.name, step.folder, "run")
    else:
        for row in run.plan(steps):
            table.add_row(*row)
    console.console.print(table)
