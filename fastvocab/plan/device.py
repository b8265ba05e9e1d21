"""The machine that a plan is for: the GPU that is here or was named, else this CPU; without torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from difflib import get_close_matches

from fastvocab.doctor import machine
from fastvocab.errors import ConfigError

#: Memory (GiB) and dense 16-bit matrix products (operations a second) of GPUs people have, by their data sheets.
GPUS = {
    "T4": (16, 65e12), "P100": (16, 19e12), "V100": (16, 112e12), "L4": (24, 121e12), "A10": (24, 125e12),
    "A10G": (24, 70e12), "A6000": (48, 155e12), "L40S": (48, 362e12), "A100": (40, 312e12), "A100-80GB": (80, 312e12),
    "H100": (80, 989e12), "H200": (141, 989e12), "B200": (180, 2250e12), "RTX 2080 TI": (11, 54e12),
    "RTX 3060": (12, 51e12), "RTX 3090": (24, 71e12), "RTX 4060": (8, 60e12), "RTX 4090": (24, 165e12),
    "RTX 5090": (32, 210e12),
}  # fmt: skip
#: Of a GPU's nominal memory: what its driver and firmware keep (a T4 has 15,360 MiB less 0.5 for the driver).
_USABLE = 0.92
#: Without tensor cores for bfloat16; trained in float16.
_OLD = {"T4", "P100", "V100", "RTX 2080 TI"}
_GIB = 2**30


@dataclass(frozen=True)
class Device:
    """What training would run on.

    Attributes:
        kind: ``gpu`` or ``cpu``.
        name: as it calls itself, or as it was given.
        memory: bytes that training may take, of memory that is free now, or all of a GPU that was named.
        flops: operations a second of a GPU's 16-bit matrix products by its data sheet; None: unknown.
        bfloat16: whether it has them in hardware.
        given: named, not found.
    """

    kind: str
    name: str
    memory: int
    flops: float | None
    bfloat16: bool
    given: bool = False

    def describe(self) -> str:
        """For a person."""
        return f"{self.name}, {self.memory / 1e9:.1f} GB " + ("to be had" if self.given else "free")


def find(given: str | None = None) -> Device:
    """The device: ``given``, or the GPU that nvidia-smi shows and CUDA_VISIBLE_DEVICES leaves, or the CPU.

    Args:
        given: a GPU's name (`GPUS`), a number of GiB, or ``cpu``.

    Raises:
        ConfigError: a name that is none of these.
    """
    if given is None:
        return _found_gpu() or cpu()
    if given.strip().lower() == "cpu":
        return cpu()
    if re.fullmatch(r"\d+(\.\d+)?( ?Gi?B)?", given.strip(), re.IGNORECASE):
        size = float(re.findall(r"[\d.]+", given)[0])
        if size <= 0:
            raise ConfigError(f"--gpu {given}", rule="a GPU has more than 0 GiB of memory")
        return Device("gpu", f"a GPU of {size:g} GiB", int(size * _USABLE * _GIB), None, True, given=True)
    name = _known(given)
    if name is None:
        near = get_close_matches(given.upper(), GPUS, 1, 0.4)
        raise ConfigError(
            f"--gpu {given}",
            rule=f"a number of GiB, cpu, or one of {', '.join(GPUS)}",
            fix=f"did you mean {near[0]}?" if near else "--gpu 24 for a GPU of 24 GiB",
        )
    size, flops = GPUS[name]
    return Device("gpu", name, int(size * _USABLE * _GIB), flops, name not in _OLD, given=True)


def _known(name: str) -> str | None:
    """The longest name of `GPUS` that is in ``name``, such as A100 in NVIDIA A100-SXM4-40GB."""
    words = f" {re.sub(r'[^A-Z0-9]+', ' ', name.upper())} "
    found = [gpu for gpu in GPUS if f" {re.sub(r'[^A-Z0-9]+', ' ', gpu)} " in words]
    return max(found, key=len, default=None)


def _found_gpu() -> Device | None:
    command = shutil.which("nvidia-smi")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if command is None or (visible is not None and visible.strip() in ("", "-1")):
        return None
    fields = "--query-gpu=index,uuid,name,memory.free,compute_cap"
    try:
        done = subprocess.run(
            [command, fields, "--format=csv,noheader,nounits"],
            capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    rows = [row for row in rows if len(row) == 5 and row[3].isdigit()]
    first = visible.split(",")[0].strip() if visible else None
    row = next((r for r in rows if first in (None, r[0]) or r[1].startswith(str(first))), None)
    if row is None:
        return None
    _, _, name, free, capability = row
    known = _known(name)
    modern = capability.split(".")[0].isdigit() and int(capability.split(".")[0]) >= 8
    return Device("gpu", name, int(free) * 2**20, GPUS[known][1] if known else None, modern)


def cpu() -> Device:
    """This machine without a GPU."""
    memory, _ = machine.memory()
    name = (
        f"CPU, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
    )
    return Device("cpu", name, memory, None, bool(machine.cpu_has_bfloat16()))
