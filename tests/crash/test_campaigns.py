"""A sample of the campaigns, and the other ways to stop: forked processes, really killed, compared bit by bit."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork and /proc")


@pytest.fixture(scope="module")
def scripts() -> Iterator[tuple[Any, Any]]:
    """(kill_campaign, damage_campaign), the libraries imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        patch.setenv("FASTVOCAB_CACHE", "")  # the scripts set it: to be put back
        kills = importlib.import_module("kill_campaign")
        kills.warm()
        yield kills, importlib.import_module("damage_campaign")


@pytest.fixture(scope="module")
def material(scripts: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripts[0].prepare(tmp_path_factory.mktemp("campaign"))


@pytest.fixture(scope="module")
def untouched(
    scripts: tuple[Any, Any], material: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Digest of the run that nobody stops."""
    kills, damage = scripts
    return kills.untouched(damage.CASE, material, tmp_path_factory.mktemp("untouched") / "work")[0]


def test_killed_runs_lose_no_save_and_end_with_the_same_tensors(
    scripts: tuple[Any, Any], material: Path, tmp_path: Path
) -> None:
    kills, _ = scripts
    cases = ["pretrain full", "instruct frozen", "pretrain new_rows"]
    trials = kills.campaign(8, 3, tmp_path, cases=cases, material=material)
    assert sum(trial.kills for trial in trials) == 8
    assert {trial.where for trial in trials} == {"a save", "the end", "any time"}
    assert max(trial.resumed for trial in trials) > 5  # a step of a later epoch
    bad = {f"{t.case}, {t.before}": t.lost or t.differing for t in trials if t.lost or t.differing}
    assert not bad, kills.table(trials)


def test_damage_is_never_taken_silently_and_a_full_disk_costs_no_save(
    scripts: tuple[Any, Any], material: Path, tmp_path: Path
) -> None:
    _, damage = scripts
    rows = damage.campaign(tmp_path, full_disk=1, loads=1, material=material)
    assert sum(row.trials for row in rows) > 200
    assert not {row.what: row.failures for row in rows if row.failures}


# ---------------------------------------------------------------------------------------------- told to stop


def _signal_in(module: str, name: str, when: Callable[..., bool], *numbers: int) -> None:
    """Send this process ``numbers`` as soon as ``module.name`` is called so that ``when`` holds."""
    owner: Any = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    original, pending = getattr(owner, last), list(numbers)

    def call(*arguments: Any, **options: Any) -> Any:
        while pending and when(*arguments):
            os.kill(os.getpid(), pending.pop(0))
        return original(*arguments, **options)

    setattr(owner, last, call)


def _while_loading() -> None:
    _signal_in("fastvocab.model.checkpoint", "load", lambda *_: True, signal.SIGINT)


def _while_packing() -> None:
    _signal_in("fastvocab.train.blocks", "mix", lambda *_: True, signal.SIGTERM)


def _in_a_later_epoch() -> None:  # the rate of step 7 is asked for inside step 7
    _signal_in("fastvocab.train.loop", "Budget.rate", lambda budget, step, warmup: step == 7, signal.SIGINT)


def _twice_during_a_save() -> None:
    both = signal.SIGTERM, signal.SIGTERM
    _signal_in("torch", "save", lambda what, path: "step-00000006" in str(path), *both)


def _in_the_last_step() -> None:
    _signal_in("fastvocab.train.loop", "Budget.rate", lambda budget, step, warmup: step == 13, signal.SIGTERM)


def _after_the_last_step() -> None:  # once its end has been told to the callbacks
    _signal_in(
        "transformers", "Trainer.log", lambda trainer, *_: trainer.state.global_step == 13, signal.SIGTERM
    )


STOPS = {
    _while_loading: (130, 0, ""),
    _while_packing: (143, 0, ""),
    _in_a_later_epoch: (130, 7, "saved at step 7"),
    _twice_during_a_save: (143, 3, "stopped at once"),
    _in_the_last_step: (143, 13, "saved at step 13"),
    _after_the_last_step: (143, 13, "saved at step 13"),
}


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.__name__.strip("_"))
def test_a_run_told_to_stop_goes_on_from_its_last_good_save(
    stop: Callable[[], None],
    scripts: tuple[Any, Any],
    material: Path,
    untouched: dict[str, Any],
    tmp_path: Path,
) -> None:
    from fastvocab.recipes.common import guarded

    kills, damage = scripts
    code, step, said = STOPS[stop]

    def train() -> None:
        kills.train(damage.CASE, material, tmp_path, tmp_path / "commits")

    def stopped() -> None:
        stop()
        os._exit(guarded(train))

    assert kills.forked(stopped, tmp_path / "stopped") == code, (tmp_path / "stopped").read_text()
    text = (tmp_path / "stopped").read_text()
    assert said in text and "nothing finished is lost" in text and "Traceback" not in text
    if not step:  # it begins anew, as any run
        assert not any((tmp_path / "r").rglob("step-*")) and not any((tmp_path / "r").glob("??-*"))
        return
    if stop is _in_a_later_epoch:  # and its save is spoilt: the one before is gone on from
        _flip_a_bit(tmp_path / "r" / ".saves" / "pretrain" / "step-00000007" / "optimizer.pt")
        step = 6
    assert kills.forked(train, tmp_path / "again") == 0, (tmp_path / "again").read_text()
    again = (tmp_path / "again").read_text()
    assert f"goes on from step {step} " in again
    assert ("step-00000007 is passed over: optimizer.pt has changed" in again) == (step == 6)
    found = json.loads((tmp_path / "digest.json").read_text())
    names = {name for name in untouched.keys() | found.keys() if untouched.get(name) != found.get(name)}
    # state is looked at in the last save there is, which a stop at step 13 makes one of step 13
    assert names == ({name for name in names if name.startswith("step-")} if step == 13 else set())


def _flip_a_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
