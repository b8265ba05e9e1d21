"""Training curves in trackers (`track`): TensorBoard, trackio, wandb, MLflow, beside what log.jsonl has.

Everything stays in ``track/`` of the run folder unless the tracker's own environment variables name a server
(``WANDB_API_KEY`` or ``WANDB_MODE``, ``TRACKIO_SPACE_ID``, ``MLFLOW_TRACKING_URI``...). The project is the run, a
tracker's run is a stage, and the names and steps are those of log.jsonl. A training that goes on from a save goes on in
the tracker's run as well (``track/runs.json`` remembers which it was); steps between the save and a kill are then
logged twice, which TensorBoard purges and wandb's server drops.

transformers has callbacks for the same four (``report_to``), which are not used: they log all training arguments and
the model's configuration with this machine's paths in them, begin a resumed training anew, and wandb's goes on with
the second stage in the run of the first, where its steps are dropped as past ones (transformers 5.17).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastvocab import console, files, processes
from fastvocab.errors import ConfigError
from fastvocab.run import versions
from fastvocab.train.tracker_kinds import KINDS, Stage, Tracker

if TYPE_CHECKING:
    from fastvocab.train.trainer import Job


@dataclass(frozen=True)
class Tracking:
    """Which trackers get the curves of a run.

    Attributes:
        trackers: names, as ``track`` has them.
        run: the run folder; its name is the project's.
    """

    trackers: tuple[str, ...]
    run: Path

    @property
    def folder(self) -> Path:
        """Where all of them write."""
        return self.run / "track"


@contextmanager
def follow(job: Job, step: int, names: tuple[str, ...]) -> Iterator[Any]:
    """The callback that hands on what is logged, for the time of a training; None where nothing tracks it.

    Args:
        job: of the training.
        step: the last one that is done already, 0 at the beginning.
        names: what of an entry of the log is handed on, as far as it is a number.

    Raises:
        ConfigError: a tracker cannot begin: before the first step, not after hours.
    """
    if job.track is None or not job.track.trackers or not processes.is_main():
        yield None
        return
    stage = _stage(job, job.track, step)
    running: dict[str, Tracker] = {}
    try:
        for name in job.track.trackers:
            with console.quiet():
                running[name] = _begin(name, stage)
            console.say(f"  track: {running[name].look}")
        yield _callback(running, names)
    finally:
        for name, tracker in running.items():
            with console.quiet():
                _attempt(name, tracker, tracker.close)


def _callback(running: dict[str, Tracker], names: tuple[str, ...]) -> Any:
    from transformers import TrainerCallback

    class Follower(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if not {"loss", "due"} & logs.keys():
                return  # transformers' own summary at the end
            found = {name: logs[name] for name in names if name != "step" and name in logs}
            values = {name: float(value) for name, value in found.items() if isinstance(value, int | float)}
            for name, tracker in list(running.items()):
                if not _attempt(name, tracker, partial(tracker.log, values, state.global_step)):
                    del running[name]

    return Follower()


def _attempt(name: str, tracker: Tracker, work: Callable[[], None]) -> bool:
    """Do it; a tracker that fails is no reason to lose a training."""
    try:
        work()
    except tracker.errors as error:
        console.warn(f"track: {name} failed, and training goes on without it: {_line(error)}")
        return False
    return True


def _begin(name: str, stage: Stage) -> Tracker:
    try:
        return KINDS[name](stage)
    except Exception as error:  # of four libraries, whose classes have no root in common
        raise ConfigError(
            f"track: {name} could not begin: {_line(error)}",
            rule="trackers are tried before the first step",
            fix=f"leave {name} out of track, or mend it: without variables of its own in the environment it writes "
            f"into {stage.folder} alone",
        ) from error


def _line(error: Exception) -> str:
    return console.hide_secrets(str(error).strip().splitlines()[0] if str(error).strip() else repr(error))


def _stage(job: Job, tracking: Tracking, step: int) -> Stage:
    folder = tracking.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "runs.json"
    known = files.read_json(store) if store.is_file() else {}
    mine = known.get(job.stage)
    again = mine is not None and mine["key"] == job.key
    if not again:
        number = mine["number"] + 1 if mine else 1
        mine = {"key": job.key, "number": number, "id": secrets.token_hex(4)}
        files.write_json(store, known | {job.stage: mine})
    assert mine is not None
    name = job.stage if mine["number"] == 1 else f"{job.stage}-{mine['number']}"
    return Stage(tracking.run.absolute().name, name, mine["id"], again, step + 1, settings(job), folder)


def settings(job: Job) -> dict[str, Any]:
    """What trackers are told of a training: its section of the configuration, flat, and versions; nothing secret."""
    told = {
        "stage": job.stage,
        "seed": job.seed,
        "processes": processes.count(),
        "rows": len(job.data.dataset),
    }
    flat: dict[str, Any] = {}

    def take(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                take(f"{prefix}.{key}" if prefix else key, inner)
        elif value is not None:
            flat[prefix] = _public(value)

    take("", told | job.section.model_dump(mode="json") | {"versions": versions()})
    return flat


def _public(value: Any) -> Any:
    """A value without secrets, and of an absolute path its last part alone."""
    if isinstance(value, list):
        return ", ".join(str(_public(one)) for one in value)
    if not isinstance(value, str):
        return value
    if value.startswith(("/", "~", "\\\\")) or re.match(r"[A-Za-z]:[\\/]", value):
        value = re.split(r"[\\/]", value.rstrip("/\\"))[-1]
    return console.hide_secrets(value)
