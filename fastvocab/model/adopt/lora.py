"""The LoRA part: tensors by module, one rank and one scaling for all of them.

A checkpoint knows one ``r``, one ``alpha`` and a list of module names. What an adapter does beyond that is brought
to it without changing the model: a smaller rank is filled up with zeros, another scaling goes into B, and a layer
that was left out gets B = 0.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from fastvocab.model.adopt import find
from fastvocab.model.adopt.tensors import Entry, Findings


@dataclass
class Lora:
    """LoRA as a checkpoint has it.

    Attributes:
        settings: r, alpha, dropout, targets; None where there is no LoRA.
        pairs: (A, B) by module, A (r, inputs), B (outputs, r), on the CPU.
    """

    settings: dict[str, Any] | None
    pairs: dict[str, tuple[Any, Any]] = field(default_factory=dict)


def scaling(config: dict[str, Any], module: str, rank: int) -> float:
    """What B A is multiplied by: alpha / r, with rslora alpha / sqrt(r) (arXiv 2312.03732)."""
    alpha = float(config.get("lora_alpha", rank))
    for name, value in (config.get("alpha_pattern") or {}).items():
        if module == name or module.endswith(f".{name}"):
            alpha = float(value)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def pattern_faults(config: dict[str, Any]) -> list[str]:
    """Patterns that are regular expressions, or no mapping to numbers at all."""
    faults = []
    for field_name in ("rank_pattern", "alpha_pattern"):
        found = config.get(field_name) or {}
        if not isinstance(found, dict) or not all(isinstance(v, int | float) for v in found.values()):
            faults.append(f"{field_name}={found!r:.60} is no mapping of names to numbers")
        elif odd := [name for name in found if not name.replace(".", "_").isidentifier()]:
            faults.append(f"{field_name} has the regular expression {odd[0]!r}; names of modules are read")
    return faults


def collect(
    config: dict[str, Any], entries: list[Entry], linear: dict[str, tuple[int, ...]], said: Findings
) -> Lora:
    """LoRA on the linear modules, checked against the base's shapes.

    Args:
        config: adapter_config.json.
        entries: all tensors of the folder.
        linear: shape (outputs, inputs) of each linear module of the base, by name.
        said: gets faults (names, shapes, halves, missing modules) and notes.
    """
    halves: dict[str, dict[str, Entry]] = defaultdict(dict)
    for entry in entries:
        if entry.role in ("lora_A", "lora_B") and find.last(entry.module) not in find.PARTS:
            halves[entry.module][entry.role] = entry
    faults = len(said.faults)
    for module, own in sorted(halves.items()):
        said.faults += _pair_faults(config, module, own, linear.get(module))
    said.faults += _left_out(config, set(halves), linear)
    if len(said.faults) > faults or not halves:
        return Lora(None)
    scalings = {m: scaling(config, m, own["lora_A"].shape[0]) for m, own in halves.items()}
    rank = max(own["lora_A"].shape[0] for own in halves.values())
    values = list(scalings.values())
    # 0 only where all are: nothing else can be brought to it
    common = max(set(filter(None, values)), key=values.count, default=0.0)
    factors = {m: value / common if common else 1.0 for m, value in scalings.items()}
    alpha = common * rank
    pairs = {
        module: _even(own["lora_A"].read(), own["lora_B"].read(), rank, factors[module])
        for module, own in halves.items()
    }
    if other := sum(value != common for value in values):
        said.notes.append(f"{other} modules have another scaling than the rest: it was put into their B")
    if small := sum(own["lora_A"].shape[0] < rank for own in halves.values()):
        said.notes.append(f"{small} modules have a smaller rank: filled up with zeros to {rank}")
    targets = sorted({find.last(module) for module in halves})
    if still := [m for m in linear if find.last(m) in targets and m not in halves]:
        said.notes.append(
            f"{len(still)} modules named {', '.join(sorted({find.last(m) for m in still}))} had no LoRA: "
            "theirs is zero, and would learn in further training"
        )
    settings = {
        "r": rank,
        "alpha": int(alpha) if float(alpha).is_integer() else alpha,
        "dropout": float(config.get("lora_dropout") or 0.0),
        "targets": targets,
    }
    return Lora(settings, pairs)


def _pair_faults(
    config: dict[str, Any], module: str, own: dict[str, Entry], shape: tuple[int, ...] | None
) -> list[str]:
    if shape is None:
        return [f"LoRA for {module}, which the base does not have"]
    if missing := {"lora_A", "lora_B"} - own.keys():
        return [f"{module} has no {missing.pop()}"]
    first, second = own["lora_A"].shape, own["lora_B"].shape
    if len(first) != 2 or len(second) != 2 or not math.prod(first) or not math.prod(second):
        return [f"LoRA of {module} is {first} and {second}: a shard that was not gathered before saving"]
    if first[0] != second[1] or (second[0], first[1]) != shape:
        return [f"LoRA of {module} is {first} and {second}, the base's weight {shape}"]
    if not config.get("rank_pattern") and first[0] != config.get("r"):
        return [f"LoRA of {module} has rank {first[0]}, adapter_config.json r={config.get('r')}"]
    return []


def _left_out(config: dict[str, Any], found: set[str], linear: dict[str, tuple[int, ...]]) -> list[str]:
    """Modules that the config names one by one and whose tensors are in no file."""
    names = config.get("target_modules")
    # a string is a regular expression (untrusted: never run here) or "all-linear"
    if not isinstance(names, list) or find.narrowed(config):
        return []
    wanted = {m for m in linear for n in names if m == n or m.endswith(f".{n}")}
    if lost := sorted(wanted - found):
        return [f"LoRA of {len(lost)} modules that target_modules names is in no file, such as {lost[0]}"]
    return []


def _even(first: Any, second: Any, rank: int, factor: float) -> tuple[Any, Any]:
    import torch

    if len(first) < rank:
        first = torch.cat([first, first.new_zeros(rank - len(first), first.shape[1])])
        second = torch.cat([second, second.new_zeros(len(second), rank - second.shape[1])], dim=1)
    return first, second if factor == 1.0 else second.float() * factor
