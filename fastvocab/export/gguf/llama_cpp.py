"""Token ids by llama.cpp's rule, from what a GGUF file says: what a program built on llama.cpp makes of a text.

Special tokens are looked for in the text first, the longest first. What is between them is cut by the regexes of
``tokenizer.ggml.pre`` and merged by rank (``gpt2``), or gets a space in front and is merged by score (``llama``): any
two neighbours whose join is a token, the best score first, the leftmost among equals (``llama_vocab::impl`` in
``src/llama-vocab.cpp``). `tests/export/test_llama_cpp.py` compares this with llama.cpp itself.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from fastvocab.export.gguf.pretokenizers import encode_all
from fastvocab.export.gguf.vocabulary import CONTROL, UNKNOWN, USER_DEFINED, Vocabulary
from fastvocab.llama_cpp import KNOWN
from fastvocab.tokenizer.bpe import META_SPACE

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: Texts that llama.cpp takes for the end of a reply, and so for special tokens, whatever the file says of them.
_ENDS = frozenset(
    ("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
     "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
     "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response|>")
)  # fmt: skip


class Reader:
    """Gives the ids that llama.cpp gives (without BOS and EOS, special tokens in the text taken for what they are)."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._ids = {token: index for index, token in enumerate(vocabulary.tokens)}
        found = [
            token
            for token, kind in zip(vocabulary.tokens, vocabulary.types)
            if kind in (CONTROL, USER_DEFINED, UNKNOWN) or token in _ENDS
        ]
        self.special = sorted(found, key=lambda token: len(token.encode("utf-8")), reverse=True)
        self._initials = {token[0] for token in found if token}

    def encode_all(self, lines: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        cut = [self._fragments(line) for line in lines]
        texts = [part for parts in cut for part in parts if isinstance(part, str)]
        if self._vocabulary.model == "gpt2":
            found = ([i for i in ids if i != self._absent] for ids in encode_all(self._bpe, texts))
            return [
                [i for part in parts for i in ([part] if isinstance(part, int) else next(found))]
                for parts in cut
            ]
        rows = []
        for parts in cut:
            ids: list[int] = []
            behind_special = True
            for part in parts:
                if isinstance(part, int):
                    ids.append(part)
                else:
                    space = " " if self._vocabulary.space_prefix and behind_special else ""
                    ids += self._by_score((space + part).replace(" ", META_SPACE))
                behind_special = isinstance(part, int)
            rows.append(ids)
        return rows

    def _fragments(self, line: str) -> list[str | int]:
        """A text as special tokens (their ids) and what is between them."""
        parts: list[str | int] = [line] if line else []
        if self._initials.isdisjoint(line):
            return parts
        for token in self.special:
            if token not in line:
                continue
            index = self._ids[token]
            after: list[str | int] = []
            for part in parts:
                if isinstance(part, int):
                    after.append(part)
                    continue
                between = part.split(token)
                for place, text in enumerate(between):
                    after += ([index] if place else []) + ([text] if text else [])
            parts = after
        return parts

    @cached_property
    def _bpe(self) -> Tokenizer:
        from tokenizers import Tokenizer, models

        named = KNOWN[self._vocabulary.pre]
        # a byte without a token stays between its neighbours until all is merged, and is then left out
        absent = "\0"
        model = models.BPE(
            vocab=self._ids | {absent: self._absent},
            merges=self._vocabulary.merges,
            ignore_merges=named.ignore_merges,
            unk_token=absent,
        )
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = named.step
        return tokenizer

    @property
    def _absent(self) -> int:
        return len(self._vocabulary.tokens)

    def _by_score(self, text: str) -> list[int]:
        scores, ids = self._vocabulary.scores, self._ids
        assert scores is not None
        symbols: list[str] = list(text)
        before, after = list(range(-1, len(text) - 1)), [*range(1, len(text)), -1]
        queue: list[tuple[float, int, int, int]] = []

        def offer(left: int, right: int) -> None:
            if left >= 0 and right >= 0 and (index := ids.get(symbols[left] + symbols[right])) is not None:
                heapq.heappush(queue, (-scores[index], left, right, len(symbols[left]) + len(symbols[right])))

        for place in range(1, len(text)):
            offer(place - 1, place)
        while queue:
            _, left, right, size = heapq.heappop(queue)
            if not symbols[left] or not symbols[right] or len(symbols[left]) + len(symbols[right]) != size:
                continue  # one of the two has been merged since
            symbols[left] += symbols[right]
            symbols[right] = ""
            after[left] = after[right]
            if after[right] >= 0:
                before[after[right]] = left
            offer(before[left], left)
            offer(left, after[left])
        found: list[int] = []
        for symbol in filter(None, symbols):
            index = ids.get(symbol)
            found += (
                [index] if index is not None else [ids[f"<0x{byte:02X}>"] for byte in symbol.encode("utf-8")]
            )
        return found
