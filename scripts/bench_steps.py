"""What a step of training costs with new tokens, without them and the plain way, taken in turns.

    uv run python scripts/bench_steps.py runs/NAME                         (a finished run; 40 steps of each)

``evaluate.control`` trains its arms one after another, minutes each: on a machine that others use too, speed drifts
by more in that time than what is to be told apart. Here each arm is a process of its own that trains as it does there
(`fastvocab.train.pretrain`, from the run's checkpoint 0, its corpus and its settings), and only one of them works at
any time: a step of one, the same step of the next. Evaluations on the way are left out.

Columns: step s, the median; tokens/s / control's, the median over the steps' pairs, with their quartiles.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bench_turns
from bench_harness import machine, markdown, progress
from bench_turns import WARMUP, Step

from fastvocab import files
from fastvocab.config.models import PretrainSection
from fastvocab.control.compare import EXTENDED
from fastvocab.outcome import ARMS

#: The same for all: threads that spin while they wait, as training alone has them, would take another arm's cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

#: No arm comes to the end of its clock: steps are counted.
_DAY = 24 * 60 * 60.0


def train(name: str, run: Path, work: Path, steps: int, mine: Any, following: Any, out: Any) -> None:
    """Train the arm ``name`` of ``run``, in this process; (name, its steps) goes to ``out``."""
    from fastvocab.control import arms
    from fastvocab.model import manifest, reference
    from fastvocab.train import trainer
    from fastvocab.train.pretrain import pretrain

    taken: list[Step] = []
    build = trainer.build

    def with_turns(*args: Any) -> Any:
        run = build(*args)
        run.add_callback(bench_turns.callback(mine, following, steps, taken))
        return run

    trainer.build = with_turns
    record = files.read_json(run / "40-pretrain" / "stage.json")
    settings = {key: value for key, value in record["config"].items() if key in PretrainSection.model_fields}
    own = PretrainSection(**settings).model_copy(
        update={"minutes": _DAY / 60, "steps": None, "tokens": None, "evaluations": 0, "patience": None}
    )
    corpus, start = run / "10-corpus", run / "30-extend"
    if name == EXTENDED:
        done = work / "done"
        done.mkdir(parents=True)
        pretrain(done, previous=start, corpus=corpus, section=own, key="bench", saves_folder=work / "steps",
                 seed=record["seed"])  # fmt: skip
    else:
        base = manifest.read(start)["base"]
        arms.train(name, base=reference.recorded(base), tokenizer=run / "20-tokenizer", corpus=corpus,
                   section=own, seconds=_DAY, watched_bytes=None, key="bench", saves=work,
                   seed=record["seed"], load_in_4bit=manifest.read(start)["load_in_4bit"])  # fmt: skip
    out.put((name, taken))


def measure(run: Path, names: list[str], steps: int) -> dict[str, list[Step]]:
    """``steps`` steps of each arm."""
    with tempfile.TemporaryDirectory(prefix="fastvocab-") as folder:
        work = {name: (train, (name, run, Path(folder) / name)) for name in names}
        found = bench_turns.run(work, steps)
    return {name: taken[WARMUP : WARMUP + steps] for name, taken in found.items()}


def row(name: str, found: dict[str, list[float]]) -> dict[str, str]:
    """An arm as cells of the table."""
    ratios = [theirs / ours for ours, theirs in zip(found[name], found["control"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "arm": ARMS[name],
        "step s": f"{statistics.median(found[name]):.3f}",
        "tokens/s / control's": f"{middle:.2f} ({low:.2f}–{high:.2f})",
    }


def main() -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run that is pretrained")
    parser.add_argument(
        "--steps", type=int, default=40, help=f"of each arm, after {WARMUP} more (default 40)"
    )
    parser.add_argument("--arms", nargs="+", default=[EXTENDED, "control"], choices=list(ARMS))
    parser.add_argument("--json", action="store_true", help="begin and end of every step as JSON")
    options, started = parser.parse_args(), time.perf_counter()
    if not (options.run / "40-pretrain" / "stage.json").is_file():
        sys.exit(f"{options.run}: no pretrained run (there is no 40-pretrain/stage.json)")
    if options.steps < 2:
        sys.exit(f"--steps {options.steps}: quartiles need two")
    names = list(dict.fromkeys([*options.arms, "control"]))
    progress(f"{', '.join(names)}: {options.steps} steps each")
    found = measure(options.run.resolve(), names, options.steps)
    seconds = {name: [end - began for began, end in taken] for name, taken in found.items()}
    facts = machine(started)
    if options.json:
        print(json.dumps({"machine": facts, "steps": found}, indent=1))
        return 0
    print(markdown([row(name, seconds) for name in names]), end="\n\n")
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
