"""The plan of a configuration: what it would take, and what is wrong with it; nothing is fetched or written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastvocab.architecture import Architecture
from fastvocab.config import Config
from fastvocab.errors import ConfigError, ModelError
from fastvocab.model import reference
from fastvocab.model.reference import Base
from fastvocab.plan import bases, checks, sizes
from fastvocab.plan import device as devices
from fastvocab.plan import show as printing
from fastvocab.plan.outlook import Outlook
from fastvocab.plan.outlook import require_memory as require
from fastvocab.run import Run, Step


@dataclass(frozen=True)
class Plan:
    """A plan.

    Attributes:
        config: with the adapter that training will use.
        base: None where nothing of it is on this machine.
        outlook: what it takes; None without a base.
        measured: of a few steps that were taken: ``tokens_per_second``, ``peak_memory_bytes``; else None.
    """

    config: Config
    base: Base | None
    outlook: Outlook | None
    measured: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        if self.outlook is None:
            return {"base": self.config.model.base, "here": False}
        assert self.base is not None
        whole = reference.is_whole(self.base)
        known = {"base": self.base.name, "here": True, "weights": whole, "measured": self.measured}
        return known | self.outlook.as_json(self.config)


def look(config: Config, *, gpu: str | None = None, measure: bool = False, fresh: bool = False) -> Plan:
    """The plan of ``config``, with everything checked but whether there is room, which it tells of.

    Args:
        gpu: of another machine (`fastvocab.plan.device.find`); None: this one.
        measure: take a few steps of pretraining here, for the rate.
        fresh: what an existing run has done does not count.

    Raises:
        FastvocabError: what stands in the way, all of it.
    """
    device = devices.find(gpu)
    # hashing 16 GB takes 12 s the first time: only a run that is there has something to compare with
    exists = (Path(config.runs).expanduser() / config.name).exists()
    whole = exists and (config.recipe != "new_language" or bool(config.corpus.train))
    found = bases.find_base(config, fetch=False) if whole else bases.glance(config)
    settled, ahead = checks.check(config, found, device, room=False, fresh=fresh)
    if not measure:
        return Plan(settled, found, ahead)
    if config.recipe != "new_language":
        raise ConfigError(
            f"--measure in the recipe {config.recipe}",
            rule="it takes steps of pretraining on text",
            fix="leave it out",
        )
    if device.given:
        raise ConfigError("--measure takes steps on this machine", fix="leave --gpu out, or --measure")
    if found is None or ahead is None or not reference.is_whole(found):
        raise ModelError(
            f"--measure: the weights of {config.model.base} are not on this machine",
            fix="leave --measure out",
        )
    from fastvocab.train import trial

    measured = trial.run(settled, reference.resolve(config.model.base), ahead.sizes.rows, ahead.sizes.new)
    settled, ahead = checks.check(config, found, device, room=False, measured=measured["tokens_per_second"])
    return Plan(settled, found, ahead, measured)


def show(run: Run, steps: list[Step], plan: Plan, *, fresh: bool = False) -> None:
    """The plan on the console."""
    printing.show(run, steps, plan.base, plan.outlook, plan.measured, fresh=fresh)


def require_memory(config: Config, base: Base, extended: dict[str, Any], stage: str) -> None:
    """Refuse a stage's training that does not fit, now that the number of new tokens is known.

    Args:
        extended: figures of the stage ``extend``.

    Raises:
        ResourceError: with the settings that would fit.
    """
    device = devices.find()
    own = replace(device, memory=device.memory + _own_memory(device))
    new = extended["tokens"] - extended["base_tokens"]
    full = getattr(config, stage).layers == "full"
    architecture = Architecture.read(base.config, base.folder)
    found = sizes.of(architecture, config.pretrain.lora, new, None, own_layers=full)
    require(config, replace(found, rows=extended["rows"]), own, stage)


def _own_memory(device: devices.Device) -> int:
    """What this process holds already and will use again."""
    if device.kind == "cpu":
        import psutil

        return int(psutil.Process().memory_info().rss)
    import torch

    return int(torch.cuda.memory_reserved())
