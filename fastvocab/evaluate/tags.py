"""How likely named tokens are: at the start of a reply, and where the token stands whose row they started from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: Prompts that are read.
_PROMPTS = 8


@dataclass(frozen=True)
class Tags:
    """Named tokens of an extension.

    Attributes:
        ids: their ids.
        texts: their texts.
        base_ids: what the base reads in the place of each.
        references: the token of the base that each one's row is a clone of, as an id; None for another start.
    """

    ids: Sequence[int]
    texts: Sequence[str]
    base_ids: Sequence[Sequence[int]]
    references: Sequence[int | None]


class Probabilities:
    """Probabilities of tags in the same places at each point of a line.

    Args:
        tags: what is looked at.
        prompts: conversations up to the reply, as the chat template renders them.
    """

    def __init__(self, tags: Tags, prompts: Sequence[str]) -> None:
        self._tags, self._prompts = tags, list(prompts[:_PROMPTS])
        self._read: list[list[int]] = []
        self._place: dict[int, tuple[int, int]] = {}
        self._before: dict[int, float] = {}

    def measure(self, model: Any, tok: Any, *, extended: bool) -> dict[str, Any]:
        """The figures of one point; the base comes first, whose references say where they are likeliest.

        Args:
            extended: the tags are tokens of this model; else the probability is that of the tokens in their place.

        Returns:
            ``at_reply``: {tag: mean probability at the start of a reply}; and for each token that rows are clones of
            ``references``: its ``id``, ``before`` (its probability p in the base where it is likeliest in the prompts),
            ``now`` there, ``tags`` there, and what n clones have if nothing else changed, ``expected``: p / (1 + n p).
        """
        prompts = [tok(prompt, add_special_tokens=False)["input_ids"] for prompt in self._prompts]
        self._read = self._read or prompts
        logs = [self._log_probabilities(model, prompt) for prompt in prompts]
        tags = self._tags
        at_reply = {}
        for i, text, pieces in zip(tags.ids, tags.texts, tags.base_ids):
            values = [
                float(log[-1, i].exp()) if extended else self._sequence(model, prompt, pieces)
                for prompt, log in zip(prompts, logs)
            ]
            at_reply[text] = sum(values) / len(values)
        found: list[dict[str, Any]] = []
        if prompts != self._read:  # a template with tags in it: the places are others
            return {"at_reply": at_reply, "references": found}
        for reference in dict.fromkeys(r for r in tags.references if r is not None):
            if reference not in self._place:
                self._place[reference] = max(
                    ((n, place) for n, log in enumerate(logs) for place in range(len(log))),
                    key=lambda at: float(logs[at[0]][at[1], reference]),
                )
                n, place = self._place[reference]
                self._before[reference] = float(logs[n][place, reference].exp())
            n, place = self._place[reference]
            clones = [(i, t) for i, t, r in zip(tags.ids, tags.texts, tags.references) if r == reference]
            before = self._before[reference]
            entry: dict[str, Any] = {"id": reference, "before": before}
            entry |= {
                "expected": before / (1 + len(clones) * before),
                "now": float(logs[n][place, reference].exp()),
            }
            if extended:
                entry["tags"] = {text: float(logs[n][place, i].exp()) for i, text in clones}
            found.append(entry)
        return {"at_reply": at_reply, "references": found}

    def _log_probabilities(self, model: Any, ids: Sequence[int]) -> Any:
        """(length, rows) float64: of what follows each place."""
        import torch

        device = model.get_input_embeddings().weight.device
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([list(ids)], device=device), use_cache=False).logits[0]
        return torch.log_softmax(logits.double().cpu(), -1)

    def _sequence(self, model: Any, prompt: Sequence[int], pieces: Sequence[int]) -> float:
        """Probability that the prompt goes on with these tokens, one after the other."""
        logs = self._log_probabilities(model, [*prompt, *pieces])
        first = len(prompt) - 1
        return float(sum(logs[first + place, piece] for place, piece in enumerate(pieces)).exp())
