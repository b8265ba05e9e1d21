"""The two other ways of spending the same time, each trained by `fastvocab.train.pretrain` itself.

``control`` is the base without new tokens. ``plain`` is what people do today: the same pieces as AddedTokens through
unsloth's ``add_new_tokens``, which starts every row at the mean, and the settings of unsloth's notebook for continued
pretraining (github.com/unslothai/notebooks, ``Mistral_v0.3_(7B)-CPT.ipynb``). Both read the same corpus with the same
share of replay, in blocks of the same length, and are measured as the run's own pretraining is.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastvocab import console, files, memory
from fastvocab.config.models import LoraSection, PretrainSection
from fastvocab.model import backend, checkpoint, extend, load, manifest, reference, text
from fastvocab.model.new_tokens import NewTokens
from fastvocab.model.reference import Base
from fastvocab.train.pretrain import pretrain

CONTROL, PLAIN = "control", "plain"
#: The notebook: LoRA of rank 128 with alpha 32 and use_rslora, on the seven linear modules, embed_tokens and lm_head.
_RANK, _ALPHA = 128, 32
#: Its 10 of 120 steps.
_WARMUP = 10 / 120
#: Points of a curve at least: the crossover is looked for on straight lines between them.
_EVALUATIONS = 8
#: A budget of none at all is no budget for the trainer; this is one step.
_LEAST_SECONDS = 0.1
#: A share of the training time that no evaluation comes to.
_WITHOUT_LIMIT = 1e6


@dataclass(frozen=True)
class Arm:
    """A trained arm: its checkpoint, and the figures of its training.

    Figures are `pretrain`'s with ``preparation`` (seconds before training that count as its time) and, of the plain
    way, ``added_tokens`` and ``left_out`` (byte fragments and the like, which cannot be added as text).
    """

    folder: Path
    figures: dict[str, Any]


def control_section(own: PretrainSection, seconds: float, watched_bytes: int | None) -> PretrainSection:
    """The run's own settings for ``seconds`` of training without new tokens, its own counts as targets among them.

    Where the run trains its new rows alone there are none here, and no embeddings train: a step is cheaper by a third,
    and token for token it is hardly worse (SmolLM2-135M, Ukrainian, 37,000 tokens: 1.523 bits per byte, 1.516 with all
    embeddings at 5e-5). Counting is not taken off its time.
    """
    changed: dict[str, Any] = {"rows_first": 0.0}
    if own.embeddings == "new_rows":
        changed["embeddings"] = "frozen"
    return own.model_copy(update=changed | _limits(own, seconds, watched_bytes))


def plain_section(
    own: PretrainSection, seconds: float, watched_bytes: int | None, *, on_gpu: bool
) -> PretrainSection:
    """The notebook's settings for ``seconds``, on blocks and replay of the run.

    Rank-stabilised LoRA multiplies by alpha / sqrt(r): the same as plain LoRA with alpha * sqrt(r). A tied pair of
    matrices stays one, as unsloth's GPU class keeps it. On a CPU the batch is the run's own: 16 sequences a step, as
    in the notebook, would leave this arm a handful of steps in a few minutes, and it is to have every chance.
    """
    lora = LoraSection(r=_RANK, alpha=_ALPHA * math.sqrt(_RANK), dropout=0.0, targets=load.LINEAR)
    changed: dict[str, Any] = {
        "lora": lora,
        "embeddings": "full",
        "learning_rate": 5e-5,
        "embedding_learning_rate": 1e-5,
        "new_rows_learning_rate": 1e-5,
        "rows_first": 0.0,
        "count_targets": 0.0,
        "shared_subwords": False,
        "schedule": "linear",
        "warmup": _WARMUP,
        "weight_decay": 0.001,
    }
    if on_gpu:
        changed |= {"batch": 2, "accumulate": 8}
    return own.model_copy(update=changed | _limits(own, seconds, watched_bytes))


def _limits(own: PretrainSection, seconds: float, watched_bytes: int | None) -> dict[str, Any]:
    """So much time, and evaluations on the way that read just what the run's own read, whatever that costs an arm."""
    changed: dict[str, Any] = {"minutes": seconds / 60, "steps": None, "tokens": None}
    if watched_bytes is None:
        # with none asked for, counts would fall to 0 here; where the run asked for some and the time was too short for
        # them, its own did not (`trainer._count_share`)
        return changed | {"evaluation_share": 0.0, "patience": None}
    changed |= {"evaluation_bytes": watched_bytes, "evaluation_share": _WITHOUT_LIMIT}
    if own.patience is None:  # which counts evaluations
        changed["evaluations"] = max(own.evaluations, _EVALUATIONS)
    return changed


def train(
    name: str,
    *,
    base: Base,
    tokenizer: Path,
    corpus: Path,
    section: PretrainSection,
    seconds: float,
    watched_bytes: int | None,
    key: str,
    saves: Path,
    seed: int,
    load_in_4bit: bool,
) -> Arm:
    """Train one arm for ``seconds``, or take it up where it was left; a finished one is as it is.

    Args:
        name: `CONTROL` or `PLAIN`.
        tokenizer: folder of the tokenizer stage, whose new tokens the plain way adds.
        section: the run's own pretraining.
        watched_bytes: how much text of each language its evaluations on the way read; None where there were none.
        key: what decides the result; what was saved under another is begun anew.
        saves: folder of this arm: checkpoints ``start`` and ``done``, and ``steps`` with training's own saves.
    """

    def make(folder: Path) -> dict[str, Any]:
        clock, imported = time.monotonic(), backend.seconds_importing()
        if name == CONTROL:
            # it has all of the time for training: what it starts from is the base itself
            return without_tokens(folder, base, load_in_4bit=load_in_4bit, seed=seed) | {"preparation": 0.0}
        found = _with_added_tokens(folder, base, tokenizer, load_in_4bit=load_in_4bit, seed=seed)
        spent = time.monotonic() - clock - (backend.seconds_importing() - imported)
        return found | {"preparation": round(spent, 2)}

    def fit(folder: Path, start: Path, steps: Path, begun: dict[str, Any]) -> dict[str, Any]:
        left = max(_LEAST_SECONDS, seconds - begun["preparation"])
        settings = (
            control_section(section, left, watched_bytes)
            if name == CONTROL
            else plain_section(section, left, watched_bytes, on_gpu=backend.device() != "cpu")
        )
        if adapter := manifest.peek(start)["lora"]:
            # a base that is a checkpoint of ours has an adapter, whose shape cannot be changed
            settings = settings.model_copy(update={"lora": LoraSection(**_known(adapter))})
        console.say(f"  {name}: {left / 60:.1f} minutes of training", style="bold")
        return pretrain(
            folder, previous=start, corpus=corpus, section=settings,
            key=f"{key}:{name}", saves_folder=steps, seed=seed,
        )  # fmt: skip

    return kept(name, saves, key, make, fit)


def kept(
    name: str,
    saves: Path,
    key: str,
    make: Callable[[Path], dict[str, Any]],
    fit: Callable[[Path, Path, Path, dict[str, Any]], dict[str, Any]],
) -> Arm:
    """An arm that is made and trained, or taken up where it was left; a finished one is as it is.

    Args:
        name, saves, key: as for `train`.
        make: writes the checkpoint that it starts from; returns figures.
        fit: trains (the new checkpoint's folder, the start, where saves go, `make`'s figures); returns figures.
    """
    start, done, steps = saves / "start", saves / "done", saves / "steps"
    saves.mkdir(parents=True, exist_ok=True)
    files.recover(saves)
    for part in (start, done):
        if part.exists() and _note(part).get("key") != key:
            files.remove_folder(part)
    if done.exists():
        console.say(f"  {name}: trained already")
        return Arm(done, _note(done)["figures"])
    if not start.exists():
        with files.atomic_folder(start) as folder:
            _write_note(folder, key, make(folder))
    begun = _note(start)["figures"]
    memory.reset_peak()
    with files.atomic_folder(done) as folder:
        figures = fit(folder, start, steps, begun) | begun
        _write_note(folder, key, figures)
    files.remove_folder(steps)
    gc.collect()
    return Arm(done, figures)


def _known(adapter: dict[str, Any]) -> dict[str, Any]:
    return {name: adapter[name] for name in LoraSection.model_fields}


def _note(folder: Path) -> dict[str, Any]:
    path = folder / "arm.json"
    return files.read_json(path) if path.is_file() else {}


def _write_note(folder: Path, key: str, figures: dict[str, Any]) -> None:
    files.write_json(folder / "arm.json", {"key": key, "figures": figures})


def without_tokens(folder: Path, base: Base, *, load_in_4bit: bool, seed: int) -> dict[str, Any]:
    """A checkpoint of the base with an empty set of new ids: an earlier language's rows are old ones, as in the run."""
    model, _ = checkpoint.on_base(base, load_in_4bit=load_in_4bit, seed=seed)
    rows = len(model.get_input_embeddings().weight)
    _save(folder, model, text.tokenizer(base.tokenizer_folder), base, range(rows, rows), "none")
    return {}


def _with_added_tokens(
    folder: Path, base: Base, tokenizer: Path, *, load_in_4bit: bool, seed: int
) -> dict[str, Any]:
    """A checkpoint of the base with the new tokens' texts as AddedTokens, rows at the mean."""
    new, own = NewTokens.read(tokenizer), text.tokenizer(base.tokenizer_folder)
    known = own.get_vocab()
    texts = [t for t in dict.fromkeys(new.texts) if t and t.strip() and t not in known]
    model, _ = checkpoint.on_base(base, load_in_4bit=load_in_4bit, seed=seed)
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    first = len(own)
    ids = range(first, first + len(texts))
    extend.grow(causal, own, ids, texts)
    assert len(own) == ids.stop, "every text became a token of its own"
    _save(folder, model, own, base, ids, "unsloth_mean")
    return {"added_tokens": len(texts), "left_out": len(new.ids) - len(texts)}


def _save(folder: Path, model: Any, tokenizer: Any, base: Base, ids: range, init: str) -> None:
    earlier: dict[str, Any] = {}
    parent: dict[str, Any] = {}
    if base.checkpoint is not None:
        earlier = manifest.read(base.checkpoint)
        parent = {"stage": earlier["stage"], "checkpoint": checkpoint.digest(base.checkpoint)}
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    checkpoint.save(
        folder,
        model,
        tokenizer,
        base=reference.recorded(earlier["base"]) if earlier else base,
        stage="extend",
        new_ids=ids,
        init=init,
        load_in_4bit=backend.is_quantized(causal),
        lora=earlier.get("lora"),
        lineage=[*earlier["lineage"], parent] if earlier else [],
        extensions=[*earlier.get("extensions", []), checkpoint.extension(ids, init)],
    )
