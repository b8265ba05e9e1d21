"""What our line costs beside a bare `UnslothTrainer` doing the same steps, and where a step's time goes.

    python -m fastvocab.recipes.new_language
    python scripts/bench_overhead.py runs/smollm2-ukrainian

Both train every row and the adapters of the run's checkpoint 0 on the same blocks in the same order, plain targets;
``bare`` is unsloth's trainer with its own arguments alone, ``ours`` the stage ``pretrain``. ``as configured`` is the
stage with the run's own settings (added rows alone, counts as targets, shared parts). Each is a process of its own, and
they take turns, a step each (`bench_turns`): a machine's drift meets all alike. Nothing else should run on the machine.

Columns: seconds of a step, the median; against the bare one's, the median over pairs with its quartiles; shares of the
step's time (other: data, clipping, logging, callbacks); products a second, of what a bare product of 1024 x 1024
matrices in bfloat16 reaches; and the loss of the first step, which is that of the same model on the same blocks
(afterwards learning rates differ: ours has one of its own for added rows).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_turns
from bench_harness import alone, machine, markdown, progress
from bench_turns import WARMUP

from fastvocab import files
from fastvocab.config.models import PretrainSection

#: The same for all: threads that spin while they wait, as training alone has them, would take another arm's cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ARMS = ("bare", "ours", "as configured")
PHASES = ("forward", "backward", "optimizer")


class Clock:
    """Seconds of each phase of a trainer's steps."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(PHASES, 0.0)
        self.steps: list[dict[str, float]] = []

    def around(self, phase: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """``work``, its time counted as ``phase``."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.monotonic()
            try:
                return work(*args, **kwargs)
            finally:
                self.spent[phase] += time.monotonic() - began

        return timed

    def watch(self, trainer: Any) -> None:
        """Count the phases of ``trainer`` from now on."""
        from transformers import TrainerCallback

        clock = self
        trainer.compute_loss = self.around("forward", trainer.compute_loss)
        trainer.accelerator.backward = self.around("backward", trainer.accelerator.backward)

        class Watch(TrainerCallback):  # type: ignore[misc]
            def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
                trainer.optimizer.step = clock.around("optimizer", trainer.optimizer.step)

            def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
                clock.spent = dict.fromkeys(PHASES, 0.0)

            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                clock.steps.append(dict(clock.spent))

        trainer.add_callback(Watch())


def settings(run: Path, arm: str, steps: int) -> tuple[PretrainSection, int]:
    """(pretraining of the arm, seed)."""
    record = files.read_json(run / "40-pretrain" / "stage.json")
    own = {key: value for key, value in record["config"].items() if key in PretrainSection.model_fields}
    changed: dict[str, Any] = {
        "minutes": None,
        "tokens": None,
        "steps": steps,
        "evaluations": 0,
        "patience": None,
    }
    if arm != "as configured":
        changed |= {"embeddings": "full", "count_targets": 0.0, "shared_subwords": False, "rows_first": 0.0}
    return PretrainSection(**own).model_copy(update=changed), record["seed"]


def train(arm: str, run: Path, work: Path, steps: int, mine: Any, following: Any, out: Any) -> None:
    """One arm, in this process; (name, its steps, phases, losses and work) goes to ``out``."""
    from fastvocab.train import pretrain, trainer

    taken: list[bench_turns.Step] = []
    clock, trainers = Clock(), []
    section, seed = settings(run, arm, steps)

    def watched(made: Any) -> Any:
        # the clock first, so that waiting for a turn is before it
        clock.watch(made)
        made.add_callback(bench_turns.callback(mine, following, steps, taken))
        trainers.append(made)
        return made

    if arm == "bare":
        bare(run, work, section, seed, watched)
    else:
        build = trainer.build
        trainer.build = lambda *args: watched(build(*args))
        (work / "out").mkdir(parents=True)
        pretrain.pretrain(
            work / "out", previous=run / "30-extend", corpus=run / "10-corpus", section=section, key="bench",
            saves_folder=work / "saves", seed=seed,
        )  # fmt: skip
    model = trainers[0].model
    log = [entry["loss"] for entry in trainers[0].state.log_history if "loss" in entry]
    out.put(
        (
            arm,
            {"steps": taken, "phases": clock.steps, "losses": log, "operations": operations(model, section)},
        )
    )


def bare(run: Path, work: Path, section: PretrainSection, seed: int, watched: Callable[[Any], Any]) -> None:
    """Train with unsloth's trainer and its arguments alone."""
    from transformers import PrinterCallback

    from fastvocab.model import backend, checkpoint
    from fastvocab.train import blocks
    from fastvocab.train.budget import batch_size

    package = backend.unsloth()
    model, tokenizer = checkpoint.load(
        run / "30-extend", trainable=True, lora=section.lora.model_dump(), embeddings="full", block=section.block,
        seed=seed,
    )  # fmt: skip
    batch = batch_size(section)
    data = blocks.prepare(
        run / "10-corpus", tokenizer, block=section.block, replay_share=section.replay,
        needed=(section.steps or 0) * batch * section.accumulate, work=work,
    )  # fmt: skip

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        given = data.collate(rows)
        given.pop("new_language")
        return given

    arguments = package.UnslothTrainingArguments(
        output_dir=str(work), per_device_train_batch_size=batch, gradient_accumulation_steps=section.accumulate,
        max_steps=section.steps, learning_rate=section.learning_rate,
        embedding_learning_rate=section.embedding_learning_rate, optim="adamw_torch_fused", bf16=True,
        lr_scheduler_type="cosine", logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, seed=seed,
        data_seed=seed, remove_unused_columns=False, dataset_kwargs={"skip_prepare_dataset": True}, max_length=None,
    )  # fmt: skip
    trainer = package.UnslothTrainer(
        model=model,
        args=arguments,
        train_dataset=data.dataset,
        processing_class=tokenizer,
        data_collator=collate,
    )
    trainer.remove_callback(PrinterCallback)  # standard output is the table's
    watched(trainer).train()


def operations(model: Any, section: PretrainSection) -> int:
    """Multiplications and additions of a step's matrix products.

    Two for each weight forward, two for its input's gradient, and two for its own where it trains.
    """
    from fastvocab.model import load
    from fastvocab.train.budget import batch_size

    body = [p for name, p in model.named_parameters() if "embed_tokens" not in name and "lm_head" not in name]
    through = sum((6 if p.requires_grad else 4) * p.numel() for p in body if p.dim() == 2)
    head, rows = load.live(model.get_output_embeddings()), load.trained_rows(model)
    trained = head.numel() if head.requires_grad else next((r.numel() for r in rows.values()), 0)
    through += 4 * head.numel() + 2 * trained
    return through * batch_size(section) * section.accumulate * section.block


def peak() -> float:
    """Operations a second of a bare product."""
    from fastvocab.model import speed

    return speed.matmul_flops()


def row(arm: str, found: dict[str, Any], most: float) -> dict[str, str]:
    """An arm as cells of the table."""
    own, plain = found[arm], found["bare"]
    seconds = [end - began for began, end in own["steps"]]
    ratios = [mine / (end - began) for mine, (began, end) in zip(seconds, plain["steps"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    shares = {phase: sum(step[phase] for step in own["phases"]) / sum(seconds) for phase in PHASES}
    shares["other"] = 1 - sum(shares.values())
    step = statistics.median(seconds)
    return {
        "arm": arm,
        "step s": f"{step:.3f}",
        "of bare": f"{middle:.3f} ({low:.3f}–{high:.3f})",
        **{phase: f"{share:.1%}" for phase, share in shares.items()},
        "GFLOP/s": f"{own['operations'] / step / 1e9:.0f}",
        "of peak": f"{own['operations'] / step / most:.0%}",
        "first loss": f"{own['losses'][0]:.4f}",
    }


def main() -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run that is pretrained")
    parser.add_argument(
        "--steps", type=int, default=30, help=f"of each arm, after {WARMUP} more (default 30)"
    )
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    options, started = parser.parse_args(), time.perf_counter()
    if not (options.run / "40-pretrain" / "stage.json").is_file():
        sys.exit(f"{options.run}: no pretrained run (there is no 40-pretrain/stage.json)")
    if options.steps < 2:
        sys.exit(f"--steps {options.steps}: quartiles need two")
    names = list(dict.fromkeys(["bare", *options.arms]))
    progress(f"{', '.join(names)}: {options.steps} steps each")
    with tempfile.TemporaryDirectory(prefix="fastvocab-") as folder:
        work = {
            name: (train, (name, options.run.resolve(), Path(folder) / name.replace(" ", "-")))
            for name in names
        }
        found = bench_turns.run(work, options.steps)
    most = alone(peak)
    for own in found.values():
        for part in ("steps", "phases"):
            own[part] = own[part][WARMUP : WARMUP + options.steps]
    print(markdown([row(name, found, most) for name in names]), end="\n\n")
    print(f"peak {most / 1e9:.0f} GFLOP/s of bfloat16; {json.dumps(machine(started))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
