"""Real processes, really stopped: the same command goes on and ends with the same tensors."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fastvocab.recipes import new_language
from tests.conftest import tiny_run

SETTINGS = ["pretrain.steps=24", "pretrain.save_minutes=0.0001", "evaluate.sample_tokens=0", "export.to=[]"]


def _start(arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "fastvocab.recipes.new_language", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def _stop(arguments: list[str], when: Callable[[], bool], number: int) -> tuple[int, str]:
    """Start a run, send a signal as soon as ``when`` holds, and wait; returns (exit code, what it said)."""
    process = _start(arguments)
    deadline = time.monotonic() + 240
    while process.poll() is None and not when():
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.02)
    assert process.poll() is None, "it ended before the moment came"
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=120)
    return process.returncode, said


@pytest.fixture(scope="module")
def untouched(tied_llama: Path, text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run without an interruption."""
    runs = tmp_path_factory.mktemp("untouched")
    assert new_language.main(tiny_run(tied_llama, text_folder, runs, *SETTINGS)) == 0
    return runs / "tiny"


def _same_tensors(a: Path, b: Path) -> bool:
    names = [f"{stage}/{file}" for stage in ("40-pretrain", "50-instruct")
             for file in ("rows.safetensors", "adapter_model.safetensors")]  # fmt: skip
    for name in names:
        left, right = load_file(a / name), load_file(b / name)
        if left.keys() != right.keys() or not all(torch.equal(left[k], right[k]) for k in left):
            return False
    return True


def _saves(runs: Path) -> list[Path]:
    """The whole saves of an unfinished pretraining."""
    return sorted(save.parent for save in runs.glob("tiny/.saves/pretrain/step-*/save.json"))


@pytest.fixture(scope="module")
def killed(tied_llama: Path, text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs after a SIGKILL inside pretraining, with two saves at least."""
    runs = tmp_path_factory.mktemp("killed")
    arguments = tiny_run(tied_llama, text_folder, runs, *SETTINGS)
    assert _stop(arguments, lambda: len(_saves(runs)) >= 2, signal.SIGKILL)[0] == -9
    assert not (runs / "tiny" / "40-pretrain").exists()
    return runs


@pytest.fixture
def after_kill(killed: Path, tmp_path: Path) -> Path:
    """A copy of it: a run folder can be moved."""
    return Path(shutil.copytree(killed, tmp_path / "runs", symlinks=True))


def test_a_run_killed_inside_pretraining_ends_with_the_same_tensors(
    untouched: Path, after_kill: Path, tied_llama: Path, text_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = int(_saves(after_kill)[-1].name.removeprefix("step-"))
    assert new_language.main(tiny_run(tied_llama, text_folder, after_kill, *SETTINGS)) == 0
    assert f"pretrain: goes on from step {newest} " in capsys.readouterr().err
    assert _same_tensors(untouched, after_kill / "tiny")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"]
)
def test_a_run_told_to_stop_saves_first_and_ends_with_the_same_tensors(
    number: int, code: int, untouched: Path, tied_llama: Path, text_folder: Path, tmp_path: Path
) -> None:
    arguments = tiny_run(tied_llama, text_folder, tmp_path, *SETTINGS)
    found, said = _stop(arguments, lambda: len(_saves(tmp_path)) >= 1, number)
    assert found == code, said
    assert "nothing finished is lost: type the same command again" in said and "Traceback" not in said
    assert _saves(tmp_path) and not (tmp_path / "tiny" / "40-pretrain").exists()
    if number == signal.SIGTERM:  # SIGINT goes the same way
        assert new_language.main(arguments) == 0
        assert _same_tensors(untouched, tmp_path / "tiny")


def test_a_spoilt_save_is_passed_over_for_the_one_before(
    untouched: Path, after_kill: Path, tied_llama: Path, text_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = _saves(after_kill)[-1]
    victim = newest / "optimizer.pt"
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 2] ^= 1
    victim.write_bytes(raw)
    assert new_language.main(tiny_run(tied_llama, text_folder, after_kill, *SETTINGS)) == 0
    said = capsys.readouterr().err
    assert f"{newest.name} is passed over" in said and "optimizer.pt has changed" in said
    assert _same_tensors(untouched, after_kill / "tiny")


def test_a_kill_between_stages_loses_no_stage(
    tied_llama: Path, text_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = tiny_run(tied_llama, text_folder, tmp_path, *SETTINGS, "pretrain.steps=2")
    done = tmp_path / "tiny" / "20-tokenizer" / "stage.json"
    _stop(arguments, done.exists, signal.SIGKILL)
    assert new_language.main(arguments) == 0
    said = capsys.readouterr().err
    assert "corpus: reused" in said and "tokenizer: reused" in said and "extend: running" in said


def test_other_settings_do_not_go_on_from_an_old_save(
    after_kill: Path, tied_llama: Path, text_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = tiny_run(tied_llama, text_folder, after_kill, *SETTINGS)
    assert new_language.main([*arguments, "pretrain.learning_rate=1e-5", "pretrain.steps=2"]) == 0
    said = capsys.readouterr().err
    assert "belongs to other settings" in said and "is removed" in said and "goes on from" not in said
