"""Recognise a base tokenizer folder: which kind it is, and its vocabulary as plain data.

What counts is `tokenizer.json` where there is one: it says exactly how text is cut and merged, while a
tokenizer class of transformers 5 may rebuild parts of it from its own defaults (`Qwen2Tokenizer` its regex,
`GPT2Tokenizer` its pre-tokenizer). A folder without it is converted once: SentencePiece files by `convert`,
whose ids are SentencePiece's own, everything else by transformers, as any loader would.

Where both files lie side by side they must hold one vocabulary, and are compared on built-in text. Official
Mistral folders give different ids in the two (runs of spaces): the model is used with tokenizer.json, so old
text keeps its ids, and no second file is written that would contradict it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastvocab.errors import ModelError
from fastvocab.tokenizer.agreement import Disagreement, compare, require_same_vocabulary
from fastvocab.tokenizer.kinds import Kind, recognise
from fastvocab.tokenizer.sentencepiece_file import parse_proto, read_proto

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Base", "Disagreement", "Kind", "load_spec", "parse_proto", "read"]

#: Any of these makes a folder a tokenizer folder.
_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")

#: How a model of a tokenizer.json merges, beside its vocabulary and its merges; `recognise` refuses the rest.
_OPTIONS = ("unk_token", "fuse_unk", "byte_fallback", "ignore_merges")

#: A tokenizer.json without merges and tokens.
_NO_MERGES: dict[str, Any] = {
    "model": {"type": "BPE", "vocab": {}, "merges": []},
    "added_tokens": [],
    "post_processor": None,
}


@dataclass(frozen=True)
class Base:
    """A base tokenizer as data.

    Attributes:
        folder: where it lies.
        kind: how it can be extended.
        spec: the parsed tokenizer.json; treat as read-only.
        proto: bytes of the SentencePiece model, for `Kind.SENTENCEPIECE`: its ids are those of ``spec``.
        converted: True if the folder had no tokenizer.json and this one was made from its other files.
        disagreement: where a SentencePiece file that lies there gives other ids than tokenizer.json. Then
            tokenizer.json, which models are used with, is the base; the file is left out (``proto`` is None)
            and the kind is `Kind.SENTENCEPIECE_JSON`.
    """

    folder: Path
    kind: Kind
    spec: dict[str, Any]
    proto: bytes | None = None
    converted: bool = False
    disagreement: Disagreement | None = None

    @property
    def vocab(self) -> dict[str, int]:
        """The model vocabulary: spelling to id, without tokens that are only in ``added_tokens``."""
        return self.spec["model"]["vocab"]

    @cached_property
    def merges(self) -> list[tuple[str, str]]:
        """Merges in order of priority, whichever way tokenizer.json spells them."""
        return [_pair(merge) for merge in self.spec["model"]["merges"]]

    @cached_property
    def added(self) -> dict[str, int]:
        """Content to id of ``added_tokens``."""
        return {token["content"]: token["id"] for token in self.spec.get("added_tokens") or ()}

    @cached_property
    def next_id(self) -> int:
        """The first id that a new token gets: one past the last in use."""
        return max(max(self.vocab.values()), max(self.added.values(), default=-1)) + 1

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The base in the tokenizers library."""
        return load_spec(self.spec, self.folder)

    @cached_property
    def merging(self) -> Tokenizer:
        """Its merges alone, without what stands around them: takes texts as `spelling.spell` gives them."""
        return self.merging_with([], [])

    def merging_with(self, tokens: list[str], merges: list[tuple[str, str]]) -> Tokenizer:
        """The same with new tokens and the merges that make them."""
        from tokenizers import Tokenizer, models

        # straight from the lists: through JSON it takes 3.5 times as long (1.5 s for Llama-3, once a method)
        model = self.spec["model"]
        options = {name: model[name] for name in _OPTIONS if model.get(name) is not None}
        vocab = self.vocab | {token: self.next_id + place for place, token in enumerate(tokens)}
        return _load(
            lambda: Tokenizer(models.BPE(vocab=vocab, merges=[*self.merges, *merges], **options)), self.folder
        )

    @cached_property
    def cutting(self) -> Tokenizer:
        """What stands around its merges alone: normaliser and pre-tokenizer. Loading 128,000 tokens takes 1 s."""
        return load_spec(self.spec | _NO_MERGES, self.folder)


def _pair(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right


def load_spec(spec: dict[str, Any], source: Path) -> Tokenizer:
    """A tokenizers object from a parsed tokenizer.json.

    Raises:
        ModelError: if the tokenizers library refuses it.
    """
    from tokenizers import Tokenizer

    return _load(lambda: Tokenizer.from_str(json.dumps(spec, ensure_ascii=False)), source)


def _load(make: Callable[[], Tokenizer], source: Path) -> Tokenizer:
    try:
        tokenizer = make()
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise ModelError(
            f"{source}: tokenizer.json is not one that the tokenizers library can load: {error}",
            fix="copy the tokenizer files of the base model again",
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def read(folder: Path) -> Base:
    """Read a base tokenizer folder.

    Raises:
        ModelError: if it is not there, is damaged, is of a kind that cannot be extended in place, or holds
            a tokenizer.json and a tokenizer.model with different vocabularies.
    """
    if not folder.is_dir():
        raise ModelError(
            f"{folder} is not a folder",
            rule="the base tokenizer is a folder with Hugging Face tokenizer files",
            fix=f"give a folder that has one of {', '.join(_FILES)}",
        )
    if not any((folder / name).is_file() for name in _FILES):
        raise ModelError(
            f"{folder} holds no tokenizer",
            rule=f"a tokenizer folder has one of {', '.join(_FILES)}",
            fix="download or copy the tokenizer files of the base model into it",
        )
    raw = read_proto(folder / "tokenizer.model")
    path = folder / "tokenizer.json"
    converted = not path.is_file()
    spec = _convert(folder, raw) if converted else _read_json(path)
    load_spec(spec | _NO_MERGES, folder)  # what stands around the merges must be sound: it is looked at now
    base = Base(folder, recognise(spec, raw is not None, folder), spec, converted=converted)
    tokenizer = base.tokenizer  # loads it, so that a damaged file is found here
    if base.kind is not Kind.SENTENCEPIECE or raw is None:
        return base
    require_same_vocabulary(folder, base.vocab, base.added, raw)
    disagreement = compare(tokenizer, raw)
    if disagreement is not None:
        return replace(base, kind=Kind.SENTENCEPIECE_JSON, disagreement=disagreement)
    return replace(base, proto=raw)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(
            f"{path} is damaged: {error}", fix="copy the tokenizer files of the base model again"
        ) from None
    if not isinstance(spec, dict) or not isinstance(spec.get("model"), dict) or "vocab" not in spec["model"]:
        raise ModelError(
            f"{path} is not a tokenizer: it has no model.vocab",
            rule="tokenizer.json is the format of the tokenizers library",
            fix="copy the tokenizer files of the base model again",
        )
    return spec


def _convert(folder: Path, proto: bytes | None) -> dict[str, Any]:
    """tokenizer.json from the folder's own files (vocab.json, tekken.json, tokenizer.model)."""
    from fastvocab.tokenizer.convert import convert
    from fastvocab.tokenizer.folder import load_auto

    spec = json.loads(load_auto(folder).backend_tokenizer.to_str())
    spec["truncation"] = spec["padding"] = None
    return spec if proto is None else convert(spec, proto, folder)
