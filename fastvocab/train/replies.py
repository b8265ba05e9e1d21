"""On the way, where held-out rows are of the training's own kind: their loss, and what the model itself replies."""

from __future__ import annotations

import math
import time
from itertools import accumulate
from typing import Any

from fastvocab import console, processes
from fastvocab.config.models import InstructSection, PretrainSection, TrainSection
from fastvocab.model import generation
from fastvocab.model.nats import nats
from fastvocab.train import evaluation
from fastvocab.train.data import IGNORED

#: Mean of -log p over the tokens of held-out replies and their end marks, in nats.
LOSS = "heldout_loss"
#: What it replies to the first of them: a list of ``prompt`` and ``text``.
SAMPLES = "samples"
#: How many; and with less time for them than this, in seconds, there are none.
_REPLIES, _LEAST_SECONDS = 2, 1.0


def evaluator(trainer: Any, tokenizer: Any, section: TrainSection) -> Any:
    """The callback that measures ``trainer.job.data.heldout``, as often and as much of it as ``section`` allows.

    All evaluations read the same conversations, the first so many, so that they compare.
    """
    from transformers import TrainerCallback

    rows, budget, kind = trainer.job.data.heldout, trainer.job.budget, trainer.job.data.kind
    what = "replies" if kind == "conversation" else f"{kind}s"
    patience = section.patience if isinstance(section, PretrainSection) else None
    sample_tokens = section.sample_tokens if isinstance(section, InstructSection) else 0
    counted = [[label != IGNORED for label in row["labels"]] for row in rows]

    class Replies(TrainerCallback):
        _count: int | None = None
        _reached = 0
        _said = False

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if done := evaluation.entries(
                state.log_history
            ):  # a continued training reads what it read before
                self._count, self._reached = done[0]["conversations"], done[-1]["due"]

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            now = evaluation.due(budget, state.global_step, section.evaluations)
            if now == self._reached:
                return
            self._reached = now
            with budget.stopped_clock():
                if self._count is None:
                    self._count = self._fitting(evaluation.allowed_tokens(budget, state, section))
                if self._count:
                    self._evaluate(state, control, self._count)

        def _fitting(self, tokens: float) -> int | None:
            """How many conversations an evaluation reads; None where not even the first fits."""
            sizes = accumulate(len(row["input_ids"]) for row in rows)
            count = sum(size <= tokens for size in sizes)
            if not count and not self._said:
                self._said = True
                console.say(
                    f"  no held-out loss on the way: {section.evaluations} evaluations within "
                    f"{section.evaluation_share:.0%} of this training would read {tokens:.0f} tokens each"
                )
            return count or None

        def _evaluate(self, state: Any, control: Any, count: int) -> None:
            began = time.monotonic()
            found = 0.0
            if processes.is_main():
                found = sum(nats(trainer.model, [row["input_ids"] for row in rows[:count]], counted[:count]))
            # labels are those of the ids themselves, and the first of a row is predicted by nothing
            loss = processes.share(found) / max(1, sum(sum(own[1:]) for own in counted[:count]))
            entry = {"due": self._reached, LOSS: loss, "conversations": count}
            entry |= {"tokens": state.num_input_tokens_seen, "seconds": round(budget.seconds(), 2)}
            written = self._replies(state) if processes.is_main() else []
            entry["seconds_evaluating"] = round(time.monotonic() - began, 2)
            evaluation.log_entry(trainer, entry, control)
            console.say(
                f"  step {state.global_step}: {loss:.3f} is the loss of held-out {what} ({count} read)"
            )
            if patience is not None:
                evaluation.judge(budget, state, control, loss, patience)
            if written:
                # past the trackers, which take numbers
                state.log_history[-1][SAMPLES] = written
                console.say("".join(f"    {one['prompt']} -> {one['text']}\n" for one in written).rstrip())

        def _replies(self, state: Any) -> list[dict[str, str]]:
            """Replies to the first held-out conversations, each up to the first reply in it."""
            whole = budget.seconds() / budget.fraction(state.global_step)
            allowed = section.evaluation_share * whole / section.evaluations
            if allowed < _LEAST_SECONDS or not sample_tokens:
                return []
            known = getattr(trainer.model.config.get_text_config(), "max_position_embeddings", None)
            room = (known or math.inf) - sample_tokens  # beyond it unsloth's GPU classes refuse
            ends = [own.index(True) for own in counted[:_REPLIES]]
            asked = [row["input_ids"][:end] for row, end in zip(rows, ends) if 0 < end <= room]
            written = generation.continuations(
                trainer.model, tokenizer, asked, max_new_tokens=sample_tokens, max_seconds=allowed
            )
            texts = [generation.decode(tokenizer, ids) for ids in (asked, written)]
            return [
                {"prompt": " ".join(prompt.split()), "text": " ".join(reply.split())}
                for prompt, reply in zip(*texts)
            ]

    return Replies()
