"""Which save is gone on from, which are kept, and when one is made."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastvocab import sealed
from fastvocab.config import load
from fastvocab.errors import ResourceError, Stopped
from fastvocab.train import callbacks, loop, saves


def make(folder: Path, step: int, key: str = "k") -> Path:
    """A save with little in its files."""
    save = saves.path(folder, step)
    save.mkdir(parents=True)
    for name in saves.REQUIRED:
        (save / name).write_text(f"{name} of {step}")
    saves.commit(save, key=key, step=step, seconds=1.5)
    return save


def there(folder: Path) -> list[int]:
    return sorted(int(entry.name.removeprefix("step-")) for entry in folder.iterdir())


def taken(folder: Path, key: str = "k") -> int | None:
    found = saves.newest(folder, key)
    return found and found[1]["step"]


def test_the_highest_step_is_taken_by_number_and_not_by_name(tmp_path: Path) -> None:
    for step in (99_999_998, 99_999_999, 100_000_000, 7):
        make(tmp_path, step)
    assert taken(tmp_path) == 100_000_000
    saves.prune(tmp_path, 100_000_000, key="k", keep=2)
    assert there(tmp_path) == [99_999_999, 100_000_000]


def test_no_folder_and_no_saves_are_a_start_from_the_beginning(tmp_path: Path) -> None:
    assert saves.newest(tmp_path / "none", "k") is None and saves.newest(tmp_path, "k") is None
    (tmp_path / "step-notes").mkdir()  # somebody's own
    assert saves.newest(tmp_path, "k") is None and (tmp_path / "step-notes").is_dir()


def _link(save: Path) -> None:
    moved = save.with_name("elsewhere")
    save.rename(moved)
    save.symlink_to(moved)


def _file(save: Path) -> None:
    for entry in save.iterdir():
        entry.unlink()
    save.rmdir()
    save.write_text("not a folder")


def _renamed(save: Path) -> None:
    save.rename(saves.path(save.parent, 6))


def _listed_fewer(save: Path) -> None:
    (save / "optimizer.pt").unlink()
    facts = json.loads((save / "save.json").read_text())
    facts["files"] = [entry for entry in facts["files"] if entry["path"] != "optimizer.pt"]
    facts = sealed.seal(facts, "save_sha256")  # even by one who knows how
    (save / "save.json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_link, "step-00000005 is a link, not a folder"),
        (_file, "step-00000005 is a file, not a folder"),
        (_renamed, "says in save.json that it is of step 5"),
        (_listed_fewer, "optimizer.pt is not listed"),
        (lambda save: (save / "scaler.pt").write_text("x"), "scaler.pt is there, but not in save.json"),
        (lambda save: (save / "save.json").write_text("[]"), "save.json is no JSON object"),
        (lambda save: (save / "save.json").write_text('{"key": 3}'), "save.json: key is 3"),
        (lambda save: (save / "save.json").write_bytes(b"\xff"), "save.json is damaged"),
        (lambda save: (save / "save.json").unlink(), "save.json is not there"),
    ],
)
def test_what_is_wrong_with_a_save_is_said_and_the_one_before_is_taken(
    spoil: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, 4)
    spoil(make(tmp_path, 5))
    assert taken(tmp_path) == 4
    assert said in " ".join(capsys.readouterr().err.split())


def test_what_a_file_manager_leaves_in_a_save_does_not_spoil_it(tmp_path: Path) -> None:
    save = make(tmp_path, 5)
    for name in (".DS_Store", "desktop.ini", "._rows.safetensors"):
        (save / name).write_text("x")
    assert taken(tmp_path) == 5


def test_a_save_being_written_is_never_taken_and_is_cleared_away(tmp_path: Path) -> None:
    make(tmp_path, 4)
    make(tmp_path, 5).rename(tmp_path / ".step-00000005.new-0123abcd")
    assert taken(tmp_path) == 4 and there(tmp_path) == [4]


def test_saves_of_other_settings_stay_until_there_is_one_of_these(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, 8, key="other")
    assert taken(tmp_path) is None and "belongs to other settings" in capsys.readouterr().err
    assert taken(tmp_path, "other") == 8  # back to the settings that were meant
    make(tmp_path, 2)
    saves.prune(tmp_path, 2, key="k")
    assert there(tmp_path) == [2]


def test_a_damaged_higher_save_is_not_kept_in_place_of_a_good_one(tmp_path: Path) -> None:
    make(tmp_path, 10)
    (make(tmp_path, 20) / "optimizer.pt").write_text("spoilt")
    assert taken(tmp_path) == 10
    make(tmp_path, 12)
    saves.prune(tmp_path, 12, key="k", keep=1)
    assert there(tmp_path) == [12]


def test_the_best_save_is_never_pruned(tmp_path: Path) -> None:
    for step in range(1, 6):
        make(tmp_path, step)
        saves.prune(tmp_path, step, key="k", keep=2, best=min(step, 2))
    assert there(tmp_path) == [2, 4, 5]
    make(tmp_path, 6)
    saves.prune(tmp_path, 6, key="k", keep=1, best=6)
    assert there(tmp_path) == [6]


# ------------------------------------------------------------------------------------------------ when


class Steps:
    """The trainer as the callback sees it."""

    def __init__(self, *settings: str, steps: int = 10) -> None:
        section = load(None, [f"pretrain.{setting}" for setting in settings]).pretrain
        self.stopper = callbacks.stopper(loop.Budget(steps, None), section)
        self.step = 0

    def next(self) -> tuple[bool, bool]:
        """(saves, stops) after one more step."""
        self.step += 1
        control = SimpleNamespace(should_save=False, should_training_stop=False)
        state = SimpleNamespace(global_step=self.step)
        self.stopper.on_step_end(None, state, control)
        if control.should_save:
            self.stopper.on_save(None, state, control)
        return control.should_save, control.should_training_stop


def test_a_save_is_made_at_every_so_many_steps_but_not_after_the_last() -> None:
    steps = Steps("save_steps=3", steps=9)
    assert [steps.next()[0] for _ in range(9)] == [
        False,
        False,
        True,
        False,
        False,
        True,
        False,
        False,
        False,
    ]


def test_a_save_is_made_at_every_so_many_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    steps = Steps("save_minutes=2")
    made = []
    for _ in range(6):
        now[0] += 50
        made.append(steps.next()[0])
    assert made == [False, False, True, False, False, True]


def test_a_save_slower_than_the_interval_leaves_steps_between(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    steps = Steps("save_minutes=1")
    made = []
    for _ in range(4):
        now[0] += 40
        made.append(steps.next()[0])
        if made[-1]:
            now[0] += 300  # this long it took
            steps.stopper.on_save(None, None, None)
    assert made == [False, True, False, True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_with_a_save_and_a_second_one_stops_at_once(number: int) -> None:
    steps, before = Steps(), signal.getsignal(signal.SIGINT)  # ignored in a shell's background job
    with callbacks.catch_signals(steps.stopper):
        assert steps.next() == (False, False)
        os.kill(os.getpid(), number)
        assert steps.next() == (True, True)
        with pytest.raises(Stopped) as stopped:
            os.kill(os.getpid(), number)
            time.sleep(1)
    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(signal.SIGINT) is before


# ------------------------------------------------------------------------------------------------ room


def test_room_is_asked_for_the_saves_kept_and_the_next_and_what_is_there_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Parameter(SimpleNamespace):
        def numel(self) -> int:
            return 1000

        def element_size(self) -> int:
            return 4

    model = SimpleNamespace(
        parameters=lambda: [Parameter(requires_grad=True), Parameter(requires_grad=False)]
    )
    asked = []
    monkeypatch.setattr(loop.files, "require_space", lambda folder, needed, what: asked.append(needed))
    loop.require_disk(tmp_path, model, 2)
    loop.require_disk(tmp_path, model, 4)
    make(tmp_path, 1)
    loop.require_disk(tmp_path, model, 4)
    assert asked[:2] == [36_000, 60_000] and asked[2] == 60_000 - saves.size(tmp_path) < 60_000


def test_a_read_only_folder_of_saves_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, *args: Any, **kwargs: Any) -> None:
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    with (
        pytest.raises(ResourceError, match="cannot write"),
        loop.files.atomic_folder(saves.path(tmp_path, 1)),
    ):
        pass
