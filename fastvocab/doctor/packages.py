"""What is installed, by the packages' own metadata: nothing is imported."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

#: Packages whose own words on the versions of others decide whether training works.
DECIDING = ("unsloth", "unsloth_zoo", "torch", "torchvision", "transformers", "peft", "trl", "datasets", "accelerate",
            "tokenizers", "huggingface-hub", "bitsandbytes", "xformers", "safetensors")  # fmt: skip
#: Others that they may speak of; what else they ask for (certifi, say) is no reason not to train.
_SPOKEN_OF = {
    *map(canonicalize_name, DECIDING),
    "numpy",
    "triton",
    "protobuf",
    "pyarrow",
    "fsspec",
    "packaging",
    "torchao",
}


def version(name: str) -> str | None:
    """The installed version; None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def requirements(name: str, extra: str = "") -> list[Requirement]:
    """What an installed package asks for on this machine; with ``extra`` what that asks for in addition."""
    try:
        told = metadata.distribution(name).requires or []
    except metadata.PackageNotFoundError:
        return []
    wanted = []
    for line in told:
        try:
            one = Requirement(line)
        except InvalidRequirement:  # of an old package
            continue
        if one.marker is None:
            applies = not extra
        else:
            applies = one.marker.evaluate({"extra": extra}) and not (
                extra and one.marker.evaluate({"extra": ""})
            )
        if applies:
            wanted.append(one)
    return wanted


def lacking(wanted: list[Requirement]) -> list[Requirement]:
    """Those that are not installed, or in another version."""
    return [one for one in wanted if (there := version(one.name)) is None or not _fits(one.specifier, there)]


def extras(name: str) -> list[str]:
    """The extras of an installed package."""
    try:
        return metadata.distribution(name).metadata.get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return []


def conflicts(
    of: tuple[str, ...] = DECIDING, installed: Callable[[str], str | None] = version
) -> Iterator[tuple[str, str]]:
    """(what is asked for and what is there, the command that mends it), for packages that decide something."""
    for name in of:
        own = installed(name)
        if own is None:
            continue
        told = metadata.distribution(name).metadata.get_all("Requires-Python") or []
        python = ",".join(told)
        if python and not _fits(SpecifierSet(python), platform.python_version()):
            yield (
                f"{name} {own} asks for Python {python}, and this is {platform.python_version()}",
                f"another Python, or another {name}",
            )
        for one in requirements(name):
            there = installed(one.name)
            if there is None or canonicalize_name(one.name) not in _SPOKEN_OF or _fits(one.specifier, there):
                continue
            yield (
                f"{name} {own} asks for {one.name}{one.specifier}, and {there} is installed",
                f"pip install '{one.name}{one.specifier}'",
            )


def _fits(specifier: SpecifierSet, found: str) -> bool:
    return specifier.contains(found, prereleases=True)
