"""What each tracker is asked to do, by its own interface (`fastvocab.train.trackers` says when)."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fastvocab import console

#: MLflow is given what has come together in so many seconds: a row for each step costs a commit, or a request.
_TOGETHER = 2.0


class Tracker(Protocol):
    """One tracker's run of one stage."""

    #: how to look at it
    look: str
    #: what it raises where it cannot go on
    errors: tuple[type[Exception], ...]

    def log(self, values: dict[str, float], step: int) -> None:
        """Take what was logged at a step."""

    def close(self) -> None:
        """Finish; everything is written."""


@dataclass(frozen=True)
class Stage:
    """What a tracker is told of the training that it is to follow.

    Attributes:
        project: name of the run.
        name: name of the stage, with a number where it was trained before with other settings.
        id: made up when this training was first seen, the same when it is gone on with.
        again: was it seen before?
        first: the step that comes next.
        settings: flat, without secrets and without paths of this machine.
        folder: of all trackers, absolute.
    """

    project: str
    name: str
    id: str
    again: bool
    first: int
    settings: dict[str, Any]
    folder: Path


class _TensorBoard:
    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, stage: Stage) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = stage.folder / "tensorboard"
        self.look = f"tensorboard --logdir {_shown(folder)}"
        self._writer = SummaryWriter(
            str(folder / stage.name), purge_step=stage.first if stage.again else None
        )
        if not stage.again:
            told = json.dumps(stage.settings, indent=2, ensure_ascii=False)
            self._writer.add_text("settings", told.replace("\n", "  \n"))

    def log(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, stage: Stage) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # no call home about crashes
        import wandb

        self.errors: tuple[type[Exception], ...] = (wandb.Error, OSError)
        # a login that lies on this machine is no wish to send this run anywhere
        online = "WANDB_API_KEY" in os.environ
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or re.sub(r"[/\\#?%:]", "-", stage.project)[:128],
            name=stage.name,
            id=f"{stage.name}-{stage.id}",
            resume="allow",
            dir=os.environ.get("WANDB_DIR") or str(stage.folder),
            mode=os.environ.get("WANDB_MODE") or ("online" if online else "offline"),
            config=stage.settings,
            # neither the machine's name and paths, nor its code, requirements and what is printed
            settings=wandb.Settings(
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_disable_stats=True,
                x_save_requirements=False,
                disable_git=True,
                disable_code=True,
                console="off",
                silent=True,
            ),
        )
        offline = f"wandb sync {_shown(Path(self._run.dir).parent)}"
        self.look = self._run.url or f"{offline} (sends it; until then wandb is offline)"

    def log(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    def __init__(self, stage: Stage) -> None:
        import sqlite3

        self.errors: tuple[type[Exception], ...] = (OSError, ValueError, sqlite3.Error)
        folder = stage.folder / "trackio"
        if _is_ours(os.environ.get("TRACKIO_DIR")):
            os.environ["TRACKIO_DIR"] = str(folder)
            _OURS.add(str(folder))
        import trackio
        from trackio import utils

        # read by trackio when it is imported, and never again
        if (place := Path(utils.TRACKIO_DIR)) != folder and str(place) in _OURS:
            console.warn(
                f"trackio keeps to the folder that it first wrote to in this program: {_shown(place)}"
            )
        self._run = trackio.init(
            project=stage.project, name=stage.name, resume="allow" if stage.again else "never",
            config=stage.settings, embed=False, auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip
        self._finish = (
            trackio.finish
        )  # and not the run's own: at the end of the program it would be finished again
        self.look = f"TRACKIO_DIR={_shown(place)} trackio show --project {shlex.quote(stage.project)}"

    def log(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)

    def close(self) -> None:
        self._finish()


#: Folders that trackio was given here, not by a person.
_OURS: set[str] = set()


def _is_ours(folder: str | None) -> bool:
    return folder is None or folder in _OURS


class _Mlflow:
    def __init__(self, stage: Stage) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        self.errors: tuple[type[Exception], ...] = (MlflowException, OSError)
        database = stage.folder / "mlflow.db"
        store = f"sqlite:///{database}"
        uri = os.environ.get("MLFLOW_TRACKING_URI") or store
        project = os.environ.get("MLFLOW_EXPERIMENT_NAME") or stage.project
        self._client = MlflowClient(tracking_uri=uri)
        experiment = self._client.get_experiment_by_name(project)
        place = (stage.folder / "mlflow-artifacts").as_uri() if uri == store else None
        number = experiment.experiment_id if experiment else self._client.create_experiment(project, place)
        query = f"tags.`fastvocab.id` = '{stage.id}'"
        if found := self._client.search_runs([number], query, max_results=1):
            self._id = found[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
        else:
            made = self._client.create_run(number, run_name=stage.name, tags={"fastvocab.id": stage.id})
            self._id = made.info.run_id
            told = [Param(name, str(value)[:500]) for name, value in stage.settings.items()]
            for start in range(0, len(told), 100):
                self._client.log_batch(self._id, params=told[start : start + 100])
        shown = _shown(database, "sqlite:///") if uri == store else re.sub(r"//[^/@]*@", "//", uri)
        self.look = f"mlflow ui --backend-store-uri {shown}"
        self._waiting: list[Any] = []
        self._sent = time.monotonic()

    def log(self, values: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting += [Metric(name, value, now, step) for name, value in values.items()]
        if time.monotonic() - self._sent >= _TOGETHER or len(self._waiting) > 900:
            self._send()

    def _send(self) -> None:
        for start in range(0, len(self._waiting), 1000):  # as many as MLflow takes at once
            self._client.log_batch(self._id, metrics=self._waiting[start : start + 1000])
        self._waiting, self._sent = [], time.monotonic()

    def close(self) -> None:
        self._send()
        self._client.set_terminated(self._id, "FAILED" if sys.exc_info()[0] else "FINISHED")


KINDS: dict[str, Callable[[Stage], Tracker]] = {
    "tensorboard": _TensorBoard,
    "trackio": _Trackio,
    "wandb": _Wandb,
    "mlflow": _Mlflow,
}


def _shown(path: Path, scheme: str = "") -> str:
    """A path as one would type it here."""
    text = str(path)
    return shlex.quote(scheme + (os.path.relpath(text) if path.is_relative_to(Path.cwd()) else text))
