"""Bits per byte, matched by bytes: the one number that compares models with different tokenizers.

Held-out text is cut into pieces by bytes, never by tokens; each is scored after a BOS, and the nats of all its
tokens are summed and divided by ln 2 and by its bytes. A loss or perplexity per token says nothing across
tokenizers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from fastvocab.errors import DataError
from fastvocab.model import load, text
from fastvocab.tokenizer.measure import WORD
from fastvocab.unicode import UNSPACED, dominant_scripts, letter_scripts

#: Tokens in one forward pass, padding counted: 1,024 x 128,256 logits in float32 are 0.5 GB.
_BATCH_TOKENS = 1024


def bits_per_byte(model: Any, tok: Any, pieces: Sequence[str]) -> dict[str, float | None]:
    """Score ``pieces`` (text) with a causal LM.

    Matrix products run in bfloat16 on CPUs that have it, as in training; sums are float64.

    Returns:
        ``bits_per_byte``, ``bytes``, ``tokens`` (without BOS: the decode steps that the text would take),
        ``tokens_per_word`` (None in scripts without spaces), ``tokens_per_character``, ``bytes_per_token``, ``pieces``.

    Raises:
        DataError: if there is no text.
    """
    import torch

    size = sum(len(piece.encode("utf-8")) for piece in pieces)
    if not size:
        raise DataError(
            "there is no held-out text to measure on", fix="give more text, or a larger corpus.heldout"
        )
    start = text.bos_id(tok)
    rows = [[start, *ids] for ids in text.encode(tok, list(pieces))]
    nats, device = 0.0, model.get_input_embeddings().weight.device
    model.eval()
    with torch.inference_mode(), load.autocast():
        for batch in _batches(rows):
            width = max(map(len, batch))
            ids = torch.zeros(len(batch), width, dtype=torch.long)
            mask = torch.zeros(len(batch), width, dtype=torch.long)
            for index, row in enumerate(batch):
                ids[index, : len(row)] = torch.tensor(row)
                mask[index, : len(row)] = 1
            ids, mask = ids.to(device), mask.to(device)
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
            picked = logits.gather(-1, ids[:, 1:, None])[..., 0] - torch.logsumexp(logits, -1)
            nats -= float((picked * mask[:, 1:]).double().sum())
    tokens = sum(len(row) - 1 for row in rows)
    spaced = not dominant_scripts(sum((letter_scripts(p) for p in pieces), Counter())) & UNSPACED
    words = sum(len(WORD.findall(piece)) for piece in pieces)
    return {
        "bits_per_byte": nats / math.log(2) / size,
        "bytes": size,
        "tokens": tokens,
        "tokens_per_word": tokens / max(1, words) if spaced else None,
        "tokens_per_character": tokens / sum(map(len, pieces)),
        "bytes_per_token": size / max(1, tokens),
        "pieces": len(pieces),
    }


def _batches(rows: list[list[int]]) -> Iterator[list[list[int]]]:
    """Rows of like length together, so that padding costs little."""
    batch: list[list[int]] = []
    for row in sorted(rows, key=len, reverse=True):
        if batch and (len(batch) + 1) * len(batch[0]) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
