"""What trains, in numbers: parameters by mode, exact, and the bytes that they take on a disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fastvocab.architecture import Architecture
from fastvocab.config import Config
from fastvocab.config.models import LoraSection
from fastvocab.plan import exports
from fastvocab.tokenizer.size import MOST

#: Which rows of the embedding matrices train (``pretrain.embeddings``).
MODES = ("full", "new_rows", "frozen")
#: n-grams that two tokens share, for each added token: 13,452 of 8,000 Ukrainian ones, `fastvocab.train.subwords`.
NGRAMS = 1.7
#: Tokens that number items of the same codes: of 1,682 films in 48 x 48 codes the largest group has about a dozen.
_NUMBERING = 16
#: Rank of the plain way's adapters (`fastvocab.control.arms`, which imports torch).
PLAIN_RANK = 128


@dataclass(frozen=True)
class Sizes:
    """A base with new rows and an adapter.

    Attributes:
        base: the base's shapes.
        rows: of each embedding matrix after the extension.
        new: tokens that are added; their rows train in ``new_rows``.
        lora: parameters of the adapter; of the layers themselves where these train (``own_layers``).
        targeted: weights of the modules that have one.
        own_layers: layers train themselves, without an adapter.
    """

    base: Architecture
    rows: int
    new: int
    lora: int
    targeted: int
    own_layers: bool = False

    @property
    def embeddings(self) -> int:
        """Parameters of the matrices."""
        return self.rows * self.base.width * self.base.matrices

    @property
    def new_parameters(self) -> int:
        """Parameters of the added rows."""
        return self.new * self.base.width * self.base.matrices

    def rows_trained(self, mode: str) -> int:
        """Embedding parameters that train."""
        return {"full": self.embeddings, "new_rows": self.new_parameters, "frozen": 0}[mode]

    def trainable(self, mode: str) -> int:
        """All parameters that train."""
        return self.lora + self.rows_trained(mode)

    def parameters(self, mode: str) -> int:
        """All parameters there are in training, what PEFT prints: the matrices that train are there a second time."""
        own = self.rows_trained("new_rows") if mode == "new_rows" else 0
        return self.base.body + self.embeddings + (own if self.own_layers else self.trainable(mode))

    def shared(self) -> int:
        """Numbers that added rows share (``pretrain.shared_subwords``), roughly."""
        return int(NGRAMS * self.new_parameters)

    def as_it_is(self) -> Sizes:
        """The same with the new tokens in rows that the base has already."""
        return replace(self, rows=self.base.rows)

    def counts(self) -> dict[str, dict[str, int]]:
        """``{mode: {trainable_parameters, parameters}}``."""
        return {
            mode: {"trainable_parameters": self.trainable(mode), "parameters": self.parameters(mode)}
            for mode in MODES
        }


def of(
    base: Architecture,
    lora: LoraSection,
    new_tokens: int | str,
    length: int | None,
    *,
    most: int = MOST,
    own_layers: bool = False,
) -> Sizes:
    """Sizes of a base that is given tokens.

    Args:
        new_tokens: as ``tokenizer.new_tokens`` has it; auto counts as ``most``.
        length: ids that the base's tokenizer has; rows beyond it take new tokens first. None where there is none.
        own_layers: layers train themselves.
    """
    new = most if isinstance(new_tokens, str) else new_tokens
    rows = max(base.rows, (base.rows if length is None else length) + new)
    if own_layers:
        return Sizes(base, rows, new, base.body, 0, own_layers=True)
    return Sizes(base, rows, new, base.lora(lora.r, lora.targets), base.targeted(lora.targets))


def new_tokens(config: Config) -> int | str:
    """How many tokens a configuration adds; of items about as many, since some codes may not be used."""
    section = config.tokenizer
    named = 0 if section.reuse_reserved else len(section.tokens)
    if config.recipe == "special_tokens":
        return named
    if config.recipe == "item_tokens":
        return section.items.levels * section.items.codebook + _NUMBERING
    return section.new_tokens if isinstance(section.new_tokens, str) else section.new_tokens + named


def disk(config: Config, sizes: Sizes, *, text_bytes: int, on_gpu: bool) -> dict[str, int]:
    """Bytes of a run folder by part, at most, with the saves that lie there while a stage trains.

    Args:
        text_bytes: of the corpus and the chats, as they are read.
    """
    adapter, new = 4 * sizes.lora, 4 * sizes.new_parameters
    tokenizer = 140 * sizes.rows + 2_000_000  # tokenizer.json: 75 bytes a row of SmolLM2, 133 of Llama-3

    def checkpoint(mode: str) -> int:
        # every row that differs from the base, and the new ones
        return adapter + tokenizer + (4 * sizes.embeddings if mode == "full" else new)

    def saves(section: Any, mode: str, lora: int, shared: int) -> int:
        trained = lora + sizes.rows_trained(mode)
        # a byte for each moment in 8-bit Adam, but for added rows and what they share
        exact = (min(sizes.rows_trained(mode), sizes.new_parameters) + shared) if on_gpu else trained + shared
        moments = 8 * exact + 2 * (trained + shared - exact)
        weights = checkpoint(mode) - adapter + 4 * lora
        return (section.keep_saves + 1) * (weights + moments)

    def of(section: Any) -> int:
        shared = sizes.shared() if getattr(section, "shared_subwords", False) else 0
        return saves(section, section.embeddings, sizes.lora, shared)

    stages = {
        "corpus": int(1.15 * text_bytes),
        "tokenizer": tokenizer,
        "extend": new + tokenizer,
        "pretrain": checkpoint(config.pretrain.embeddings),
    }
    during = of(config.pretrain)
    if config.recipe == "special_tokens":
        del stages["corpus"], stages["pretrain"]
        stages["instruct"], during = checkpoint(config.instruct.embeddings), of(config.instruct)
        if config.evaluate.control:  # the same without tags
            stages["evaluate"] = checkpoint("frozen")
    elif config.instruct.train:
        # rows that pretraining changed stay changed
        both = {config.pretrain.embeddings, config.instruct.embeddings}
        stages["instruct"] = checkpoint("full" if "full" in both else "new_rows")
        during = max(during, of(config.instruct))
    elif config.instruct.chat_vector:
        stages["instruct"] = stages["pretrain"]
    if config.evaluate.control and config.recipe == "new_language":
        # the plain way: every row, and larger adapters
        lora = sizes.lora * PLAIN_RANK // max(1, config.pretrain.lora.r)
        stages["evaluate"] = checkpoint("full") - adapter + 4 * lora
        during = max(during, saves(config.pretrain, "full", lora, 0))
    if config.export.to:
        stages["export"] = exports.disk(config.export, sizes.base.body + sizes.embeddings, adapter, tokenizer)
    return {**stages, "saves": during}
