"""What torch and its neighbours were built for, read from their files without importing them.

The version of a package says less than its build: PyPI's torch 2.14.1 is a CUDA 13 build, and says so only inside.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

#: The oldest NVIDIA driver that runs programs of a CUDA major version (CUDA's release notes, table of minor-version
#: compatibility): https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/
_DRIVERS = {11: 450, 12: 525, 13: 580}


@dataclass(frozen=True)
class Build:
    """A package and the accelerator that it was built for.

    Attributes:
        version: with its local part, such as ``2.14.1+cu130``.
        target: ``"CUDA 13.0"``, ``"ROCm 7.1"``, ``"CPU"``; None where its files do not say.
    """

    version: str
    target: str | None

    @property
    def cuda(self) -> int | None:
        """The CUDA major version."""
        found = re.match(r"CUDA (\d+)", self.target or "")
        return int(found[1]) if found else None


def of(package: str) -> Build | None:
    """The build of torch or torchvision; None where it is not installed."""
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return None
    file = Path(str(distribution.locate_file(f"{package}/version.py")))
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    inner = re.search(r"^__version__\s*=\s*['\"]([^'\"]+)", text, re.MULTILINE)
    version = inner[1] if inner else distribution.version
    return Build(version, _target(text, version))


def _target(text: str, version: str) -> str | None:
    for name, shown in (("cuda", "CUDA"), ("hip", "ROCm"), ("xpu", "XPU")):
        if found := re.search(rf"^{name}\b[^=\n]*=\s*['\"]([^'\"]+)", text, re.MULTILINE):
            return f"{shown} {found[1]}"
    local = version.partition("+")[2]
    if digits := re.match(r"cu(\d+)(\d)$", local):
        return f"CUDA {digits[1]}.{digits[2]}"
    if local.startswith("rocm"):
        return f"ROCm {local[4:]}"
    # torch names all of them, None where it was built without; of another package silence says nothing
    return "CPU" if local == "cpu" or re.search(r"^cuda\b.*=\s*None", text, re.MULTILINE) else None


def xformers_cuda() -> int | None:
    """The CUDA major version that xformers was built for; None where it does not say."""
    try:
        file = Path(str(metadata.distribution("xformers").locate_file("xformers/cpp_lib.json")))
    except metadata.PackageNotFoundError:
        return None
    said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    number = (said.get("version") or {}).get("cuda")
    return number // 100 if isinstance(number, int) else None


def needed_driver(build: Build) -> int | None:
    """The oldest NVIDIA driver that runs it, its major number."""
    return _DRIVERS.get(build.cuda) if build.cuda else None
