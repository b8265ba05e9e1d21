"""The kinds of tokenizer that can be extended in place, and how each is recognised from its tokenizer.json."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

from fastvocab.errors import ModelError
from fastvocab.tokenizer.bpe import META_SPACE, byte_alphabet

#: Bytes below 0xF0 that a byte-level base may lack: trained alphabets leave out control characters, C0 and
#: C1.
_UNUSED_BYTES = 40


class Kind(StrEnum):
    """The kinds of tokenizer that can be extended in place."""

    BYTE_LEVEL = "byte-level BPE"
    SENTENCEPIECE = "SentencePiece model"
    SENTENCEPIECE_JSON = "SentencePiece-style BPE in tokenizer.json"


def refusal(folder: Path, what: str) -> ModelError:
    """The error for a tokenizer of another kind."""
    return ModelError(
        f"{folder}: this tokenizer is {what}",
        rule="a base is extended in place if it is byte-level BPE (Llama-3, Qwen, SmolLM2, GPT-2) or "
        "SentencePiece BPE with byte fallback (Llama-2, Mistral, Gemma)",
        fix="choose a base model with a tokenizer of one of these kinds",
    )


def steps(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A normalizer, pre-tokenizer or decoder with its sequences laid flat."""
    if not step:
        return []
    for key in ("normalizers", "pretokenizers", "decoders"):
        if key in step:
            return [inner for part in step[key] for inner in steps(part)]
    return [step]


def recognise(spec: dict[str, Any], has_proto: bool, folder: Path) -> Kind:
    """The kind of a parsed tokenizer.json.

    Raises:
        ModelError: if it is of none of the kinds, with what it is.
    """
    model = spec["model"]
    name = model.get("type") or ("BPE" if "merges" in model else "WordPiece or WordLevel")
    if name != "BPE" or "merges" not in model:
        raise refusal(folder, name)
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise refusal(folder, f"BPE with {key} {model[key]!r}")
    if model.get("dropout"):
        raise refusal(folder, f"BPE with dropout {model['dropout']}, whose ids differ from call to call")
    vocab = model["vocab"]
    if not isinstance(vocab, dict) or not vocab:
        raise refusal(folder, "BPE without a vocabulary")
    if any(step["type"] == "ByteLevel" for step in steps(spec.get("pre_tokenizer"))):
        # SmolLM2 lacks 8 of the bytes that begin unassigned planes; text with them is unknown to it as well
        absent = [
            f"0x{byte:02X}" for byte, char in byte_alphabet().items() if byte < 0xF0 and char not in vocab
        ]
        if len(absent) > _UNUSED_BYTES:
            raise refusal(folder, f"byte-level BPE without tokens for {len(absent)} bytes ({absent[0]}, ...)")
        return Kind.BYTE_LEVEL
    if not model.get("byte_fallback"):
        raise refusal(folder, "BPE on characters without byte fallback")
    absent = [f"<0x{byte:02X}>" for byte in range(256) if f"<0x{byte:02X}>" not in vocab]
    if absent:
        raise refusal(
            folder, f"BPE with byte fallback but without {len(absent)} byte tokens ({absent[0]}, ...)"
        )
    if META_SPACE not in vocab:
        raise refusal(folder, f"BPE with byte fallback that does not spell a space as {META_SPACE!r}")
    return Kind.SENTENCEPIECE if has_proto else Kind.SENTENCEPIECE_JSON
