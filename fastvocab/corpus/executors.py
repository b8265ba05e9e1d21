"""datatrove's executors as the corpus stage uses them. Imports datatrove: only `spread` does so, where it is wanted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.utils.stats import PipelineStats
from loguru import logger

from fastvocab.corpus.shards import Work
from fastvocab.corpus.spread import Spread


class Local(LocalPipelineExecutor):
    """Tasks on this machine, which report to their log files alone."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> PipelineStats:
        logger.disable("datatrove.executor.local")  # it counts tasks on the screen
        return super()._run_for_rank(rank, 1, node_rank)  # 0 would report on the screen


class Slurm(SlurmPipelineExecutor):
    """Tasks as a job array, without the job after it that would add up datatrove's own statistics."""

    def launch_merge_stats(self) -> None:
        """Do nothing: the stage has its figures from the shards."""


def executor(spread: Spread, work: Work, tasks: int, logs: Path) -> PipelineExecutor:
    """The executor that ``spread`` names, ready to `run`, which returns when the tasks have ended.

    datatrove's own marks of completion are not used: they count tasks, whatever these were to do.

    Args:
        logs: a new folder, for logs and, with Slurm, for the pickled pipeline; tasks must see it.
    """
    given: dict[str, Any] = {
        "pipeline": [work],
        "tasks": tasks,
        "logging_dir": str(logs.absolute()),
        "skip_completed": False,
    }
    if spread.executor == "local":
        workers = min(tasks, spread.workers or os.cpu_count() or 1)
        # a fork of this process would have its threads and, in a notebook, its torch
        return Local(workers=workers, start_method="spawn", **given)
    given |= {"workers": spread.workers or -1, "mem_per_cpu_gb": spread.memory_gb}
    if spread.executor == "ray":
        return RayPipelineExecutor(**given)
    assert spread.executor == "slurm" and spread.slurm
    account = spread.slurm.get("account")
    return Slurm(
        **given,
        time=spread.slurm["time"],
        partition=spread.slurm["partition"],
        qos=spread.slurm.get("qos"),
        job_name="fastvocab-corpus",
        # sbatch then ends with the job, and with its exit code
        sbatch_args={"wait": ""} | ({"account": account} if account else {}),
    )
