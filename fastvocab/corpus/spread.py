"""How the corpus stage's work is dealt out: by the stage's own process, or by an executor of datatrove."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from fastvocab import console
from fastvocab.corpus.minhash import require_extra
from fastvocab.corpus.shards import Shard, Work
from fastvocab.errors import ConfigError, DependencyError, ResourceError

#: Who runs the tasks; "builtin" is no executor, the stage's own process does all.
Executor = Literal["builtin", "local", "slurm", "ray"]

#: Tasks where their number is not said: one for each source, but no more than Slurm takes in one array.
MOST_TASKS = 1000


@dataclass(frozen=True)
class Spread:
    """How the work is dealt out; nothing here changes the result.

    Attributes:
        executor: who runs the tasks.
        tasks: parts that the sources are dealt into; None for one each, up to `MOST_TASKS`.
        workers: tasks at the same time; None for as many as there are cores (local), else for no limit.
        memory_gb: memory of a task, for Slurm and Ray.
        slurm: ``partition``, ``time``, ``qos``, ``account``.
    """

    executor: Executor = "builtin"
    tasks: int | None = None
    workers: int | None = None
    memory_gb: int = 4
    slurm: Mapping[str, Any] | None = None

    def check(self) -> None:
        """Refuse an executor that is not here, before anything is read.

        Raises:
            ConfigError: Slurm without a partition.
            DependencyError: datatrove or Ray is not installed.
            ResourceError: there is no Slurm on this machine.
        """
        if self.executor == "builtin":
            return
        require_extra(f"corpus.executor={self.executor}")
        if self.executor == "ray" and find_spec("ray") is None:
            raise DependencyError(
                "corpus.executor=ray needs ray, which is not installed", fix="pip install ray"
            )
        if self.executor == "slurm":
            if not (self.slurm or {}).get("partition"):
                raise ConfigError(
                    "corpus.slurm.partition is missing", fix="corpus.slurm.partition=NAME (sinfo lists them)"
                )
            if shutil.which("sbatch") is None:
                raise ResourceError(
                    "corpus.executor=slurm needs sbatch, which is not on this machine",
                    fix="run it where jobs are submitted, or choose corpus.executor=local",
                )

    def run(self, shards: Sequence[Shard], folder: Path) -> None:
        """Make the shards, and wait for them.

        Args:
            folder: for logs; where tasks run on other machines, on a disk that they share with this one.

        Raises:
            ResourceError: some could not be made.
        """
        missing = [shard for shard in dict.fromkeys(shards) if not shard.path.exists()]
        for shard in missing:
            shard.failed.unlink(missing_ok=True)
        if not missing:
            return
        tasks = min(self.tasks or MOST_TASKS, len(missing))
        if self.tasks and tasks < self.tasks:
            console.say(f"corpus: {tasks} tasks instead of {self.tasks}, a source is read by one")
        logs = folder / f"logs-{uuid.uuid4().hex[:8]}"
        console.say(f"corpus: {len(missing)} sources in {tasks} tasks ({self.executor}), logs in {logs}")
        self._run(Work(missing), tasks, logs)
        lost = [shard.source.name for shard in missing if not (shard.path.exists() or shard.failed.exists())]
        if lost:
            raise ResourceError(
                f"{len(lost)} of {len(missing)} sources were not read to the end: {lost[0]}",
                fix=f"see why in {logs}, and run the same command again: what is done is kept",
            )

    def _run(self, work: Work, tasks: int, logs: Path) -> None:
        from loguru import logger

        from fastvocab.corpus.executors import executor

        logger.disable("datatrove")  # it reports on the screen; each task has a log of its own
        try:
            executor(self, work, tasks, logs).run()
        except subprocess.CalledProcessError as error:  # sbatch, whose words are on the screen
            raise ResourceError(
                f"corpus.executor={self.executor}: {Path(error.cmd[0]).name} ended with {error.returncode}",
                fix=f"see why in {logs}, and run the same command again: what is done is kept",
            ) from error
        finally:
            logger.enable("datatrove")
