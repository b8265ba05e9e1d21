"""What ``pretrain`` and ``instruct`` do alike: take up a checkpoint or a save, train, leave a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastvocab import console, files
from fastvocab.config.models import LoraSection, PretrainSection, TrainSection
from fastvocab.errors import ConfigError
from fastvocab.model import checkpoint, load, reference
from fastvocab.model.manifest import new_ids
from fastvocab.train import loop, saves

#: (tokenizer, folder for temporary files) -> (dataset, figures)
Prepare = Callable[[Any, Path], tuple[Any, dict[str, Any]]]


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
    template: str | None = None,
    track: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Train on top of the checkpoint ``previous`` and write the new one into ``folder``.

    Args:
        lora: settings of the adapter, where ``previous`` has none.
        prepare: makes the rows of ``input_ids``, ``labels``, ``attention_mask``.
        key, saves_folder: of the run; a save made under the same key is gone on from.
        template: chat template to give the tokenizer.

    Returns:
        Figures, with ``settings`` as they were used; ``log.jsonl`` in ``folder`` has one line a logged step.
    """
    key = f"{key}:{load.device()}"  # batch and optimizer are the device's: its saves are not another's
    resume = saves.newest(saves_folder, key)
    manifest = checkpoint.read(previous)
    if manifest["lora"] and isinstance(section, PretrainSection):
        kept = own_adapter(section.lora, manifest["lora"])
        console.say(f"  the adapter of the checkpoint goes on (r={kept.r}, alpha={kept.alpha})")
    model, tokenizer = checkpoint.load(
        resume[0] if resume else previous,
        trainable=True,
        lora=lora,
        embeddings=section.embeddings,
        block=block,
        seed=seed,
        gradient_checkpointing=loop.recomputes(section),
    )
    if template is not None:
        tokenizer.chat_template = template
    loop.require_disk(saves_folder, model, section.keep_saves)
    dataset, data_figures = prepare(tokenizer, saves_folder)
    base = reference.recorded(manifest["base"])
    lora = manifest["lora"] or lora
    parent = {"stage": manifest["stage"], "checkpoint": checkpoint.digest(previous)}

    def write(target: Path) -> dict[str, Any]:
        return checkpoint.save(
            target,
            model,
            tokenizer,
            base=base,
            stage=stage,
            new_ids=new_ids(manifest),
            init=manifest["init"],
            load_in_4bit=manifest["load_in_4bit"],
            lora=lora,
            embeddings=section.embeddings,
            lineage=[*manifest["lineage"], parent],
            extensions=manifest["extensions"],
        )

    log, figures = loop.fit(
        model, tokenizer, dataset, section,
        stage=stage, key=key, folder=saves_folder, seed=seed, write=write, resume=resume, track=track,
    )  # fmt: skip
    parent["tokens_after"] = figures["tokens"]
    write(folder)
    files.write_text(folder / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in log))
    settings = section.model_dump(mode="json") | {"lora": lora, "batch": loop.batch_size(section)}
    return {**figures, "data": data_figures, "settings": settings, "lora": lora}
