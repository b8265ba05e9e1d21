"""From text to token ids for a model: documents out of jsonl, BOS, pieces of equal bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, by plain ``AutoTokenizer``; no code from outside is run."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """``save_pretrained``, and the lines of code beside an extended Qwen2 tokenizer, which that leaves behind.

    They are there for programs that insist on running a folder's code (see `fastvocab.tokenizer.folder`).
    """
    tokenizer.save_pretrained(folder)
    beside = Path(str(tokenizer.name_or_path)) / "tokenization_extended.py"
    if beside.is_file() and beside.parent != folder:
        shutil.copyfile(beside, folder / beside.name)


def rows(tokenizer: Any) -> int:
    """Rows that a matrix needs for its tokens, gaps among their ids included."""
    return max(tokenizer.get_vocab().values()) + 1


def unused_ids(tokenizer: Any, rows: int) -> list[int]:
    """Ids below ``rows`` that no token has: the padding of a matrix, and gaps in the base's own ids."""
    used = set(tokenizer.get_vocab().values())
    return [i for i in range(rows) if i not in used]


def ranges(ids: list[int]) -> list[list[int]]:
    """Sorted ids as ``[first, stop]`` pairs."""
    out: list[list[int]] = []
    for i in ids:
        if out and out[-1][1] == i:
            out[-1][1] += 1
        else:
            out.append([i, i + 1])
    return out


def suppress_unused(model: Any, tokenizer: Any) -> None:
    """Let ``generate`` never sample a row that no token has; kept by ``save_pretrained`` in generation_config.json."""
    unused = unused_ids(tokenizer, model.get_input_embeddings().weight.shape[0])
    own = model.generation_config.suppress_tokens or []
    model.generation_config.suppress_tokens = sorted({*own, *unused}) or None


def documents(path: Path) -> Iterator[str]:
    """The texts of a jsonl file that the corpus stage wrote."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def bos_id(tok: Any) -> int:
    """The id that begins a document: BOS, else EOS (GPT-2 and Qwen have no BOS and separate by EOS)."""
    found = tok.bos_token_id if tok.bos_token_id is not None else tok.eos_token_id
    if found is None:
        from fastvocab.errors import ModelError

        raise ModelError(
            "the tokenizer has neither a BOS nor an EOS token", rule="documents are set apart by one"
        )
    return int(found)


def encode(tok: Any, texts: list[str]) -> list[list[int]]:
    """Ids of each text, without special tokens; a tag in the text is text, not a special token's id."""
    if not texts:
        return []  # tokenizers fail on an empty batch
    # split_special_tokens: "<|im_end|>" in a scraped page must not end the document for the model
    return tok(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def cut(text: str, size: int) -> Iterator[str]:
    """``text`` in pieces of at most ``size`` UTF-8 bytes, cut at the last space or character boundary.

    The cuts depend on bytes alone, never on a tokenizer: all models are scored on the same pieces.
    """
    raw = text.encode("utf-8")
    start = 0
    while start < len(raw):
        end = min(start + size, len(raw))
        if end < len(raw):
            while end > start and raw[end] & 0xC0 == 0x80:  # never inside a character
                end -= 1
            space = raw.rfind(b" ", start + size // 2, end)
            end = space if space > start else end
        yield raw[start:end].decode("utf-8")
        start = end


def byte_pieces(texts: Iterable[str], *, size: int, limit: int) -> list[str]:
    """Pieces of at most ``size`` bytes from as many texts as give ``limit`` bytes together."""
    out: list[str] = []
    total = 0
    for document in texts:
        for piece in cut(document, size):
            if total >= limit:
                return out
            out.append(piece)
            total += len(piece.encode("utf-8"))
    return out


#: Of text that is put through a model: a token a byte at most, and a BOS, are the 2,048 that one is loaded for.
PIECE_BYTES = 2047


def pieces(tok: Any, texts: Iterable[str], *, limit: int, size: int = PIECE_BYTES) -> Iterator[list[int]]:
    """Token ids of byte pieces, each with its BOS."""
    start = bos_id(tok)
    for ids in encode(tok, byte_pieces(texts, size=size, limit=limit)):
        yield [start, *ids]
