"""What a configuration will take of a machine: parameters, memory, disk, tokens and time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastvocab import files
from fastvocab.architecture import Architecture
from fastvocab.config import Config
from fastvocab.corpus import sources
from fastvocab.errors import DataError, DependencyError, FastvocabError, ResourceError
from fastvocab.model import manifest, reference
from fastvocab.model.reference import Base
from fastvocab.plan import duration, memory, sizes
from fastvocab.plan.device import Device
from fastvocab.plan.sizes import MODES, Sizes
from fastvocab.tokenizer import base as tokenizers
from fastvocab.tokenizer.size import STEP


@dataclass(frozen=True)
class Outlook:
    """What a run will take.

    Attributes:
        architecture: of the base.
        sizes: with ``tokenizer.new_tokens``, the most of them where that is auto.
        least: the same with the fewest.
        tokens: ids that the base's tokenizer has; None where there is no tokenizer.
        device: what it is for.
        memory: bytes by part, by mode, of the first stage that trains.
        instruct: bytes by part of instruction tuning as configured; None where there is none.
        disk: bytes by part (`sizes.disk`).
        stages: for each stage that trains, tokens and seconds (`duration.of_stage`).
        rate: of training, as configured.
    """

    architecture: Architecture
    sizes: Sizes
    least: Sizes
    tokens: int | None
    device: Device
    memory: dict[str, dict[str, int]]
    instruct: dict[str, int] | None
    disk: dict[str, int]
    stages: dict[str, dict[str, Any]]
    rate: duration.Rate | None

    @property
    def is_auto(self) -> bool:
        """Is the number of new tokens still to be found?"""
        return self.least.new != self.sizes.new

    def require_disk(self, config: Config) -> None:
        """Refuse a run that the disk has no room for.

        Raises:
            ResourceError: with both figures.
        """
        files.require_space(Path(config.runs).expanduser(), sum(self.disk.values()), "the run")

    def require_memory(self, config: Config) -> None:
        """Refuse a training that does not fit, with the settings that would.

        Where the number of tokens is still to be found, the fewest that there may be decide.

        Raises:
            ResourceError: naming stage, need, what there is, and settings.
        """
        for stage in memory.stages(config):
            require_memory(config, self.least, self.device, stage)

    def as_json(self, config: Config) -> dict[str, Any]:
        """Everything as plain data; sizes in bytes, times in seconds."""
        own, most = self.architecture, self.sizes
        modes = {}
        for mode in MODES:
            found = self.memory[mode]
            entry: dict[str, Any] = {
                "as_it_is": most.as_it_is().counts()[mode],
                "extended": most.counts()[mode],
                "memory_bytes": {**found, "total": memory.total(found)},
                "fits": memory.fits(found, self.device),
            }
            if entry["fits"] != "yes":
                stage = memory.stages(config)[0]
                with_mode = memory.with_keys(config, {f"{stage}.embeddings": mode})
                entry["fits_with"] = memory.smaller(with_mode, most, self.device, stage)
            modes[mode] = entry
        return {
            "model_type": own.model_type,
            "shapes": "exact" if own.exact else "assumed to be a Llama's",
            "rows": {"base": own.rows, "tokens": self.tokens, "extended": most.rows, "new_tokens": most.new},
            "new_tokens_asked": sizes.new_tokens(config),
            "width": own.width,
            "matrices": own.matrices,
            "parameters": own.parameters,
            "lora_parameters": most.lora,
            "mode": getattr(config, memory.stages(config)[0]).embeddings,
            "modes": modes,
            "instruct_memory_bytes": self.instruct
            and {**self.instruct, "total": memory.total(self.instruct)},
            "device": asdict(self.device),
            "memory_is": "compared with measured peaks"
            if self.device.kind == "cpu"
            else "an estimate, not measured",
            "disk_bytes": {**self.disk, "total": sum(self.disk.values())},
            "stages": self.stages,
            "tokens_per_second": self.rate and asdict(self.rate),
        }


def look(config: Config, base: Base, device: Device, *, measured: float | None = None) -> Outlook:
    """The outlook of a configuration.

    Args:
        base: with weights or without (`reference.glance`).
        measured: tokens a second of pretraining steps that were just taken.

    Raises:
        ModelError: config.json lacks sizes.
    """
    architecture = Architecture.read(base.config, base.folder)
    length = _length(base)
    asked, lora, stages = sizes.new_tokens(config), config.pretrain.lora, memory.stages(config)
    full = getattr(config, stages[0]).layers == "full"
    most = sizes.of(architecture, lora, asked, length, own_layers=full)
    least = sizes.of(architecture, lora, asked, length, most=STEP, own_layers=full)
    by_mode = {}
    for mode in MODES:
        changed = memory.with_keys(config, {f"{stages[0]}.embeddings": mode})
        by_mode[mode] = memory.of_stage(changed, most, device, stages[0])
    read = config.corpus.items.interactions if config.recipe == "item_tokens" else config.corpus.train
    text = {"pretrain": _bytes(read), "instruct": _bytes(config.instruct.train)}
    everything = sum(text.values()) + _bytes(config.corpus.replay)
    rates = {
        stage: duration.rate(
            most,
            device,
            checkpointing=duration.checkpointing(getattr(config, stage), device),
            measured=measured if stage == stages[0] else None,
        )
        for stage in stages
    }
    return Outlook(
        architecture, most, least, length, device, by_mode,
        memory.of_stage(config, most, device, "instruct") if "instruct" in stages[1:] else None,
        sizes.disk(config, most, text_bytes=everything, on_gpu=device.kind == "gpu"),
        {
            stage: duration.of_stage(getattr(config, stage), device, rates[stage], text_bytes=text[stage])
            for stage in stages
        },
        rates[stages[0]],
    )  # fmt: skip


def require_memory(config: Config, found: Sizes, device: Device, stage: str) -> None:
    """Refuse a stage's training that does not fit a device.

    Raises:
        ResourceError: with the settings that would.
    """
    parts = memory.of_stage(config, found, device, stage)
    if memory.fits(parts, device) != "no":
        return
    largest = sorted(parts, key=parts.__getitem__, reverse=True)[:3]
    shown = ", ".join(f"{name} {parts[name] / 1e9:.1f}" for name in largest)
    keys = memory.smaller(config, found, device, stage)
    fix = "choose a smaller model.base, or a machine with more memory"
    if keys is not None:
        fix = memory.spelled(keys)
    raise ResourceError(
        f"{stage} takes about {memory.total(parts) / 1e9:.1f} GB of memory ({shown} GB), more than there is: "
        f"{device.describe()}",
        rule="a training that does not fit is not begun",
        fix=fix,
    )


def _length(base: Base) -> int | None:
    """Ids that the base's tokenizer has; None where there is none, or none that can be read."""
    if base.checkpoint is not None:
        return int(manifest.peek(base.checkpoint)["vocabulary"]["tokens"])
    if not reference.is_whole(base):
        return None
    try:
        found = tokenizers.read(base.tokenizer_folder)
    except FastvocabError:
        return None  # `checks.check` says what is wrong with it
    return max([*found.vocab.values(), *found.added.values()]) + 1


def _bytes(named: tuple[str, ...]) -> int:
    """Size of text; 0 where it is not there, which is said elsewhere."""
    try:
        return sum(source.bytes or 0 for source in sources.resolve(named)) if named else 0
    except (DataError, DependencyError):
        return 0
