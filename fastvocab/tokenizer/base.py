"""Recognise a base tokenizer folder: which kind it is, and its vocabulary as plain data.

What counts is `tokenizer.json` where there is one: it says exactly how text is cut and merged, while a
tokenizer class of transformers 5 may rebuild parts of it from its own defaults (`Qwen2Tokenizer` its regex,
`GPT2Tokenizer` its pre-tokenizer). A folder without it is converted once by transformers, as any loader
would.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastvocab.errors import ModelError
from fastvocab.tokenizer.bpe import META_SPACE, byte_alphabet

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BYTE_TOKEN = 6  # ModelProto.SentencePiece.Type.BYTE
_NORMAL = 1  # ... NORMAL
_SPM_BPE = 2  # TrainerSpec.ModelType.BPE

#: Bytes below 0xF0 that a byte-level base may lack: trained alphabets leave out control characters, C0 and
#: C1.
_UNUSED_BYTES = 40

#: Any of these makes a folder a tokenizer folder.
_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")


class Kind(StrEnum):
    """The kinds of tokenizer that can be extended in place."""

    BYTE_LEVEL = "byte-level BPE"
    SENTENCEPIECE = "SentencePiece model"
    SENTENCEPIECE_JSON = "SentencePiece-style BPE in tokenizer.json"


@dataclass(frozen=True)
class Base:
    """A base tokenizer as data.

    Attributes:
        folder: where it lies.
        kind: how it can be extended.
        spec: the parsed tokenizer.json; treat as read-only.
        proto: bytes of the SentencePiece model, for `Kind.SENTENCEPIECE`.
        converted: True if the folder had no tokenizer.json and transformers made this one.
    """

    folder: Path
    kind: Kind
    spec: dict[str, Any]
    proto: bytes | None = None
    converted: bool = False

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


def _pair(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right


def load_spec(spec: dict[str, Any], source: Path) -> Tokenizer:
    """A tokenizers object from a parsed tokenizer.json.

    Raises:
        ModelError: if the tokenizers library refuses it.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(json.dumps(spec, ensure_ascii=False))
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
    proto = _read_proto(folder / "tokenizer.model")
    path = folder / "tokenizer.json"
    converted = not path.is_file()
    spec = _convert(folder) if converted else _read_json(path)
    kind = _kind(spec, proto is not None, folder)
    base = Base(folder, kind, spec, proto if kind is Kind.SENTENCEPIECE else None, converted)
    if base.proto is not None:
        _require_agreement(base)
    assert base.tokenizer is not None  # loads it, so that a damaged file is found here
    return base


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


def parse_proto(raw: bytes) -> Any:
    """A SentencePiece ``ModelProto`` from bytes; None where they are not one."""
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2 as pb

    proto = pb.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(raw)
    except DecodeError:
        return None
    return proto if len(proto.pieces) else None


def _read_proto(path: Path) -> bytes | None:
    """Bytes of a SentencePiece file; None if there is none (a tiktoken file has the same name in Llama-3)."""
    if not path.is_file():
        return None
    raw = path.read_bytes()
    if _is_tiktoken(raw):
        return None
    proto = parse_proto(raw)
    if proto is None:
        raise ModelError(
            f"{path} is damaged: it is neither a SentencePiece model nor a tiktoken file",
            fix="copy the tokenizer files of the base model again",
        )
    if proto.trainer_spec.model_type != _SPM_BPE:
        name = {1: "Unigram", 3: "word", 4: "character"}.get(proto.trainer_spec.model_type, "unknown")
        raise _refusal(path.parent, f"a SentencePiece {name} model")
    return raw


def _is_tiktoken(raw: bytes) -> bool:
    first = raw.split(b"\n", 1)[0].split()
    return len(first) == 2 and first[1].isdigit()


def _convert(folder: Path) -> dict[str, Any]:
    """tokenizer.json as transformers converts the folder's own files (vocab.json, tokenizer.model)."""
    from fastvocab.tokenizer.folder import load_auto

    spec = json.loads(load_auto(folder).backend_tokenizer.to_str())
    spec["truncation"] = spec["padding"] = None
    return spec


def _steps(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A normalizer, pre-tokenizer or decoder with its sequences laid flat."""
    if not step:
        return []
    for key in ("normalizers", "pretokenizers", "decoders"):
        if key in step:
            return [inner for part in step[key] for inner in _steps(part)]
    return [step]


def _refusal(folder: Path, what: str) -> ModelError:
    return ModelError(
        f"{folder}: this tokenizer is {what}",
        rule="a base is extended in place if it is byte-level BPE (Llama-3, Qwen, SmolLM2, GPT-2) or "
        "SentencePiece BPE with byte fallback (Llama-2, Mistral, Gemma)",
        fix="choose a base model with a tokenizer of one of these kinds",
    )


def _kind(spec: dict[str, Any], has_proto: bool, folder: Path) -> Kind:
    model = spec["model"]
    name = model.get("type") or ("BPE" if "merges" in model else "WordPiece or WordLevel")
    if name != "BPE" or "merges" not in model:
        raise _refusal(folder, name)
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise _refusal(folder, f"BPE with {key} {model[key]!r}")
    if model.get("dropout"):
        raise _refusal(folder, f"BPE with dropout {model['dropout']}, whose ids differ from call to call")
    vocab = model["vocab"]
    if not isinstance(vocab, dict) or not vocab:
        raise _refusal(folder, "BPE without a vocabulary")
    if any(step["type"] == "ByteLevel" for step in _steps(spec.get("pre_tokenizer"))):
        # SmolLM2 lacks 8 of the bytes that begin unassigned planes; text with them is unknown to it as well
        absent = [
            f"0x{byte:02X}" for byte, char in byte_alphabet().items() if byte < 0xF0 and char not in vocab
        ]
        if len(absent) > _UNUSED_BYTES:
            raise _refusal(
                folder, f"byte-level BPE without tokens for {len(absent)} bytes ({absent[0]}, ...)"
            )
        return Kind.BYTE_LEVEL
    if not model.get("byte_fallback"):
        raise _refusal(folder, "BPE on characters without byte fallback")
    absent = [f"<0x{byte:02X}>" for byte in range(256) if f"<0x{byte:02X}>" not in vocab]
    if absent:
        raise _refusal(
            folder, f"BPE with byte fallback but without {len(absent)} byte tokens ({absent[0]}, ...)"
        )
    if META_SPACE not in vocab:
        raise _refusal(folder, f"BPE with byte fallback that does not spell a space as {META_SPACE!r}")
    return Kind.SENTENCEPIECE if has_proto else Kind.SENTENCEPIECE_JSON


def _require_agreement(base: Base) -> None:
    """Refuse two forms of one tokenizer that give the same id to different pieces."""
    proto = parse_proto(base.proto or b"")
    by_id = {token_id: token for token, token_id in (base.vocab | base.added).items()}
    wrong = [
        (index, piece.piece, by_id.get(index))
        for index, piece in enumerate(proto.pieces)
        # control, unused and user-defined pieces are renamed by finetunes; ordinary ones are the vocabulary
        if piece.type in (_NORMAL, _BYTE_TOKEN)
        and by_id.get(index) != piece.piece
        and index not in base.added.values()
    ]
    if wrong:
        index, ours, other = wrong[0]
        raise ModelError(
            f"{base.folder}: tokenizer.json and tokenizer.model disagree on {len(wrong)} ids "
            f"(id {index} is {other!r} in one, {ours!r} in the other)",
            rule="both files hold the same vocabulary",
            fix="copy both from the same revision of the base model, or remove the one that is stale",
        )
    extra = sorted(i for i in base.vocab.values() if i >= len(proto.pieces) and i not in base.added.values())
    if extra:
        raise ModelError(
            f"{base.folder}: tokenizer.json has {len(extra)} tokens that tokenizer.model lacks (first: id "
            f"{extra[0]}, {by_id[extra[0]]!r})",
            rule="both files hold the same vocabulary",
            fix="copy both from the same revision of the base model, or remove the one that is stale",
        )
