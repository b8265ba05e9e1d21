"""SentencePiece model files: reading them, and what their pieces are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastvocab.errors import ModelError
from fastvocab.tokenizer.kinds import refusal

#: ModelProto.SentencePiece.Type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

_BPE = 2  # TrainerSpec.ModelType
_OTHER_MODELS = {1: "Unigram", 3: "word", 4: "character"}


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


def read_proto(path: Path) -> bytes | None:
    """Bytes of a SentencePiece file; None if there is none (a tiktoken file has the same name in Llama-3).

    Raises:
        ModelError: if the file is damaged, or holds another model than BPE.
    """
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
    if proto.trainer_spec.model_type != _BPE:
        name = _OTHER_MODELS.get(proto.trainer_spec.model_type, "unknown")
        raise refusal(path.parent, f"a SentencePiece {name} model")
    return raw


def _is_tiktoken(raw: bytes) -> bool:
    first = raw.split(b"\n", 1)[0].split()
    return len(first) == 2 and first[1].isdigit()
