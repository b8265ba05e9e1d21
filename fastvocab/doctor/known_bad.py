"""Pairs of versions that are known not to work together, and no metadata says so.

What packages do say of each other is asked of them (`packages.conflicts`); this table is for the rest, each with the
place where people met it. Only what versions alone can tell is here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from packaging.requirements import Requirement


@dataclass(frozen=True)
class Pair:
    """Two packages that are bad for each other where both specifications hold.

    Attributes:
        one, other: such as ``peft<0.18``.
        happens: what one sees.
        do: the command that mends it.
        source: where it is told.
        fatal: does fastvocab stop working, or only lose something?
    """

    one: str
    other: str
    happens: str
    do: str
    source: str
    fatal: bool = True

    def found(self, version: Callable[[str], str | None]) -> tuple[str, str] | None:
        """Both packages as they are installed (``"peft 0.17.1"``), where this pair is; else None."""
        shown = []
        for text in (self.one, self.other):
            wanted = Requirement(text)
            installed = version(wanted.name)
            if installed is None or not wanted.specifier.contains(installed, prereleases=True):
                return None
            shown.append(f"{wanted.name} {installed}")
        return shown[0], shown[1]


#: torchvision 0.N is built for torch 2.(N-15), and its metadata asks for that release or a newer one.
_TORCHVISION = tuple(
    Pair(
        f"torchvision==0.{minor + 15}.*",
        f"torch!=2.{minor}.*",
        "importing transformers fails: operator torchvision::nms does not exist",
        f"pip install 'torch==2.{minor}.*', or the torchvision of the torch that is there",
        "https://github.com/pytorch/vision/issues/9174",
    )
    for minor in range(4, 15)
)

PAIRS: tuple[Pair, ...] = (
    Pair(
        "peft<0.18",
        "transformers>=5",
        "importing peft fails: cannot import name 'HybridCache' from 'transformers'",
        "pip install -U peft",
        "https://github.com/huggingface/trl/pull/4820",
    ),
    Pair(
        "peft>=0.19",
        "torchao<0.16",
        "putting LoRA on fails: found an incompatible version of torchao",
        "pip install -U torchao, or pip uninstall torchao",
        "https://github.com/oumi-ai/oumi/pull/2408",
    ),
    Pair(
        "torchao>=0.18",
        "torch<2.11",
        "importing torchao fails: torch.nn.functional has no ScalingType",
        "pip install 'torchao<0.18', or pip install -U torch",
        "https://github.com/daydreamlive/DEMON/pull/325",
    ),
    Pair(
        "bitsandbytes<0.45.2",
        "triton>=3.2",
        "importing unsloth fails: no module named 'triton.ops'",
        "pip install -U bitsandbytes",
        "https://github.com/bitsandbytes-foundation/bitsandbytes/issues/1492",
    ),
    Pair(
        "torchcodec>=0.11",
        "torch<2.11",
        "importing unsloth or datasets may fail: could not load libtorchcodec",
        "pip uninstall torchcodec (it is for audio), or pip install 'torchcodec<0.11'",
        "https://github.com/unslothai/unsloth/issues/7225",
        fatal=False,
    ),
    Pair(
        "jinja2<3.1",
        "transformers>=4.43",
        "chat templates fail: they need jinja2>=3.1.0",
        "pip install -U jinja2",
        "https://github.com/huggingface/transformers/pull/31455",
    ),
    Pair(
        "typer<0.16",
        "click>=8.2",
        "--help fails: make_metavar() missing 1 required positional argument: 'ctx'",
        "pip install -U typer",
        "https://github.com/fastapi/typer/pull/1145",
    ),
    *_TORCHVISION,
)
