"""Are the packages of the trackers there (`track`)? Asked before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec

from fastvocab.errors import DependencyError

#: What each is imported as, and what pip calls it: MLflow's store in the run folder is a database.
_NEEDED = {
    "tensorboard": {"tensorboard": "tensorboard"},
    "trackio": {"trackio": "trackio"},
    "wandb": {"wandb": "wandb"},
    "mlflow": {"mlflow": "mlflow-skinny", "sqlalchemy": "sqlalchemy", "alembic": "alembic"},
}


def check(trackers: Sequence[str]) -> None:
    """Raise for those that cannot work.

    Raises:
        DependencyError: naming what pip has to install.
    """
    said, packages = [], []
    for name in trackers:
        needed = dict(_NEEDED[name])
        if name == "mlflow" and os.environ.get("MLFLOW_TRACKING_URI"):
            needed = {"mlflow": needed["mlflow"]}  # the database is the server's
        if absent := [module for module in needed if not _is_installed(module)]:
            own = [name] if name in absent else []
            lacking = "" if own else f" for track={name}"
            said.append(f"{', '.join(own or absent)} is not installed{lacking}")
            packages += [needed[module] for module in absent]
    if said:
        raise DependencyError(
            f"track: {'; '.join(said)}",
            fix=f"pip install {' '.join(packages)} (all trackers: pip install 'fastvocab[track]')",
        )


def _is_installed(module: str) -> bool:
    """Can it be imported? Folders that a tracker has left in the working directory, such as wandb/, are no module."""
    found = find_spec(module)
    return found is not None and found.origin is not None
