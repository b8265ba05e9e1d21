"""Unsloth's GPU classes on a machine without a GPU: its own switch, Triton's interpreter, and "cuda" read as "cpu".

What runs is the installed unsloth as a GPU gets it: its loader, its forward passes, its Triton kernels (interpreted),
its trainer as it is generated from TRL's. What does not: the CUDA library, xformers, flash attention, 4-bit. Stood
in for are torch.cuda's questions about the device, the name "cuda" of a device, and accelerate's refusal to scale
float16 on a CPU. bfloat16 is wrong in Triton 3.8's interpreter (infinite where the kernel is not), so the device is
one without it, as a T4 is: weights are float16.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

#: Of the device that is stood in for.
MEMORY = 16 << 30


class _Trainers:
    """Lets unsloth generate its trainer: under its own switch it leaves TRL's as they are, for tests of its own."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "unsloth.models.rl":  # every module has asked for the device by now
            os.environ["UNSLOTH_ALLOW_CPU"] = "0"


def install(compiled: str) -> None:
    """To be called before torch is imported.

    Args:
        compiled: folder for the trainers that unsloth generates.
    """
    assert "torch" not in sys.modules, "too late: the kernels are defined when unsloth is imported"
    os.environ |= {
        "UNSLOTH_ALLOW_CPU": "1",
        "UNSLOTH_DISABLE_STATISTICS": "1",
        "UNSLOTH_COMPILE_LOCATION": compiled,
        "UNSLOTH_COMPILE_DISABLE": "1",
        "TRITON_INTERPRET": "1",
        "TORCHDYNAMO_DISABLE": "1",
        "TORCH_COMPILE_DISABLE": "1",
    }
    sys.meta_path.insert(0, _Trainers())  # type: ignore[arg-type]
    import torch

    device = SimpleNamespace(
        name="stand-in", total_memory=MEMORY, major=7, minor=5, multi_processor_count=1, gcnArchName=""
    )
    torch.cuda.get_device_properties = lambda *_: device
    torch.cuda.get_device_capability = lambda *_: (7, 5)
    torch.cuda.current_device = lambda: 0
    torch.cuda.mem_get_info = lambda *_: (MEMORY, MEMORY)
    torch.cuda.synchronize = lambda *_: None
    for kind in (torch.autocast, torch.amp.GradScaler):
        kind.__init__ = _on_cpu(kind.__init__)  # type: ignore[misc]
    _scale_on_cpu()
    import unsloth.models.llama

    unsloth.models.llama.DEVICE_COUNT = 1
    _mode().__enter__()


def _on_cpu(init: Any) -> Any:
    def on_cpu(self: Any, device: str = "cuda", *args: Any, **kwargs: Any) -> None:
        kind = kwargs.pop("device_type", device)
        init(self, "cpu" if kind == "cuda" else kind, *args, **kwargs)

    return on_cpu


def _scale_on_cpu() -> None:
    """accelerate has neither autocast to float16 nor a gradient scaler for a CPU; torch has both."""
    import torch
    from accelerate import Accelerator

    init = Accelerator.__init__

    def scaled(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if self.state.mixed_precision == "fp16":
            self.native_amp, self.scaler = True, torch.amp.GradScaler("cpu")

    Accelerator.__init__ = scaled  # type: ignore[method-assign]


def _mode() -> Any:
    import torch
    from torch.overrides import TorchFunctionMode

    def named(device: Any) -> Any:
        if isinstance(device, int) and not isinstance(device, bool):
            return "cpu"
        return "cpu" if str(device).startswith("cuda") else device

    class Named(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = dict(kwargs or {})
            if "device" in kwargs:
                kwargs["device"] = named(kwargs["device"])
            kwargs.pop("pin_memory", None)
            if func is torch.Tensor.cuda:
                return args[0]
            if func is torch.Tensor.to and len(args) > 1 and isinstance(args[1], str | torch.device | int):
                args = (args[0], named(args[1]), *args[2:])
            return func(*args, **kwargs)

    return Named()
