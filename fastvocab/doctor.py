"""What this machine has, as far as it decides how fastvocab works here."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

from fastvocab import files
from fastvocab.run import versions


def examine() -> dict[str, Any]:
    """Python, packages, cores, memory, disk, GPU, cache; imports neither torch nor unsloth."""
    import psutil

    memory = psutil.virtual_memory()
    free = shutil.disk_usage(Path.cwd()).free
    gpu = shutil.which("nvidia-smi")
    return {
        **versions(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "memory": f"{memory.available / 1e9:.1f} GB free of {memory.total / 1e9:.1f} GB",
        "disk here": f"{free / 1e9:.1f} GB free",
        "gpu": _gpu_names() if gpu else "none found (no nvidia-smi); the CPU backend will be used",
        "bfloat16": _cpu_bfloat16(),
        "cache": str(files.cache_folder()),
        "HF_TOKEN": "set" if os.environ.get("HF_TOKEN") else "not set",
    }


def _gpu_names() -> str:
    import subprocess

    done = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    return done.stdout.strip() or f"nvidia-smi failed: {done.stderr.strip()[:200]}"


def _cpu_bfloat16() -> str:
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text(errors="replace").split()) if info.exists() else set()
    if not flags:
        return "unknown"
    return (
        "in hardware"
        if flags & {"amx_bf16", "avx512_bf16", "bf16"}
        else "not in hardware; training is slower"
    )
