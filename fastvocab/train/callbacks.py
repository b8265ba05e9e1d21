"""When training saves, stops and changes its phase."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastvocab import console, processes
from fastvocab.config.models import TrainSection
from fastvocab.errors import Stopped
from fastvocab.train.budget import Budget
from fastvocab.train.optimizer import Groups

#: Reading a text again is worth nearly as much as new text up to so many times, and little beyond (arXiv 2305.16264).
MANY_EPOCHS = 4
#: A launcher of several processes hands on the signal that the terminal has given them already. Seconds.
_ECHO = 5.0


def stopper(budget: Budget, section: TrainSection) -> Any:
    """The callback that ends training when the time is up or a signal came, saves now and then, shows progress."""
    from transformers import TrainerCallback

    class Stopper(TrainerCallback):
        signum: int | None = None
        _saved = _now = processes.share(time.monotonic())
        _display: Any = None
        _task: Any = None

        def show(self, display: Any, stage: str) -> None:
            self._display = display
            total = round(60 * budget.minutes) if budget.minutes else budget.steps
            self._task = display.add_task(stage, total=total, note="")

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._agree()
            if self.signum is not None:
                control.should_save = control.should_training_stop = True
            elif budget.minutes and budget.seconds() >= 60 * budget.minutes:
                control.should_training_stop = True
            elif state.global_step < budget.steps:  # after the last step the checkpoint itself is written
                due = section.save_steps is not None and state.global_step % section.save_steps == 0
                control.should_save = due or self._now - self._saved >= 60 * section.save_minutes

        def _agree(self) -> None:
            """All processes stop and save at the same step, by the main one's clock."""
            self._now = time.monotonic()
            if processes.several():
                signals, clock = zip(*processes.gather((self.signum, (self._now, budget.own_seconds()))))
                self.signum = next((number for number in signals if number is not None), None)
                self._now, budget.agreed = clock[0]

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            # from its end on: where a save takes longer than the interval, steps come between
            self._saved = processes.share(time.monotonic())

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if self._display is not None and logs and "loss" in logs:
                done = min(budget.seconds(), 60 * budget.minutes) if budget.minutes else state.global_step
                speed = logs["tokens"] / max(logs["seconds"], 1e-9)
                note = f"step {state.global_step}  loss {logs['loss']:.3f}  {speed:.0f} tokens/s"
                self._display.update(self._task, completed=round(done), note=note)

    return Stopper()


def tie(groups: Groups) -> Any:
    """The callback that puts parameters right once the trainer has wrapped the model."""
    from transformers import TrainerCallback

    class Tie(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            groups.tie()

    return Tie()


def phases(budget: Budget, groups: Groups, rows_first: float) -> Any:
    """The callback that lets the added rows train alone during the first ``rows_first`` of the training."""
    from transformers import TrainerCallback

    class Phases(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            alone = budget.fraction(state.global_step) < rows_first
            if alone != groups.rows_alone:
                groups.train_rows_alone(alone)

    return Phases()


def epochs_watch(stage: str, kind: str) -> Any:
    """The callback that says, once, that the text is being read for the fifth time."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        _said = False

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if not self._said and (state.epoch or 0) > MANY_EPOCHS:
                self._said = True
                warn_of_epochs(stage, kind, None)

    return Watch()


def warn_of_epochs(stage: str, kind: str, epochs: float | None) -> None:
    """Say that text is read more often than pays.

    Args:
        epochs: how often, where it is known beforehand.
    """
    often = f"{epochs:.1f} times" if epochs else f"more than {MANY_EPOCHS} times by now"
    console.warn(
        f"{stage} reads every {kind} {often}: beyond {MANY_EPOCHS} times little is learnt from it "
        "(arXiv 2305.16264). Give more text, or train for less"
    )


@contextmanager
def catch_signals(stopper: Any) -> Iterator[None]:
    """The first signal ends the step, saves and stops; a second one stops at once."""

    began: list[float] = []

    def handle(signum: int, frame: Any) -> None:
        if stopper.signum is not None:
            if processes.several() and time.monotonic() - began[0] < _ECHO:
                return
            raise Stopped(signum, "stopped at once, without the last save")
        stopper.signum = signum
        began.append(time.monotonic())
        console.say("stopping: the step is finished and saved first (again to stop at once)")

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
