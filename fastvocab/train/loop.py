"""The training loop of both stages: unsloth's trainer with our saves, our stop and our schedule.

What is not here is `UnslothTrainer`'s: forward, backward, optimizer, the embeddings' own learning rate.
"""

from __future__ import annotations

import copy
import math
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastvocab import console, files
from fastvocab.config.models import TrainSection
from fastvocab.errors import Stopped, TrainingError
from fastvocab.model import load
from fastvocab.train import saves

FLOOR = 0.1  # the learning rate falls to this share of its peak (arXiv 2403.08763 re-decays to a tenth)


@dataclass
class Budget:
    """How long to train: steps, minutes, whichever comes first; and how far along we are.

    A broken run goes on as if it had not been, bit by bit on a CPU, where steps alone (or tokens, which become
    steps) limit it. With minutes the rate follows the clock, and no two runs have the same.

    Attributes:
        steps: the last step there can be.
        minutes: of training, over all sessions of a broken run.
        spent: seconds trained in earlier sessions.
    """

    steps: int
    minutes: float | None
    spent: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """Seconds trained so far."""
        return self.spent + time.monotonic() - self.started

    def fraction(self, step: int) -> float:
        """Share of the training that is over, 0 to 1."""
        by_time = self.seconds() / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(step / self.steps, by_time))

    def rate(self, step: int, warmup: float) -> float:
        """Learning rate as a share of its peak: linear warm-up, then a cosine down to `FLOOR`."""
        at = self.fraction(step)
        if at < warmup:
            return max(at / warmup, 0.02)  # not 0: the first step would be a step for nothing
        progress = (at - warmup) / max(1e-9, 1 - warmup)
        return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress))


def batch_size(section: TrainSection) -> int:
    """Sequences in one forward pass: as set, else 2 on a CPU and 8 on a GPU."""
    return section.batch or (2 if load.device() == "cpu" else 8)


def recomputes(section: TrainSection) -> bool:
    """Gradient checkpointing: as set, else on a GPU and not on a CPU."""
    return (
        load.device() != "cpu" if section.gradient_checkpointing is None else section.gradient_checkpointing
    )


def steps_for(section: TrainSection, *, length: int | None, rows: int | None) -> int | None:
    """Optimizer steps that ``section`` allows, None where only minutes limit it and ``rows`` is unknown.

    Args:
        length: tokens of one sequence, None where they differ.
        rows: sequences in the data; without any limit, one pass.
    """
    each = batch_size(section) * section.accumulate
    limits = []
    if section.steps is not None:
        limits.append(section.steps)
    if section.tokens is not None and length is not None:
        limits.append(math.ceil(section.tokens / (each * length)))
    if not limits and section.minutes is None and section.tokens is None and rows is not None:
        limits.append(math.ceil(rows / each))
    return min(limits) if limits else None


def fit(
    model: Any,
    tokenizer: Any,
    dataset: Any,
    section: TrainSection,
    *,
    stage: str,
    key: str,
    folder: Path,
    seed: int,
    write: Callable[[Path], dict[str, Any]],
    resume: tuple[Path, dict[str, Any]] | None,
    track: tuple[str, ...] = (),
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Train; returns (log, figures).

    Args:
        model: from `checkpoint.load(trainable=True)`; a resumed one from the save's own folder.
        dataset: rows of ``input_ids``, ``labels``, ``attention_mask``.
        folder: where saves go.
        write: writes a checkpoint into an existing folder.
        resume: the save to go on from (`saves.newest`).

    Raises:
        Stopped: Ctrl-C or SIGTERM came; a save was made first.
        TrainingError: the loss is not finite.
    """
    from transformers import TrainerState

    steps = steps_for(section, length=None, rows=len(dataset))
    if section.tokens is not None:
        average = sum(map(len, dataset["input_ids"])) / len(dataset)
        limit = math.ceil(section.tokens / (batch_size(section) * section.accumulate * average))
        steps = min(steps or limit, limit)
    budget = Budget(steps or 10**7, section.minutes, spent=resume[1]["seconds"] if resume else 0.0)
    trainer = _trainer(model, tokenizer, dataset, section, stage, key, folder, seed, write, budget, track)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if resume:
        console.say(
            f"{stage}: goes on from step {resume[1]['step']} ({budget.spent / 60:.1f} minutes trained)"
        )
        trainer.stopper.saved_step = resume[1]["step"]
    with _catch_signals(trainer.stopper), console.progress(rate=False) as display:
        trainer.stopper.show(display, stage, budget)
        budget.started = time.monotonic()
        with console.quiet():
            if resume and (resume[1]["step"] >= budget.steps or budget.fraction(resume[1]["step"]) >= 1):
                # stopped in its very last step: transformers would train one more
                trainer.state = TrainerState.load_from_json(str(resume[0] / "trainer_state.json"))
            else:
                trainer.train(resume_from_checkpoint=str(resume[0]) if resume else None)
            if trainer.stopper.signum is not None and trainer.stopper.saved_step != trainer.state.global_step:
                trainer._save_checkpoint(model, None)  # the signal came when the last step's end was past
    if trainer.stopper.signum is not None:
        raise Stopped(trainer.stopper.signum, f"{stage} is saved at step {trainer.stopper.saved_step}")
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    seconds = budget.seconds()
    tokens = int(trainer.state.num_input_tokens_seen)
    figures = {
        "steps": trainer.state.global_step,
        "epochs": round(trainer.state.epoch or 0.0, 3),
        "tokens": tokens,
        "seconds_training": round(seconds, 2),
        "tokens_per_second": round(tokens / max(seconds, 1e-9), 1),
        "trainable_parameters": trainable,
        "peak_memory_bytes": _peak_memory(),
        "loss_first": log[0]["loss"] if log else None,
        "loss_last": log[-1]["loss"] if log else None,
        "device": load.device(),
    }
    return [_log_entry(entry) for entry in log], figures


def _log_entry(entry: dict[str, Any]) -> dict[str, Any]:
    names = ("step", "tokens", "seconds", "loss", "learning_rate", "embedding_learning_rate", "grad_norm")
    return {name: entry[name] for name in names if name in entry}


def _trainer(
    model: Any, tokenizer: Any, dataset: Any, section: TrainSection, stage: str, key: str, folder: Path,
    seed: int, write: Callable[[Path], dict[str, Any]], budget: Budget, track: tuple[str, ...],
) -> Any:  # fmt: skip
    from transformers import PrinterCallback

    package = load.unsloth()
    on_gpu = load.device() != "cpu"
    bf16 = bool(package.is_bfloat16_supported())
    with console.quiet():
        args = package.UnslothTrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=batch_size(section),
            gradient_accumulation_steps=section.accumulate,
            max_steps=budget.steps,
            learning_rate=section.learning_rate,
            embedding_learning_rate=section.embedding_learning_rate,
            weight_decay=section.weight_decay,
            optim="adamw_8bit" if on_gpu else "adamw_torch",
            bf16=bf16,
            fp16=on_gpu and not bf16,
            gradient_checkpointing=recomputes(section),
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to=list(track) or "none",
            run_name=stage,
            disable_tqdm=True,
            include_num_input_tokens_seen="all",
            seed=seed,
            data_seed=seed,
            dataloader_num_workers=0,
            remove_unused_columns=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            max_length=None,
        )
        trained = {p: p.data for p in model.parameters() if p.requires_grad}
        # a copy: TRL gives a tokenizer without a pad token one, and what we save must stay as it was proved
        trainer = _class()(
            model=model,
            args=args,
            train_dataset=dataset,
            processing_class=copy.deepcopy(tokenizer),
            data_collator=collate,
        )
    # over a 4-bit base TRL casts what trains to bfloat16: rows and adapters would lose updates, and a save its low bits
    for parameter, data in trained.items():
        parameter.data = data
    trainer.remove_callback(PrinterCallback)
    trainer.budget, trainer.section, trainer.saves, trainer.key, trainer.write = (
        budget,
        section,
        folder,
        key,
        write,
    )
    trainer.stopper = _stopper(budget, section)
    trainer.add_callback(trainer.stopper)
    return trainer


def collate(rows: list[dict[str, list[int]]]) -> dict[str, Any]:
    """Rows of a batch as tensors (batch, length), padded at the right: no attention there, and no loss.

    Packed blocks have one length and are not padded. Needs no pad token, which many base tokenizers lack.
    """
    import torch

    width = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {
        name: torch.tensor([row[name] + [empty] * (width - len(row[name])) for row in rows])
        for name, empty in fill.items()
    }


def _class() -> Any:
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import Trainer as TransformersTrainer

    class Trainer(load.unsloth().UnslothTrainer):  # type: ignore[misc]
        """UnslothTrainer with our schedule and our saves."""

        budget: Budget
        lr_scheduler: Any

        def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
            optimizer = super().create_optimizer(*args, **kwargs)
            alone = {id(p): p for p in load.trained_rows(self.model).values()}
            if alone:  # unsloth knows embedding weights by name, and these have one of our own
                for group in optimizer.param_groups:
                    group["params"] = [p for p in group["params"] if id(p) not in alone]
                optimizer.add_param_group(
                    {"params": list(alone.values()), "lr": self.args.embedding_learning_rate}
                )
            rows = alone.keys() | {id(w) for w in load.embedding_weights(self.model).values()}
            for group in optimizer.param_groups:
                # decay pulls on rows that a batch does not even hold
                if any(id(p) in rows for p in group["params"]):
                    group["weight_decay"] = 0.0
            return optimizer

        def compute_loss(self, model: Any, inputs: Any, **kwargs: Any) -> Any:
            if load.trained_rows(self.model):
                # TRL takes its loss from the head's weight, past the forward that gives the new rows their gradient
                return TransformersTrainer.compute_loss(self, model, inputs, **kwargs)
            return super().compute_loss(model, inputs, **kwargs)

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            if self.lr_scheduler is None:
                budget, warmup = self.budget, self.section.warmup
                self.lr_scheduler = LambdaLR(
                    optimizer or self.optimizer, lambda step: budget.rate(step, warmup)
                )
                self._created_lr_scheduler = True
            return self.lr_scheduler

        def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            if "loss" in logs:
                if not math.isfinite(logs["loss"]):
                    raise TrainingError(
                        f"the loss is {logs['loss']} at step {self.state.global_step}",
                        rule="training stops where the loss is not finite; the last save is kept",
                        fix="lower learning_rate and embedding_learning_rate, and run again",
                    )
                peak, rows = self.args.learning_rate, self.args.embedding_learning_rate
                logs |= {
                    "embedding_learning_rate": rows * logs["learning_rate"] / peak if peak else 0.0,
                    "tokens": self.state.num_input_tokens_seen,
                    "seconds": round(self.budget.seconds(), 2),
                }
            super().log(logs, *args, **kwargs)

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            step = self.state.global_step
            with files.atomic_folder(saves.path(self.saves, step)) as folder:
                self.write(folder)
                self._save_optimizer_and_scheduler(str(folder))
                self._save_scaler(str(folder))
                self._save_rng_state(str(folder))
                self.state.save_to_json(str(folder / "trainer_state.json"))
                saves.commit(folder, key=self.key, step=step, seconds=round(self.budget.seconds(), 3))
            self.stopper.saved_step = step
            saves.prune(self.saves, step, key=self.key, keep=self.section.keep_saves)

        def _load_from_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            """The model came from the save already (`checkpoint.load`); PEFT's own reload would not know its rows."""

    return Trainer


def _stopper(budget: Budget, section: TrainSection) -> Any:
    from transformers import TrainerCallback

    class Stopper(TrainerCallback):
        """Ends training when the time is up or a signal came, saves now and then, and shows progress."""

        signum: int | None = None
        saved_step: int | None = None
        _saved = time.monotonic()
        _display: Any = None
        _task: Any = None

        def show(self, display: Any, stage: str, budget: Budget) -> None:
            self._display = display
            total = round(60 * budget.minutes) if budget.minutes else budget.steps
            self._task = display.add_task(stage, total=total, note="")

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if self.signum is not None:
                control.should_save = control.should_training_stop = True
            elif budget.minutes and budget.seconds() >= 60 * budget.minutes:
                control.should_training_stop = True
            elif state.global_step < budget.steps:  # after the last step the checkpoint itself is written
                due = section.save_steps is not None and state.global_step % section.save_steps == 0
                control.should_save = due or time.monotonic() - self._saved >= 60 * section.save_minutes

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            # from its end on: where a save takes longer than the interval, steps come between
            self._saved = time.monotonic()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if self._display is not None and logs and "loss" in logs:
                done = min(budget.seconds(), 60 * budget.minutes) if budget.minutes else state.global_step
                speed = logs["tokens"] / max(logs["seconds"], 1e-9)
                note = f"step {state.global_step}  loss {logs['loss']:.3f}  {speed:.0f} tokens/s"
                self._display.update(self._task, completed=round(done), note=note)

    return Stopper()


@contextmanager
def _catch_signals(stopper: Any) -> Iterator[None]:
    """The first signal ends the step, saves and stops; a second one stops at once."""

    def handle(signum: int, frame: Any) -> None:
        if stopper.signum is not None:
            raise Stopped(signum, "stopped at once, without the last save")
        stopper.signum = signum
        console.say("stopping: the step is finished and saved first (again to stop at once)")

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _peak_memory() -> int:
    if load.device() == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def require_disk(folder: Path, model: Any, keep: int = saves.KEEP) -> None:
    """Room for the saves that are kept and the next: trained weights, with Adam's two moments beside each.

    Args:
        keep: saves that are kept; those that lie there already count, as they will make room.

    Raises:
        ResourceError: before training, not in the middle of it.
    """
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    files.require_space(folder, (keep + 1) * 3 * trained - saves.size(folder), "saves during training")
