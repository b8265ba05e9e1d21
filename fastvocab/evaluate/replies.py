"""Replies to held-out questions: how many are laid out as they should be, and how many are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastvocab.evaluate import intervals
from fastvocab.layout import Layout
from fastvocab.model import generation

#: Replies that the record keeps.
_EXAMPLES = 5
#: Conversations in one pass. A step of decoding takes little longer for many (SmolLM2-135M, 2 cores: 0.07 s for 1,
#: 0.17 s for 32).
_BATCH = 32


@dataclass(frozen=True)
class Questions:
    """What is asked, and what is expected.

    Attributes:
        conversations: each ends with the expected reply.
        prompts: each up to that reply, as the chat template of the trained model renders it; the base may have none.
        layout: of the replies.
        tokens: longest reply.
    """

    conversations: Sequence[Sequence[dict[str, str]]]
    prompts: Sequence[str]
    layout: Layout
    tokens: int

    @classmethod
    def of(
        cls, conversations: Sequence[Sequence[dict[str, str]]], layout: Layout, tokens: int, tok: Any
    ) -> Questions:
        """Questions in the words of the trained model's tokenizer ``tok``."""
        return cls(conversations, rendered(tok, conversations), layout, tokens)

    @property
    def answer(self) -> str:
        """The field that is compared with the expected one: ``output``, else the last."""
        return "output" if "output" in self.layout.fields else self.layout.fields[-1]


def measure(model: Any, tok: Any, asked: Questions, *, layout: Layout | None = None) -> dict[str, Any]:
    """Let a model reply, and read its replies.

    Args:
        layout: of this model's replies, where it was taught another one than the questions have.

    Returns:
        ``questions``; ``well_formed`` and ``right`` as shares of them, each with its 95% ``..._interval``
        (`intervals.share`); ``cut``, replies that were longer than allowed; ``examples`` of prompt and reply. A reply
        is right if it is well-formed and its answer is the expected one, spaces and a full stop at the end aside.
    """
    layout = layout or asked.layout
    prompts = [tok(prompt, add_special_tokens=False)["input_ids"] for prompt in asked.prompts]
    # special tokens that are part of the layout are part of what is said
    keep = [i for token, i in tok.get_added_vocab().items() if token in layout.text]
    written: list[list[int]] = []
    # those of like length together: less padding
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    for start in range(0, len(order), _BATCH):
        some = [prompts[place] for place in order[start : start + _BATCH]]
        written += generation.continuations(model, tok, some, max_new_tokens=asked.tokens, keep=keep)
    by_place = dict(zip(order, generation.decode(tok, written, keep=True)))
    lengths = dict(zip(order, map(len, written)))
    texts = [by_place[place].strip() for place in range(len(prompts))]
    well, right = 0, 0
    for conversation, text in zip(asked.conversations, texts):
        read, wanted = layout.read(text), asked.layout.read(conversation[-1]["content"])
        assert wanted is not None, "rows that are not laid out so are left out"
        well += read is not None
        right += read is not None and _same(read[asked.answer], wanted[asked.answer])
    return {
        "questions": len(texts),
        "well_formed": well / len(texts),
        "well_formed_interval": list(intervals.share(well, len(texts))),
        "right": right / len(texts),
        "right_interval": list(intervals.share(right, len(texts))),
        "cut": sum(length >= asked.tokens for length in lengths.values()),
        "examples": [
            {"prompt": conversation[-2]["content"], "text": text, "expected": conversation[-1]["content"]}
            for conversation, text in list(zip(asked.conversations, texts))[:_EXAMPLES]
        ],
    }


def rendered(tok: Any, conversations: Sequence[Sequence[dict[str, str]]]) -> list[str]:
    """Each conversation up to its last reply, as a prompt."""
    return [
        tok.apply_chat_template(list(messages[:-1]), tokenize=False, add_generation_prompt=True)
        for messages in conversations
    ]


def _same(found: str, wanted: str) -> bool:
    return _plain(found) == _plain(wanted)


def _plain(answer: str) -> str:
    return " ".join(answer.split()).rstrip(".").casefold()
