"""Trackers get what log.jsonl has, on this machine, and go on where a training goes on."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastvocab.config import load
from fastvocab.errors import ConfigError, DependencyError
from fastvocab.plan import trackers as needed
from fastvocab.train import tracker_kinds, trackers
from fastvocab.train.trackers import Tracking
from tests.train.conftest import COMMON, Material

#: The development group has the first two; the others take 60 MB each.
INSTALLED = tuple(name for name in ("tensorboard", "trackio", "wandb", "mlflow") if find_spec(name))
SECRET = "a-secret-of-24-characters"


@dataclass
class Followed:
    run: Path
    log: list[dict[str, Any]]

    def column(self, name: str) -> dict[int, float]:
        return {entry["step"]: entry[name] for entry in self.log if entry.get(name) is not None}


def follow(
    material: Material, run: Path, *settings: str, key: str = "k", track: tuple[str, ...] = INSTALLED
) -> Followed:
    """The pretrain stage of a run folder, as a recipe calls it."""
    from fastvocab.train.pretrain import pretrain

    section = load(None, [f"pretrain.{setting}" for setting in (*COMMON, *settings)]).pretrain
    folder = run / f"40-pretrain.{len(list(run.glob('40-*')))}"
    folder.mkdir(parents=True)
    pretrain(
        folder, previous=material.extend["tied"], corpus=material.corpus, section=section, key=key,
        saves_folder=run / ".saves" / "pretrain", seed=3, track=Tracking(track, run),
    )  # fmt: skip
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return Followed(run, [json.loads(line) for line in lines])


@pytest.fixture(scope="module")
def runs(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Followed, Followed]]:
    """A training of six steps with a save after the fourth, and one that goes on from that save."""
    run = tmp_path_factory.mktemp("tracked") / "моя мова"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "TRACKIO_DIR", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        patch.setenv("HF_TOKEN", SECRET)
        steps = ("steps=6", "save_steps=4", "evaluations=1", "evaluation_share=1")
        yield follow(material, run, *steps), follow(material, run, *steps)


def curves(folder: Path) -> dict[str, dict[int, list[float]]]:
    """All that TensorBoard reads of a folder: tag, step, values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    found: dict[str, dict[int, list[float]]] = {}
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            found.setdefault(tag, {}).setdefault(event.step, []).append(event.value)
    return found


def test_tensorboard_reads_what_the_log_has(runs: tuple[Followed, Followed]) -> None:
    found = curves(runs[0].run / "track" / "tensorboard" / "pretrain")
    assert runs[1].log[0]["step"] == 1, "the log of a training that went on is whole"
    for name in (
        "loss",
        "learning_rate",
        "grad_norm",
        "target_bits_per_byte",
        "original_bits_per_byte",
    ):
        wanted = runs[1].column(name)
        assert wanted, name
        # a step each once: those after the save, logged twice, are those of the training that went on
        assert found[name] == {step: pytest.approx([value]) for step, value in wanted.items()}, name
    assert not {"train_runtime", "epoch", "total_flos", "num_tokens"} & found.keys()


def test_trackio_goes_on_in_the_run_of_before(runs: tuple[Followed, Followed]) -> None:
    (database,) = (runs[0].run / "track" / "trackio").glob("*.db")
    with sqlite3.connect(database) as store:
        rows = store.execute("select run_id, run_name, step, metrics from metrics order by id").fetchall()
        told = store.execute("select run_name, config from configs").fetchall()
    assert {(identity, name) for identity, name, *_ in rows} == {(rows[0][0], "pretrain")}
    found = {step: json.loads(values)["loss"] for *_, step, values in rows if b"loss" in bytes(values)}
    assert found == pytest.approx(runs[1].column("loss"))
    assert told[0][0] == "pretrain" and json.loads(told[0][1])["lora.r"] == 4


@pytest.mark.skipif("mlflow" not in INSTALLED, reason="not in the development group: 70 MB")
def test_mlflow_has_one_run_of_both_trainings(runs: tuple[Followed, Followed]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{runs[0].run / 'track' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("моя мова")
    assert experiment is not None
    (one,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(one.info.run_id, "loss")
    assert {point.step: point.value for point in history} == pytest.approx(runs[1].column("loss"))
    assert one.info.run_name == "pretrain" and one.info.status == "FINISHED"
    assert one.data.params["lora.r"] == "4" and not [
        v for v in one.data.params.values() if str(runs[0].run) in v
    ]


@pytest.mark.skipif("wandb" not in INSTALLED, reason="not in the development group: 60 MB")
def test_wandb_is_offline_in_the_run_folder(runs: tuple[Followed, Followed]) -> None:
    folders = sorted((runs[0].run / "track" / "wandb").glob("offline-run-*"))
    assert len(folders) == 2 and len({folder.name.rsplit("-", 1)[1] for folder in folders}) == 1
    (written,) = folders[0].glob("*.wandb")
    assert b"new_rows_learning_rate" in written.read_bytes() and b"lora.r" in written.read_bytes()
    assert not list(folders[0].rglob("wandb-metadata.json")) and not list(
        folders[0].rglob("requirements.txt")
    )


def test_neither_a_secret_nor_a_path_of_this_machine_is_told(runs: tuple[Followed, Followed]) -> None:
    track = runs[0].run / "track"
    told = [
        p for p in track.rglob("*") if p.is_file() and ("events" in p.name or p.suffix in (".db", ".wandb"))
    ]
    assert len(told) >= 2
    for file in told:
        data = file.read_bytes()
        assert SECRET.encode() not in data, file
        if file.name != "mlflow.db":  # which says where artifacts would lie
            assert str(runs[0].run.parent).encode() not in data, file


def test_settings_are_flat_and_have_no_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", SECRET)
    section = load(
        None,
        ["instruct.train=[/home/someone/private/*.txt, data/chat.jsonl, hf:org/name, '~/c.jsonl', 'C:\\\\me\\\\d.csv']",
         f"instruct.columns.instruction={SECRET}"],
    ).instruct  # fmt: skip
    job: Any = SimpleNamespace(
        stage="instruct", seed=3, section=section, data=SimpleNamespace(dataset=[1, 2])
    )
    told = trackers.settings(job)
    assert told["train"] == "*.txt, data/chat.jsonl, hf:org/name, c.jsonl, d.csv"
    assert told["columns.instruction"] == "***" and told["rows"] == 2 and "torch" in str(list(told))
    assert all(isinstance(value, str | int | float | bool) for value in told.values())


def test_other_settings_are_another_run_of_the_tracker(material: Material, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for key in ("k", "other"):
        follow(material, run, "steps=1", key=key, track=("tensorboard",))
    made = run / "track" / "tensorboard"
    assert sorted(p.name for p in made.iterdir()) == ["pretrain", "pretrain-2"]
    assert all(list(curves(p)["loss"]) == [1] for p in made.iterdir())


def test_a_tracker_that_cannot_begin_is_said_before_the_first_step(
    material: Material, tmp_path: Path
) -> None:
    (tmp_path / "run" / "track").mkdir(parents=True)
    (tmp_path / "run" / "track" / "tensorboard").write_text("a file where a folder goes")
    with pytest.raises(ConfigError, match="track: tensorboard could not begin"):
        follow(material, tmp_path / "run", "steps=1", track=("tensorboard",))
    assert not list(tmp_path.rglob("log.jsonl"))


def test_a_tracker_that_fails_on_the_way_does_not_end_the_training(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(tracker_kinds.KINDS["tensorboard"]):  # type: ignore[misc,name-defined]
        def log(self, values: dict[str, float], step: int) -> None:
            if step == 2:
                raise OSError(28, "No space left on device")
            super().log(values, step)

    monkeypatch.setitem(tracker_kinds.KINDS, "tensorboard", Failing)
    done = follow(material, tmp_path / "run", "steps=3", track=("tensorboard",))
    assert list(done.column("loss")) == [1, 2, 3]
    assert "tensorboard failed, and training goes on without it" in capsys.readouterr().err
    assert list(curves(tmp_path / "run" / "track" / "tensorboard" / "pretrain")["loss"]) == [1]


def test_what_is_missing_is_named_for_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needed.check(["tensorboard", "trackio"])
    monkeypatch.setattr(needed, "find_spec", lambda name: None if name != "mlflow" else find_spec("json"))
    with pytest.raises(DependencyError) as said:
        needed.check(["wandb", "mlflow"])
    assert "wandb is not installed; sqlalchemy, alembic is not installed for track=mlflow" in str(said.value)
    assert "pip install wandb sqlalchemy alembic (" in str(said.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://example.org")
    needed.check(["mlflow"])


def test_a_folder_that_wandb_left_here_is_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "left_by_a_tracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert find_spec("left_by_a_tracker") is not None and not needed._is_installed("left_by_a_tracker")
