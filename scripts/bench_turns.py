"""Trainings in processes of their own that take turns, step by step, so that a machine's drift meets all alike."""

from __future__ import annotations

import multiprocessing
import queue
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

#: Begin and end, in seconds of a clock that all processes have.
Step = tuple[float, float]
#: The first steps pay for kernels and memory that later ones find ready.
WARMUP = 5


def callback(mine: Any, following: Any, steps: int, taken: list[Step]) -> Any:
    """A trainer's callback: begins a step when it is its turn, notes it in ``taken``, and stops after ``steps``."""
    from transformers import TrainerCallback

    class Turns(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            mine.acquire()
            self.began = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            taken.append((self.began, time.monotonic()))
            control.should_training_stop |= state.global_step >= steps
            following.release()

    return Turns()


def run(work: dict[str, tuple[Callable[..., None], tuple[Any, ...]]], steps: int) -> dict[str, Any]:
    """What each of ``work`` found in ``steps`` steps after `WARMUP`.

    Each is called with its arguments, then how many steps to take, its turn, the next one's, and a queue for
    ``(name, found)``. It makes one step more than is wanted, in which the one before it writes its checkpoint.

    Raises:
        SystemExit: one failed; its own message is above.
    """
    context = multiprocessing.get_context("spawn")
    turns = [context.Semaphore(number == 0) for number in range(len(work))]
    out = context.Queue()
    workers = [
        context.Process(
            target=target,
            args=(*args, WARMUP + steps + 1, turns[number], turns[(number + 1) % len(work)], out),
        )
        for number, (target, args) in enumerate(work.values())
    ]
    for worker in workers:
        worker.start()
    found: dict[str, Any] = {}
    try:
        while len(found) < len(workers):
            with suppress(queue.Empty):  # one that was killed says nothing
                found |= [out.get(timeout=5)]
            if failed := [w.exitcode for w in workers if w.exitcode]:
                sys.exit(f"an arm ended with {failed[0]}: its message is above")
    finally:
        for worker in workers:
            if len(found) < len(workers):
                worker.kill()  # a trainer that waits for its turn does not hear SIGTERM
            worker.join()
    return {name: found[name] for name in work}
