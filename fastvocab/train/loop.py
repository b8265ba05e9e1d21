"""One training from its first step, or its last save, to its end: the same for both stages."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastvocab import console, files, processes
from fastvocab.config.models import PretrainSection, TrainSection
from fastvocab.errors import Stopped
from fastvocab.model import backend
from fastvocab.train import callbacks, evaluation, replies, saves, trackers, trainer
from fastvocab.train.budget import Budget, batch_size, steps_for
from fastvocab.train.data import Data

__all__ = ["Budget", "batch_size", "budget_of", "fit", "peak_memory", "require_disk"]

_LOGGED = (
    "step", "tokens", "bytes", "seconds", "loss", "learning_rate", "embedding_learning_rate",
    "new_rows_learning_rate", "grad_norm", "memory_bytes",
)  # fmt: skip
_EVALUATED = (
    "step", "tokens", "bytes", "seconds", evaluation.TARGET, evaluation.ORIGINAL, evaluation.COUNTS, "target_bytes",
    "original_bytes", "evaluation_bytes", replies.LOSS, "conversations", replies.SAMPLES,
    "seconds_evaluating",
)  # fmt: skip


def budget_of(section: TrainSection, data: Data, spent: float) -> Budget:
    """The budget of ``section`` for these rows; ``spent`` seconds of it are over."""
    length = None
    if section.tokens is not None:
        length = sum(map(len, data.dataset["input_ids"])) / len(data.dataset)
    steps = steps_for(section, length=length, rows=len(data.dataset))
    return Budget(steps or 10**7, section.minutes, spent=spent, schedule=section.schedule)


def fit(
    model: Any,
    tokenizer: Any,
    job: trainer.Job,
    *,
    resume: tuple[Path, dict[str, Any]] | None,
    watched: evaluation.Watched | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Train; returns (log, figures).

    Args:
        model: from `checkpoint.load(trainable=True)`; a resumed one from the save's own folder.
        resume: the save to go on from (`saves.newest`).
        watched: text for evaluations on the way, of a `PretrainSection`.

    Returns:
        The log has an entry a step (``loss``, rates, ``grad_norm``) and an entry an evaluation (`evaluation`). The
        figure ``best_step`` is the step of the save to be taken in place of the last state, None for the last state.

    Raises:
        Stopped: Ctrl-C or SIGTERM came; a save was made first.
        TrainingError: the loss or the gradient is not finite.
    """
    from transformers import TrainerState

    from fastvocab.model import chunked_loss  # torch
    from fastvocab.train import cpu_kernels

    stage, section, budget = job.stage, job.section, job.budget
    patience = section.patience if isinstance(section, PretrainSection) else None
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    run = trainer.build(model, tokenizer, job)
    stopper = callbacks.stopper(budget, section)
    run.add_callback(stopper)
    run.add_callback(callbacks.tie(job.groups))
    if job.rows_first:
        run.add_callback(callbacks.phases(budget, job.groups, job.rows_first))
    if (
        isinstance(section, PretrainSection) and job.data.kind == "block"
    ):  # text; histories are read dozens of times
        epochs = budget.steps / run.order.steps_per_epoch
        if budget.minutes is not None:
            run.add_callback(callbacks.epochs_watch(stage, job.data.kind))
        elif epochs > callbacks.MANY_EPOCHS:
            callbacks.warn_of_epochs(stage, job.data.kind, epochs)
        if watched is not None:
            run.add_callback(evaluation.evaluator(run, tokenizer, watched, section))
            run.lead = 1.0 if watched.is_enough else None
    if section.evaluations and job.data.heldout:
        run.add_callback(replies.evaluator(run, tokenizer, section))
    if resume:
        console.say(
            f"{stage}: goes on from step {resume[1]['step']} ({budget.spent / 60:.1f} minutes trained)"
        )
        run.saved_step = resume[1]["step"]
        state = TrainerState.load_from_json(str(resume[0] / "trainer_state.json"))
    done = resume[1]["step"] if resume else 0
    with (
        callbacks.catch_signals(stopper),
        trackers.follow(job, done, (*_LOGGED, *_EVALUATED)) as follower,
        console.progress(rate=False) as display,
    ):
        if follower is not None:
            run.add_callback(follower)
        stopper.show(display, stage)
        budget.started = time.monotonic()
        if processes.several():
            budget.agreed = budget.spent
        with console.quiet():
            if resume and (
                budget.fraction(state.global_step) >= 1 or evaluation.is_exhausted(state, patience)
            ):
                run.state = state  # stopped in its very last step: transformers would train one more
            else:
                with cpu_kernels.installed(model), chunked_loss.kept_lowered(model), _together():
                    run.train(resume_from_checkpoint=str(resume[0]) if resume else None)
            if stopper.signum is not None and run.saved_step != run.state.global_step:
                run._save_checkpoint(model, None)  # the signal came when the last step's end was past
    if stopper.signum is not None:
        raise Stopped(stopper.signum, f"{stage} is saved at step {run.saved_step}")
    return _log(run.state.log_history), _figures(run, trainable, patience)


@contextmanager
def _together() -> Iterator[None]:
    """Inside, an error that another process's end has caused is told as what it is."""
    try:
        yield
    except RuntimeError as error:
        if (told := processes.lost(error)) is None:
            raise
        raise told from error


def _log(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    steps = [{name: e[name] for name in _LOGGED if name in e} for e in history if "loss" in e]
    looks = [{name: e[name] for name in _EVALUATED if name in e} for e in evaluation.entries(history)]
    return sorted([*steps, *looks], key=lambda entry: entry["step"])  # stable: the step, then the look at it


def _figures(run: Any, trainable: int, patience: int | None) -> dict[str, Any]:
    job, state = run.job, run.state
    seconds, tokens = job.budget.seconds(), int(state.num_input_tokens_seen)
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    looks = evaluation.entries(state.log_history)
    figures = {
        "steps": state.global_step,
        "epochs": round(state.epoch or 0.0, 3),
        "tokens": tokens,
        "bytes": run.text_bytes(state.global_step),
        "processes": processes.count(),
        "seed": job.seed,  # of the order of rows too (`data.Order`)
        "seconds_training": round(seconds, 2),
        "seconds_evaluating": round(sum(entry["seconds_evaluating"] for entry in looks), 2),
        "evaluations": len(looks),
        "evaluation_bytes": looks[0].get("evaluation_bytes") if looks else None,
        replies.LOSS: [entry[replies.LOSS] for entry in looks if replies.LOSS in entry],
        "tokens_per_second": round(tokens / max(seconds, 1e-9), 1),
        "trainable_parameters": trainable,
        "peak_memory_bytes": peak_memory(),
        "loss_first": losses[0] if losses else None,
        "loss_last": losses[-1] if losses else None,
        "best_step": None,
        "stopped_early": evaluation.is_exhausted(state, patience),
        "device": backend.device(),
    }
    best = state.best_global_step
    if patience is not None and best is not None and best != state.global_step:
        faults = saves.read(saves.path(job.folder, best))[1]
        if faults:
            console.warn(f"the best save, of step {best}, cannot be taken ({faults[0]}): the last state is")
        else:
            (look,) = [entry for entry in looks if entry["step"] == best]
            figures |= {"best_step": best, "best_tokens": look["tokens"]}
    return figures


def peak_memory() -> int:
    """Bytes at the peak since `fastvocab.memory.reset_peak`: the GPU's, or the process's."""
    if backend.device() == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def require_disk(folder: Path, model: Any, keep: int = saves.KEEP, *, shared: int = 0) -> None:
    """Room for the saves that are kept and the next: trained weights, with Adam's two moments beside each.

    Args:
        keep: saves that are kept; those that lie there already count, as they will make room.
        shared: bytes of what rows share, of which there are moments alone (`fastvocab.train.subwords`).

    Raises:
        ResourceError: before training, not in the middle of it.
    """
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    needed = (keep + 1) * (3 * trained + 2 * shared)
    files.require_space(folder, needed - saves.size(folder), "saves during training")
