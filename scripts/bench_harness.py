"""What the benchmarks share: a fresh process for each measurement, progress on standard error, the machine's name."""

from __future__ import annotations

import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_SPAWN = multiprocessing.get_context("spawn")


def alone(step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``step`` gives in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=_SPAWN) as pool:
        return pool.submit(step, *args, **kwargs).result()


def progress(message: str) -> None:
    """A line on standard error."""
    print(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr, flush=True)


def machine(started: float) -> dict[str, Any]:
    """What the figures were taken with."""
    import psutil

    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    names = {line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")}
    found = {"cpu": ", ".join(names) or platform.processor(), "cores": os.cpu_count()}
    found |= {"amx": "amx_bf16" in text, "memory_gb": round(psutil.virtual_memory().total / 1e9)}
    packages = {name: version(name) for name in ("torch", "transformers", "peft", "unsloth")}
    return found | {"seconds": round(time.perf_counter() - started)} | packages


def markdown(lines: list[dict[str, str]]) -> str:
    """A table, one line for each dictionary."""
    if not lines:
        return ""
    heads = list(lines[0])
    text = [heads, ["---"] * len(heads)] + [[line[head] for head in heads] for line in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in text)
