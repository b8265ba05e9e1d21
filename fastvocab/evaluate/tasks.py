"""Tasks of the lm-evaluation-harness, for those who can download them (extra: lm-eval).

The model is opened as what an export hands out, a plain Hugging Face folder, in a process of its own that knows
nothing of unsloth: what is measured is what others will measure.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastvocab import console
from fastvocab.errors import DataError, DependencyError
from fastvocab.model import backend, checkpoint
from fastvocab.model.reference import Base


def check(names: Sequence[str]) -> None:
    """Find out before any work whether the tasks can be run.

    Raises:
        DependencyError: lm-eval is not installed.
        DataError: a task given as a file is not there.
    """
    if names and find_spec("lm_eval") is None:
        raise DependencyError(
            f"evaluate.tasks: {', '.join(names)} need lm-eval, which is not installed",
            fix="pip install 'fastvocab[lm-eval]'",
        )
    if missing := [name for name in names if name.endswith(".yaml") and not Path(name).is_file()]:
        raise DataError(f"evaluate.tasks: there is no file {', '.join(missing)}")


def measure(names: Sequence[str], base: Base, points: dict[str, Path], *, seed: int) -> dict[str, Any]:
    """Run the tasks on the base and on each checkpoint.

    Args:
        names: of lm-eval's tasks, groups or tags, or YAML files of one's own.
        points: checkpoint folders by stage.

    Returns:
        By point (``base`` first): by task the metrics, and the standard error of each as ``METRIC_stderr``.

    Raises:
        DataError: unknown tasks, or text that cannot be downloaded.
    """
    found = {}
    for name, path in {"base": base.checkpoint, **points}.items():
        console.say(f"  {name}: lm-eval, {', '.join(names)}")
        with TemporaryDirectory(prefix="fastvocab-") as work:
            folder, tokenizer = base.folder, base.tokenizer_folder
            if path is not None:
                folder = tokenizer = Path(work) / "model"
                checkpoint.merge(path, folder)
            found[name] = _in_a_process(folder, tokenizer, names, Path(work), seed)
    return found


def _in_a_process(folder: Path, tokenizer: Path, names: Sequence[str], work: Path, seed: int) -> Any:
    question, answer = work / "question.json", work / "answer.json"
    asked = {"model": str(folder), "tokenizer": str(tokenizer), "tasks": list(names), "seed": seed}
    asked |= {"device": backend.device(), "answer": str(answer)}
    question.write_text(json.dumps(asked), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(question)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode or not answer.is_file():
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["no message"]
        raise DataError(
            f"evaluate.tasks: lm-eval stopped ({done.returncode}): {last[0]}",
            rule="tasks download their text from the Hugging Face Hub, unless they are files of your own",
            fix="check the names with 'lm-eval ls tasks' and the connection, or leave evaluate.tasks out",
        )
    return json.loads(answer.read_text(encoding="utf-8"))


def _main(question: Path) -> None:
    """What runs in the process: lm-eval on a plain folder."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    asked = json.loads(question.read_text(encoding="utf-8"))
    manager = TaskManager()
    unknown = [n for n in asked["tasks"] if not n.endswith(".yaml") and not manager.match_tasks([n])]
    if unknown:
        near = {n: get_close_matches(n, manager.all_tasks, 2) for n in unknown}
        hints = ", ".join(f"{n} (near: {' or '.join(c)})" if c else n for n, c in near.items())
        raise SystemExit(f"it has no task {hints}")
    on_gpu = asked["device"] != "cpu"
    results = simple_evaluate(
        model="hf",
        model_args={"pretrained": asked["model"], "tokenizer": asked["tokenizer"], "dtype": "auto"},
        tasks=asked["tasks"],
        task_manager=manager,
        device=asked["device"],
        batch_size="auto" if on_gpu else 4,
        log_samples=False,
        random_seed=asked["seed"],
        numpy_random_seed=asked["seed"],
        torch_random_seed=asked["seed"],
        fewshot_random_seed=asked["seed"],
    )
    Path(asked["answer"]).write_text(json.dumps(_plain(results["results"])), encoding="utf-8")


def _plain(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """lm-eval's ``{task: {"acc,none": 0.5, "acc_stderr,none": ...}}`` as ``acc`` and ``acc_stderr``; a filter that
    is not ``none`` stays in the name, numbers alone are kept.
    """
    out: dict[str, dict[str, float]] = {}
    for task, metrics in results.items():
        out[task] = {}
        for name, value in metrics.items():
            metric, comma, kind = name.partition(",")
            if comma and isinstance(value, (int, float)) and not isinstance(value, bool):
                error = "_stderr" if metric.endswith("_stderr") else ""
                shown = metric.removesuffix("_stderr") + ("" if kind == "none" else f" ({kind})")
                out[task][shown + error] = float(value)
    return out


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
