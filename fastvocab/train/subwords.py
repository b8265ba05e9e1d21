"""Added rows that learn together where they are spelled alike.

A token of a base's own stands in many words, and what training says of one serves the others. An added token stands
for a word, and most words of a text occur once or twice: 57,000 tokens of Ukrainian show each of 8,000 new ones six
times on average. So a row is trained as fastText builds its vectors (Bojanowski et al. 2017, arXiv 1607.04606): its
own part, and parts that it shares with every token that has the same n-gram of characters,

    row_i = own_i + sum over the n-grams g of token i of shared_g / sqrt(number of them),

the shared parts at a third of the rows' learning rate.

After each step of the optimizer what the shared parts moved by is added to the rows and they are 0 again, so the
model is an ordinary one at any time; only the optimizer's moments of them are remembered.

SmolLM2-135M, 8,000 Ukrainian tokens, 28,000 tokens of training, held-out bits per byte: 1.549 without, 1.537 and
1.536 with shared parts at a third of the rows' rate and at the same. The gradient of a row smoothed over its
relatives before one common Adam gains nothing (1.551): shared parts need moments of their own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

#: Lengths of n-grams, in characters, the marks of a token's beginning and end among them.
_LENGTHS = range(2, 6)
#: Learning rate of the shared parts, as a share of the rows' own. At the same rate, n-grams that agree move a row
#: several times as far as its own step: 0.3 MB of Tamil, adapters at 2e-3, 100 steps, bits per byte (English):
#: 0.769 (1.163), the median norm of the gradient 4.7; at a third 0.716 (1.071) and 1.5; without them 0.714 (1.102).
RATE = 1 / 3
#: A beginning with a space before it, one without, and the end: from the private use area, in no text.
_WORD, _INSIDE, _END = "\ue000", "\ue001", "\ue002"


def texts(tokenizer: Any, ids: range) -> list[str | None]:
    """What each token stands for, a space before it included; None where it is no text of its own (bytes)."""
    backend = tokenizer.backend_tokenizer
    # after another token: decoders drop a space at the beginning
    anchor = backend.encode("a", add_special_tokens=False).ids[-1:]
    before = backend.decode(anchor, skip_special_tokens=False)
    found = backend.decode_batch([[*anchor, i] for i in ids], skip_special_tokens=False)
    rest = [text[len(before) :] if text.startswith(before) else "" for text in found]
    return [text if text and "\ufffd" not in text else None for text in rest]


def ngrams(text: str) -> set[str]:
    """Those of a token: of "the" after a space, those of ^the$."""
    marked = (_WORD + text[1:] if text.startswith(" ") else _INSIDE + text) + _END
    return {marked[i : i + n] for n in _LENGTHS for i in range(len(marked) - n + 1)}


def table(words: Sequence[str | None]) -> Any:
    """Which token has which n-gram.

    Args:
        words: of each added row, `texts`.

    Returns:
        (rows, n-grams) sparse float32, an n-gram being one that two tokens have; rows of length 1 or 0.
    """
    import torch

    each = [ngrams(word) if word else set() for word in words]
    often = Counter(ngram for found in each for ngram in found)
    number = {ngram: i for i, ngram in enumerate(sorted(n for n, count in often.items() if count > 1))}
    places, values = [], []
    for row, found in enumerate(each):
        mine = sorted(number[ngram] for ngram in found if ngram in number)
        places += [(row, ngram) for ngram in mine]
        values += [1 / math.sqrt(len(mine)) for _ in mine]
    index = torch.tensor(places, dtype=torch.long).reshape(-1, 2).T
    return torch.sparse_coo_tensor(
        index, torch.tensor(values), (len(each), len(number)), check_invariants=True
    ).coalesce()


class _Sums:
    """Product of a fixed sparse matrix with dense ones. As bags of rows: half as long as a sparse tensor's product
    (8,000 x 13,452 with 116,000 numbers, and its transpose, by 576: 24 ms instead of 36 to 55)."""

    def __init__(self, matrix: Any) -> None:
        import torch

        (row, self._column), self._value = matrix.indices(), matrix.values()
        self._start = torch.searchsorted(row, torch.arange(len(matrix), device=row.device))

    def __call__(self, dense: Any) -> Any:
        from torch.nn.functional import embedding_bag

        return embedding_bag(self._column, dense, self._start, mode="sum", per_sample_weights=self._value)


class Shared:
    """The shared parts of one matrix's added rows, for an optimizer.

    Args:
        rows: (rows, width), the parameter that trains.
        of: `table` of the same rows.

    Attributes:
        part: (n-grams, width), for the optimizer; 0 but in its step.
    """

    def __init__(self, rows: Any, of: Any) -> None:
        import torch

        of = of.to(rows.device)
        self._to_rows, self._to_parts = _Sums(of * RATE), _Sums(of.t().coalesce())
        self._rows = rows
        self.part = torch.nn.Parameter(torch.zeros(of.shape[1], rows.shape[1], device=rows.device))

    def before_step(self) -> None:
        """Give the shared parts their gradient: what the rows that have them are given."""
        given = self._rows.grad
        self.part.grad = None if given is None else self._to_parts(given.float())

    def after_step(self) -> None:
        """Hand on to the rows what the optimizer did to the shared parts."""
        if self.part.grad is not None:
            self._rows.data += self._to_rows(self.part.data).to(self._rows.dtype)
            self.part.data.zero_()
            self.part.grad = None
