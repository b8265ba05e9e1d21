"""Bits per byte in both languages on the way, early stopping by them, and the best save.

Evaluations are spread evenly over the training, the last at its end, and all read the same text, so that they
compare. How much of it follows from ``evaluation_share`` when the first is due: a token that is only read costs
`COST` of one that is trained on, so that many tokens are allowed. The rule counts tokens and not seconds, so that
with a budget in steps it gives the same text again, whatever the machine is busy with; what the evaluations took
is in the record. Another training that is to read the same text is given the ``evaluation_bytes`` of this one's
figures and an ``evaluation_share`` of 1.

Where counts are part of the targets, a small piece of the text is read before the first step and twice early on: a
model that knows more than they do from the start, as a large one may, is not to be taught by them until the first
evaluation is due.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from fastvocab import console, processes
from fastvocab.config.models import PretrainSection, TrainSection
from fastvocab.model import heldout, text
from fastvocab.model.nats import nats

#: Time of a token read alone, as a share of that of a token trained on (0.53: SmolLM2-135M, all embeddings, CPU).
COST = 0.5
#: With less text than this of the new language an evaluation says too little, and is left out. In bytes.
LEAST_BYTES = 1000

TARGET, ORIGINAL, COUNTS = "target_bits_per_byte", "original_bits_per_byte", "counts_bits_per_byte"
#: Counts teach in full as long as a model is so much worse on held-out text than they are, and no more when it has
#: caught up. Chosen, not derived: no training here was long enough to come near them.
_LEAD = 0.05
#: Early looks at who leads: when, as shares of the training, and bytes that they read. Entries of the trainer's log
#: that are these have the share of the counts that they leave as ``LEAD``.
_EARLY, _EARLY_BYTES = (0.0, 1 / 64, 1 / 16), 4096
LEAD = "counts_lead"


@dataclass(frozen=True)
class Watched:
    """Held-out text that evaluations during training read.

    Attributes:
        target, original: pieces in the new language, and in what the model knew.
        apart: whether the final evaluation leaves it out; False where the held-out split is too small for that.
    """

    target: list[str]
    original: list[str]
    apart: bool

    @property
    def is_enough(self) -> bool:
        """For evaluations; where they still do not take place, the training is too short for them."""
        return _size(self.target) >= LEAST_BYTES


def read(corpus: Path, section: PretrainSection) -> Watched | None:
    """The text of a corpus folder (heldout.jsonl, replay_heldout.jsonl); None where none is to be evaluated."""
    if not section.evaluations:
        return None
    target, target_apart = heldout.watched(corpus / "heldout.jsonl", limit=section.evaluation_bytes)
    original, original_apart = heldout.watched(
        corpus / "replay_heldout.jsonl", limit=section.evaluation_bytes
    )
    if not target:
        return None
    apart = target_apart and (original_apart or not original)
    if section.patience is not None and not target_apart:
        console.warn(
            "pretrain.patience: the held-out split has too few documents for two parts. Training stops by the text "
            "that the final figures come from, and they will be a little too good: give more text"
        )
    return Watched(target, original, apart)


def entries(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The evaluations among a trainer's ``log_history``."""
    return [entry for entry in log if "due" in entry]


def due(budget: Any, step: int, evaluations: int) -> int:
    """How many of ``evaluations``, spread evenly over the training, should have been made by ``step``."""
    return int(budget.fraction(step) * evaluations + 1e-9)


def allowed_tokens(budget: Any, state: Any, section: TrainSection) -> float:
    """Tokens that each evaluation may read, so that together they take ``evaluation_share`` of the training."""
    whole = state.num_input_tokens_seen / budget.fraction(state.global_step)
    return float(section.evaluation_share * whole / section.evaluations / COST)


def log_entry(trainer: Any, entry: dict[str, Any], control: Any) -> None:
    """Put an entry into the trainer's log."""
    from transformers import Trainer as TransformersTrainer

    before = control.should_log  # of the step's own loss; any log takes it as done
    # past TRL's log, which adds its running figures of the training and forgets them
    TransformersTrainer.log(trainer, entry)
    control.should_log = before


def lead(model: float, counts: float) -> float:
    """How much of ``pretrain.count_targets`` is left, 0 to 1, by held-out bits per byte of both."""
    return min(1.0, max(0.0, (model / counts - 1) / _LEAD))


def _latest_lead(log: list[dict[str, Any]]) -> float | None:
    """What the last evaluation or early look left; None where there was none."""
    for entry in reversed(log):
        if LEAD in entry:
            return float(entry[LEAD])
        if entry.get(COUNTS) is not None:
            return lead(entry[TARGET], entry[COUNTS])
    return None


def is_exhausted(state: Any, patience: int | None) -> bool:
    """Have ``patience`` evaluations gone by without a better one?"""
    if patience is None or state.best_global_step is None:
        return False
    return sum(entry["step"] > state.best_global_step for entry in entries(state.log_history)) >= patience


def judge(budget: Any, state: Any, control: Any, found: float, patience: int) -> None:
    """Save where an evaluation was the best, and stop where ``patience`` of them were not.

    Args:
        found: what it found; lower is better.
    """
    if state.best_metric is None or found < state.best_metric:
        state.best_metric, state.best_global_step = found, state.global_step
        # where training ends here anyway, the checkpoint that the stage writes is this one
        if not control.should_training_stop and state.global_step < budget.steps:
            control.should_save = True
    elif is_exhausted(state, patience):
        control.should_training_stop = True
        console.say(
            f"pretrain: stopped, as {patience} evaluations were no better than that of step "
            f"{state.best_global_step}"
        )


def _size(pieces: Sequence[str]) -> int:
    return sum(len(piece.encode("utf-8")) for piece in pieces)


def fitting(pieces: Sequence[str], size: float) -> int:
    """How many of the first ``pieces`` have together at most ``size`` bytes."""
    total = 0
    for count, piece in enumerate(pieces):
        total += len(piece.encode("utf-8"))
        if total > size:
            return count
    return len(pieces)


def evaluator(trainer: Any, tokenizer: Any, watched: Watched, section: PretrainSection) -> Any:
    """The callback; it comes after the one that stops and saves."""
    from transformers import TrainerCallback

    start, budget, counts = text.bos_id(tokenizer), trainer.job.budget, trainer.job.data.counts
    texts = {TARGET: watched.target, ORIGINAL: watched.original}
    rows = {name: [[start, *ids] for ids in text.encode(tokenizer, pieces)] for name, pieces in texts.items()}

    class Evaluator(TrainerCallback):
        _limit: int | None = None
        _reached = 0
        _said = False
        _looks = len(_EARLY)

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._reached = self._due(state.global_step) if state.global_step else 0
            if done := entries(state.log_history):  # a continued training reads what it read before
                self._limit = done[0]["evaluation_bytes"]
                # not what is due by now: with minutes, one may have come due while this was saved and loaded
                self._reached = done[-1]["due"]
            # also where the target text is small: an evaluation has set it if the original text alone was enough
            if counts is not None and (left := _latest_lead(state.log_history)) is not None:
                trainer.lead = left
            if counts is not None and watched.is_enough:
                self._looks = sum(LEAD in entry for entry in state.log_history)
                self._look_early(state, control)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._look_early(state, control)
            now = self._due(state.global_step)
            if now == self._reached:
                return
            self._reached = now
            with budget.stopped_clock():
                if self._limit is None:
                    self._limit = self._choose(state)
                if self._limit is not None:
                    self._evaluate(state, control, self._limit)

        def _look_early(self, state: Any, control: Any) -> None:
            done = budget.fraction(state.global_step) if state.global_step else 0.0
            if self._looks == len(_EARLY) or done < _EARLY[self._looks]:
                return
            self._looks += 1
            with budget.stopped_clock():
                count = max(1, fitting(watched.target, _EARLY_BYTES))
                model, known = self._bits(TARGET, count), self._bits_of_counts(count)
                before, trainer.lead = trainer.lead, lead(model, known)
                self._log({LEAD: trainer.lead}, control)
            if trainer.lead != before:
                console.say(
                    f"  step {state.global_step}: {model:.3f} bits per byte, counts alone {known:.3f}: they are "
                    f"{trainer.lead:.0%} of what pretrain.count_targets asks for"
                )

        def _bits(self, name: str, count: int) -> float:
            """Bits per byte of the first ``count`` pieces."""
            # one process reads; all go by the same figures
            found = sum(nats(trainer.model, rows[name][:count])) if processes.is_main() else 0.0
            return processes.share(found) / math.log(2) / _size(texts[name][:count])

        def _bits_of_counts(self, count: int) -> float:
            return counts.nats(rows[TARGET][:count]) / math.log(2) / _size(watched.target[:count])

        def _log(self, entry: dict[str, Any], control: Any) -> None:
            log_entry(trainer, entry, control)

        def _due(self, step: int) -> int:
            return due(budget, step, section.evaluations)

        def _choose(self, state: Any) -> int | None:
            """How many bytes of each language the evaluations read; None where that is too little."""
            allowed = allowed_tokens(budget, state, section)

            def tokens(limit: int) -> int:
                read = (rows[name][: fitting(pieces, limit)] for name, pieces in texts.items())
                return sum(len(row) for some in read for row in some)

            sizes = [accumulate(len(piece.encode("utf-8")) for piece in pieces) for pieces in texts.values()]
            limits = {section.evaluation_bytes, *(size for some in sizes for size in some)}
            fit = [n for n in limits if n <= section.evaluation_bytes and tokens(n) <= allowed]
            limit = max(fit, default=0)
            if limit >= LEAST_BYTES and fitting(watched.target, limit):
                return limit
            if not self._said and section.evaluation_share:
                self._said = True
                (console.warn if section.patience is not None else console.say)(
                    f"pretrain: no evaluations on the way: {section.evaluations} of them within "
                    f"{section.evaluation_share:.0%} of this training would read {limit:,} bytes each"
                )
            return None

        def _evaluate(self, state: Any, control: Any, limit: int) -> None:
            began = time.monotonic()
            entry: dict[str, Any] = {"due": self._reached, "tokens": state.num_input_tokens_seen}
            entry |= {"bytes": trainer.text_bytes(state.global_step), "seconds": round(budget.seconds(), 2)}
            for name, pieces in texts.items():
                count = fitting(pieces, limit)
                if count:
                    entry[name] = self._bits(name, count)
                entry[name.replace("bits_per_byte", "bytes")] = _size(pieces[:count])
            if counts is not None:
                entry[COUNTS] = self._bits_of_counts(fitting(watched.target, limit))
                trainer.lead = lead(entry[TARGET], entry[COUNTS])
            entry["evaluation_bytes"] = limit
            entry["seconds_evaluating"] = round(time.monotonic() - began, 2)
            self._log(dict(entry), control)
            shown = f", {entry[ORIGINAL]:.3f} in the original language" if ORIGINAL in entry else ""
            if counts is not None:
                shown += f"; counts alone {entry[COUNTS]:.3f}"
            console.say(f"  step {state.global_step}: {entry[TARGET]:.3f} bits per byte{shown}")
            if section.patience is not None:
                judge(budget, state, control, entry[TARGET], section.patience)

    return Evaluator()
