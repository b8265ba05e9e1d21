"""`UnslothTrainer` with our optimizer groups, schedule, saves and checks."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastvocab import console, files, memory, processes
from fastvocab.config.models import PretrainSection, TrainSection
from fastvocab.errors import TrainingError
from fastvocab.model import backend, load
from fastvocab.train import saves
from fastvocab.train.budget import Budget, recomputes, shares
from fastvocab.train.data import Batches, Data, Order, Rows, without_nothing
from fastvocab.train.optimizer import RATES, Groups
from fastvocab.train.trackers import Tracking


@dataclass
class Job:
    """What one training of a stage is given.

    Attributes:
        key: of the saves (`fastvocab.train.saves`).
        folder: where saves go.
        seed: of the data order and of dropout.
        write: writes a checkpoint into an existing folder.
        track: trackers that follow it (`fastvocab.train.trackers`).
    """

    section: TrainSection
    data: Data
    budget: Budget
    groups: Groups
    stage: str
    key: str
    folder: Path
    seed: int
    write: Callable[[Path], Any]
    track: Tracking | None = None

    @property
    def rows_first(self) -> float:
        """Share of the training in which the added rows train alone; 0 where there are none that train."""
        asked = self.section.rows_first if isinstance(self.section, PretrainSection) else 0.0
        return asked if self.groups.new_rows else 0.0


def build(model: Any, tokenizer: Any, job: Job) -> Any:
    """The trainer of ``job``, ready for ``train``."""
    from transformers import PrinterCallback

    package, section = backend.unsloth(), job.section
    on_gpu = backend.device() != "cpu"
    batch, passes = shares(section, job.stage)
    bf16 = bool(package.is_bfloat16_supported())
    with console.quiet():
        args = package.UnslothTrainingArguments(
            output_dir=str(job.folder),
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=passes,
            max_steps=job.budget.steps,
            learning_rate=section.learning_rate,
            max_grad_norm=section.max_grad_norm,
            optim="adamw_8bit" if on_gpu else "adamw_torch_fused",
            bf16=bf16,
            fp16=on_gpu and not bf16,
            gradient_checkpointing=recomputes(section),
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            run_name=job.stage,
            disable_tqdm=True,
            include_num_input_tokens_seen="all",
            seed=job.seed,
            data_seed=job.seed,
            dataloader_num_workers=0,
            # adapters that rest in the phase of the rows have no gradient to share
            ddp_find_unused_parameters=bool(job.rows_first),
            remove_unused_columns=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            max_length=None,
        )
        trained = {p: p.data for p in model.parameters() if p.requires_grad}
        # a copy: TRL gives a tokenizer without a pad token one, and what we save must stay as it was proved
        trainer = _class()(
            model=model,
            args=args,
            train_dataset=job.data.dataset,
            processing_class=copy.deepcopy(tokenizer),
            data_collator=job.data.collate,
        )
    # over a 4-bit base TRL casts what trains to bfloat16: rows and adapters would lose updates, and a save its low bits
    for parameter, data in trained.items():
        parameter.data = data
    trainer.remove_callback(PrinterCallback)
    trainer.job = job
    assert args.world_size == processes.count(), "the trainer knows of all processes"
    trainer.order = Order(len(job.data.dataset), batch, passes * processes.count(), job.seed)
    return trainer


def _class() -> Any:
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import Trainer as TransformersTrainer

    class Trainer(backend.unsloth().UnslothTrainer):  # type: ignore[misc]
        """See the module."""

        job: Job
        order: Order
        optimizer: Any
        lr_scheduler: Any
        saved_step: int | None = None
        #: what evaluations leave of the counts' share (`evaluation.lead`); None where there are no evaluations
        lead: float | None = None
        _rates: dict[str, float] = {}  # noqa: RUF012 - replaced, never changed
        _passes = 0
        _counted = (0, 0)

        def text_bytes(self, step: int) -> int | None:
            """Bytes of new-language text read up to ``step``; None where they are not counted."""
            sizes = self.job.data.text_bytes
            if sizes is None:
                return None
            known, total = self._counted
            for number in range(known + 1, step + 1):
                total += sum(int(sizes[batch].sum()) for batch in self.order.batches(number))
            self._counted = (step, total)
            return total

        def get_train_dataloader(self) -> Any:
            from torch.utils.data import DataLoader

            batches = Batches(self.order, processes.index(), processes.count())
            rows, collate = Rows(self.job.data.dataset), without_nothing(self.job.data.collate)
            return DataLoader(rows, batch_sampler=batches, collate_fn=collate)  # type: ignore[arg-type]

        def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
            if self.optimizer is None:
                kind, options = self.get_optimizer_cls_and_kwargs(self.args)
                self.optimizer = self.job.groups.optimizer(kind, options, self.job.section)
                self.optimizer.register_step_pre_hook(self._note_rates)
            return self.optimizer

        def _note_rates(self, optimizer: Any, *_: Any) -> None:
            # for the log, which comes when the rates of the next step are set already
            self._rates = {RATES[group["name"]]: group["lr"] for group in optimizer.param_groups}

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            if self.lr_scheduler is None:
                optimizer, budget = optimizer or self.optimizer, self.job.budget
                warmup, phase = self.job.section.warmup, self.job.rows_first
                starts = [0.0 if g["name"] == "new_rows" else phase for g in optimizer.param_groups]

                def rate_from(start: float) -> Callable[[int], float]:
                    return lambda step: budget.rate(step, warmup, start=start)

                self.lr_scheduler = LambdaLR(optimizer, [rate_from(start) for start in starts])
                self._created_lr_scheduler = True
            return self.lr_scheduler

        def compute_loss(self, model: Any, inputs: Any, **kwargs: Any) -> Any:
            data, new_language = self.job.data, inputs.pop("new_language", None)
            if data.counts is not None:
                inputs["counted"] = data.targets(inputs["input_ids"], new_language, self._count_share())
            if load.trained_rows(self.model) or data.counts is not None:
                # TRL takes its loss from the head's weight, past the forward that gives the new rows their gradient
                return TransformersTrainer.compute_loss(self, model, inputs, **kwargs)
            return super().compute_loss(model, inputs, **kwargs)

        def _count_share(self) -> float:
            job = self.job
            assert isinstance(job.section, PretrainSection), "instruction tuning has no counts"
            left = 1 - job.budget.fraction(self.state.global_step) if self.lead is None else self.lead
            return job.section.count_targets * left

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            # all of them stop, and the main one says why
            for number, value in enumerate(processes.gather(float(loss))):
                if not math.isfinite(value):
                    batches = self.order.batches(self.state.global_step + 1)
                    place = self._passes * processes.count() + number
                    self._refuse(f"the loss is {value}", batches[place % len(batches)])
            self._passes += 1
            return loss

        def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
            norm = super()._get_grad_norm(model, grad_norm=grad_norm)
            self._passes = 0
            # a gradient scaler (float16) finds its scale by overflowing, and passes over such steps itself
            if self.accelerator.scaler is None and norm is not None and not math.isfinite(float(norm)):
                rows = [row for batch in self.order.batches(self.state.global_step + 1) for row in batch]
                self._refuse(f"the norm of the gradient is {float(norm)}", rows)
            return norm

        def _refuse(self, what: str, rows: list[int]) -> None:
            """Stop before the optimizer's step.

            Raises:
                TrainingError: always.
            """
            data, rows = self.job.data, sorted(rows)
            origins = list(dict.fromkeys(data.origin(row) for row in rows))
            shown = "; ".join(origins[:8]) + (f"; and {len(origins) - 8} more" if len(origins) > 8 else "")
            kept = (
                f"the save of step {self.saved_step} is kept" if self.saved_step else "there is no save yet"
            )
            rates = " and ".join(f"{self.job.stage}.{rate}" for rate in self._rates_used())
            raise TrainingError(
                f"{what} at step {self.state.global_step + 1}, in {data.kind} "
                f"{', '.join(map(str, rows))} ({shown})",
                rule=f"training stops before an update that is not finite; {kept}",
                fix=f"look at that text; where it is ordinary, lower {rates}, and run again",
            )

        def _rates_used(self) -> list[str]:
            return [RATES[group["name"]] for group in self.optimizer.param_groups]

        def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
            if "loss" in logs:
                logs |= self._rates | {
                    "tokens": self.state.num_input_tokens_seen,
                    "seconds": round(self.job.budget.seconds(), 2),
                }
                if (read := self.text_bytes(self.state.global_step)) is not None:
                    logs["bytes"] = read
                if (held := memory.used()) is not None:
                    logs["memory_bytes"] = held
            super().log(logs, *args, **kwargs)

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            job, step = self.job, self.state.global_step
            self.saved_step = step
            if not processes.is_main():
                return
            with files.atomic_folder(saves.path(job.folder, step)) as folder:
                job.write(folder)
                self._save_optimizer_and_scheduler(str(folder))
                self._save_scaler(str(folder))
                self._save_rng_state(str(folder))
                self.state.save_to_json(str(folder / "trainer_state.json"))
                saves.commit(folder, key=job.key, step=step, seconds=round(job.budget.seconds(), 3))
            saves.prune(
                job.folder, step, key=job.key, keep=job.section.keep_saves, best=self.state.best_global_step
            )

        def _load_from_checkpoint(self, *args: Any, **kwargs: Any) -> None:
            """The model came from the save already (`checkpoint.load`); PEFT's own reload would not know its rows."""

        def _save_rng_state(self, output_dir: str) -> None:
            if not processes.several():
                super()._save_rng_state(output_dir)
                return
            import torch

            # as one process saves it: any number may go on from it
            states = {"python": random.getstate(), "numpy": np.random.get_state()}
            states["cpu"] = torch.random.get_rng_state()
            if torch.cuda.is_available():
                states["cuda"] = torch.cuda.random.get_rng_state()
            torch.save(states, Path(output_dir) / "rng_state.pth")

        def _load_rng_state(self, checkpoint: str | None) -> None:
            if not processes.several():
                super()._load_rng_state(checkpoint)
            elif checkpoint is not None:  # dropout alone draws from it
                import torch

                torch.manual_seed(self.job.seed + self.state.global_step)

    return Trainer
