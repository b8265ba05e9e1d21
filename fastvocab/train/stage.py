"""What ``pretrain`` and ``instruct`` do alike: take up a checkpoint or a save, train, leave a checkpoint."""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastvocab import console, files, processes
from fastvocab.config.models import LoraSection, PretrainSection, TrainSection
from fastvocab.errors import ConfigError
from fastvocab.model import backend, checkpoint, heldout, load, reference, speed
from fastvocab.model.manifest import new_ids
from fastvocab.train import loop, saves, subwords
from fastvocab.train.budget import recomputes
from fastvocab.train.data import Data
from fastvocab.train.evaluation import Watched
from fastvocab.train.optimizer import Groups, warn_of_rates
from fastvocab.train.trackers import Tracking
from fastvocab.train.trainer import Job

#: (model, tokenizer, folder for temporary files) -> rows to train on
Prepare = Callable[[Any, Any, Path], Data]


def own_adapter(asked: LoraSection, saved: dict[str, Any]) -> LoraSection:
    """The settings of the adapter that a checkpoint goes on with: those it was made with.

    Args:
        asked: what the configuration says; only keys that were set count.
        saved: ``lora`` of the checkpoint's manifest.

    Raises:
        ConfigError: a key was set to something else.
    """
    wrong = []
    for key in sorted(asked.model_fields_set):
        wanted, found = getattr(asked, key), saved[key]
        if set(wanted) != set(found) if key == "targets" else wanted != found:
            shown = [", ".join(v) if key == "targets" else v for v in (wanted, found)]
            wrong.append(f"pretrain.lora.{key} is {shown[0]}, and the checkpoint's adapter has {shown[1]}")
    if wrong:
        raise ConfigError(
            "; ".join(wrong),
            rule="training goes on with the adapter that is there: its shape cannot be changed",
            fix="leave these keys out; for a new adapter export the checkpoint and use that folder as the base",
        )
    kept = {key: saved[key] for key in type(asked).model_fields}
    return asked.model_copy(update=kept | {"targets": tuple(saved["targets"])})


def train(
    folder: Path,
    *,
    stage: str,
    previous: Path,
    section: TrainSection,
    lora: dict[str, Any] | None,
    prepare: Prepare,
    block: int,
    key: str,
    saves_folder: Path,
    seed: int,
    template: Callable[[Any], str | None] | None = None,
    track: Tracking | None = None,
    watched: Watched | None = None,
) -> dict[str, Any]:
    """Train on top of the checkpoint ``previous`` and write the new one into ``folder``.

    Args:
        lora: settings of the adapter, where ``previous`` has none.
        prepare: makes the rows.
        key, saves_folder: of the run; a save made under the same key is gone on from.
        template: tokenizer -> the chat template to give it, None for its own.
        track: trackers that follow the training.
        watched: held-out text for evaluations on the way.

    Returns:
        Figures, with ``settings`` as they were used; ``log.jsonl`` in ``folder`` has a line for each step and each
        evaluation. With ``pretrain.patience`` the checkpoint is the best evaluated one (``best_step``).
    """
    key = f"{key}:{backend.device()}"  # batch and optimizer are the device's: its saves are not another's
    resume = processes.share(saves.newest(saves_folder, key) if processes.is_main() else None)
    manifest = checkpoint.read(previous)
    full = section.layers == "full"
    lora = None if full else lora
    if manifest["lora"] and isinstance(section, PretrainSection):
        kept = own_adapter(section.lora, manifest["lora"])
        console.say(f"  the adapter of the checkpoint goes on (r={kept.r}, alpha={kept.alpha})")

    # unsloth's GPU classes cut what is longer than they were loaded for: a piece of held-out text may be
    longest = block if watched is None else max(block, heldout.PIECE_BYTES + 1)

    def opened(path: Path) -> tuple[Any, Any]:
        return checkpoint.load(
            path,
            trainable=True,
            lora=lora,
            embeddings=section.embeddings,
            full_layers=full,
            block=longest,
            seed=seed,
            gradient_checkpointing=recomputes(section),
        )

    model, tokenizer = opened(resume[0] if resume else previous)
    if template is not None and (given := template(tokenizer)) is not None:
        tokenizer.chat_template = given
    ids = new_ids(manifest)
    share = isinstance(section, PretrainSection) and section.shared_subwords
    groups = Groups(model, ids, subwords.texts(tokenizer, ids) if share and ids else ())
    spare = isinstance(section, PretrainSection) and section.patience is not None  # the best save
    loop.require_disk(saves_folder, model, section.keep_saves + spare, shared=groups.shared_bytes)
    with _work(saves_folder) as work:
        data = prepare(model, tokenizer, work)
    warn_of_rates(section, stage, groups)
    rates = groups.rates(section)
    if isinstance(section, PretrainSection) and section.rows_first and not groups.new_rows:
        console.warn("pretrain.rows_first: no added rows train here, so there is no phase for them")
    base = reference.recorded(manifest["base"])
    parent = {"stage": manifest["stage"], "checkpoint": checkpoint.digest(previous)}

    def write(target: Path) -> dict[str, Any]:
        return checkpoint.save(
            target,
            model,
            tokenizer,
            base=base,
            stage=stage,
            new_ids=ids,
            init=manifest["init"],
            load_in_4bit=manifest["load_in_4bit"],
            lora=manifest["lora"] or lora,
            embeddings=section.embeddings,
            lineage=[*manifest["lineage"], parent],
            extensions=manifest["extensions"],
        )

    budget = loop.budget_of(section, data, resume[1]["seconds"] if resume else 0.0)
    job = Job(section, data, budget, groups, stage, key, saves_folder, seed, write, track)
    log, figures = loop.fit(model, tokenizer, job, resume=resume, watched=watched)
    if not processes.is_main():
        return figures  # the main process writes
    remember_rate(model, figures)
    if (best := figures["best_step"]) is not None:
        console.say(f"  the checkpoint is that of step {best}, the best evaluated")
        del model, groups, job
        gc.collect()  # or there would be two models in memory
        model, _ = opened(saves.path(saves_folder, best))
    parent["tokens_after"] = figures["tokens"] if best is None else figures["best_tokens"]
    write(folder)
    files.write_text(folder / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in log))
    lora = manifest["lora"] or lora
    settings = section.model_dump(mode="json") | rates | {"lora": lora, "batch": loop.batch_size(section)}
    return {**figures, "data": data.figures, "settings": settings, "lora": lora}


@contextmanager
def _work(folder: Path) -> Iterator[Path]:
    """Where temporary files go: beside the saves, but not those of several processes into one folder."""
    if processes.is_main():
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="fastvocab-") as own:
            yield Path(own)


def remember_rate(model: Any, figures: dict[str, Any]) -> None:
    """Keep the rate of a training for later plans (`fastvocab.model.speed`)."""
    import torch

    on_gpu = backend.device() == "cuda"
    through = sum(p.numel() for p in model.parameters())
    if not load.is_tied(model):
        through -= model.get_input_embeddings().weight.numel()
    speed.remember(
        torch.cuda.get_device_name() if on_gpu else speed.cpu_name(),
        tokens=figures["tokens"],
        seconds=figures["seconds_training"],
        parameters=through,
    )
