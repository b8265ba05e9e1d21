"""Unsloth on this machine: its import, where models are loaded, in what precision, and how they are read."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from fastvocab import console

#: How long `unsloth` took to import, once it has.
_IMPORTING: list[float] = []
#: Other programs are busy where all of them together have so much of the cores, in percent, over so many seconds.
_BUSY, _LOOK = 10.0, 0.2


def seconds_importing() -> float:
    """What the import of unsloth has cost this process so far: any program that trains pays it once."""
    return sum(_IMPORTING)


@cache
def unsloth() -> Any:
    """The imported ``unsloth`` package, its banner kept off the screen (12 s on 2 cores)."""
    began = time.monotonic()
    sleep_beside_others()
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")  # no call home about machine and model
    # libraries' bars and notices would break into our own; what matters is said by us
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    with console.quiet():
        import unsloth as package
        from datasets.utils.logging import disable_progress_bar
        from transformers.utils import logging as transformers_logging

        disable_progress_bar()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
    _IMPORTING.append(time.monotonic() - began)
    return package


def sleep_beside_others() -> None:
    """Let OpenMP's threads sleep while they wait, if other programs are at work on this machine and nothing is set.

    To be called before torch is loaded. Threads that spin are faster alone and in each other's way beside others.
    A step of 256 tokens, SmolLM2-135M on 2 cores, three runs: 0.76 to 0.80 s spinning (what the library does by
    itself), 0.94 to 1.25 s sleeping; beside one busy process 2.9 s spinning, 1.25 s sleeping.
    """
    import psutil

    if (
        "OMP_WAIT_POLICY" not in os.environ
        and "torch" not in sys.modules
        and psutil.cpu_percent(_LOOK) > _BUSY
    ):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def autocast() -> Any:
    """bfloat16 where a CPU has it in hardware, as in training; on a GPU the weights are 16-bit already.

    Reading with it costs half the time of float32 (SmolLM2-135M, 2 cores with AMX).
    """
    import torch

    enabled = device() == "cpu" and bool(unsloth().is_bfloat16_supported())
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled)


def is_quantized(model: Any) -> bool:
    """Did the linear layers come in 4-bit?"""
    return bool(getattr(model, "is_loaded_in_4bit", False))


@contextmanager
def reading(model: Any) -> Iterator[Any]:
    """Inside, a model that is only read from here on: adapters merged in as in an export, and products in bfloat16 on
    CPUs that have it, as in training.

    There linear weights are cast once instead of in each pass, to the very same numbers. Over a 4-bit base adapters
    stay apart: merging would round the weights anew.

    Args:
        model: it is used up: its adapter and its float32 linear weights are gone afterwards.
    """
    import torch

    if hasattr(model, "merge_and_unload") and not is_quantized(model):
        model = model.merge_and_unload()
    with autocast():
        if torch.is_autocast_enabled("cpu"):
            for module in model.modules():
                if type(module) is torch.nn.Linear and module.weight.dtype == torch.float32:
                    # a parameter of its own: the input embedding that it may be tied to stays as it is
                    module.weight = torch.nn.Parameter(module.weight.detach().bfloat16(), requires_grad=False)
        yield model


def device() -> str:
    """``"cuda"``, ``"xpu"``... or ``"cpu"``: where models are loaded."""
    return str(unsloth().DEVICE_TYPE_TORCH) if hasattr(unsloth(), "DEVICE_TYPE_TORCH") else "cuda"


def dtype_name() -> str:
    """Weights' dtype: float32 on CPU (trained under bfloat16 autocast), the machine's 16-bit type on GPU."""
    if device() == "cpu":
        return "float32"
    return "bfloat16" if unsloth().is_bfloat16_supported() else "float16"


@contextmanager
def generating(model: Any) -> Iterator[None]:
    """Inside, unsloth's own switch is on (KV cache, fast kernels on a GPU); a model in training is in training again
    afterwards, each module as it was.
    """
    modes = {module: module.training for module in model.modules()}
    training = model.training
    recomputing = next(
        (m.gradient_checkpointing for m in modes if getattr(m, "gradient_checkpointing", False)), False
    )
    with console.quiet():
        unsloth().FastLanguageModel.for_inference(model)
    try:
        yield
    finally:
        if training:
            with console.quiet():
                unsloth().FastLanguageModel.for_training(model, use_gradient_checkpointing=recomputing)
            for module, mode in modes.items():
                module.training = mode
