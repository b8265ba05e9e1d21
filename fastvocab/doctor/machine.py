"""What the machine has: GPU, memory, disk, cores."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_ASKED = "name,memory.total,memory.free,driver_version,compute_cap"


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU, as nvidia-smi tells it; memory in MiB."""

    name: str
    total: int
    free: int
    driver: str
    capability: tuple[int, int]

    @property
    def bfloat16(self) -> bool:
        """Has it bfloat16 in hardware: Ampere (8.0) and later."""
        return self.capability >= (8, 0)


def gpus() -> tuple[list[Gpu], str]:
    """The GPUs, and what is wrong where there is an nvidia-smi that does not tell them."""
    if shutil.which("nvidia-smi") is None:
        return [], ""
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={_ASKED}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"nvidia-smi failed: {error}"
    found = [gpu for line in done.stdout.splitlines() if (gpu := _gpu(line))]
    if found:
        return found, ""
    said = (done.stdout.strip() or done.stderr.strip() or "nothing").splitlines()[0][:200]
    return [], f"nvidia-smi says: {said}"


def _gpu(line: str) -> Gpu | None:
    fields = [field.strip() for field in line.split(",")]
    try:
        name, total, free, driver, capability = fields
        major, _, minor = capability.partition(".")
        return Gpu(name, int(total), int(free), driver, (int(major), int(minor)))
    except ValueError:  # "[N/A]", or a sentence
        return None


def cpu_has_bfloat16() -> bool | None:
    """Has the CPU bfloat16 in hardware? None where that is not told."""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text(errors="replace").split()) if info.exists() else set()
    return bool(flags & {"amx_bf16", "avx512_bf16", "bf16"}) if flags else None


def cpu_bfloat16() -> str:
    """`cpu_has_bfloat16` in words."""
    words = {True: "in hardware", False: "not in hardware; training is slower", None: "unknown"}
    return words[cpu_has_bfloat16()]


def memory() -> tuple[int, int]:
    """Bytes of main memory: free, and in all, as far as a container lets this process have them."""
    import psutil

    found = psutil.virtual_memory()
    most, left = _container()
    return min(int(found.available), left), min(int(found.total), most)


def _container() -> tuple[int, int]:
    """A container's limit, and what it leaves; /proc/meminfo tells of the whole machine."""
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            most, taken = (Path(path).read_text(encoding="ascii").strip() for path in (limit, used))
        except OSError:
            continue
        if most.isdigit() and taken.isdigit():
            return int(most), max(0, int(most) - int(taken))
    return 2**62, 2**62


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def disk(folder: Path) -> tuple[int, bool]:
    """Free bytes where a folder is or will be, and whether it can be written to."""
    place = existing(folder)
    return shutil.disk_usage(place).free, os.access(place, os.W_OK)
