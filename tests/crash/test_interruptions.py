"""The whole command, really stopped: typed again it goes on and ends with the same tensors.

Every other moment and stage, in forked processes without the 15 s of imports: ``test_campaigns.py``.
"""

from __future__ import annotations

import os
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


def test_a_run_killed_inside_pretraining_ends_with_the_same_tensors(
    untouched: Path, tied_llama: Path, text_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = tiny_run(tied_llama, text_folder, tmp_path / "there", *SETTINGS)
    assert _stop(arguments, lambda: len(_saves(tmp_path / "there")) >= 2, signal.SIGKILL)[0] == -9
    assert not (tmp_path / "there" / "tiny" / "40-pretrain").exists()
    moved = tmp_path / "here"  # a run folder can be moved
    (tmp_path / "there").rename(moved)
    newest = int(_saves(moved)[-1].name.removeprefix("step-"))
    assert new_language.main(tiny_run(tied_llama, text_folder, moved, *SETTINGS)) == 0
    said = capsys.readouterr().err
    assert f"pretrain: goes on from step {newest} " in said
    assert all(f"{stage}: reused" in said for stage in ("corpus", "tokenizer", "extend"))
    assert _same_tensors(untouched, moved / "tiny")


def test_a_run_told_to_stop_saves_first_and_says_how_to_go_on(
    tied_llama: Path, text_folder: Path, tmp_path: Path
) -> None:
    arguments = tiny_run(tied_llama, text_folder, tmp_path, *SETTINGS)
    found, said = _stop(arguments, lambda: len(_saves(tmp_path)) >= 1, signal.SIGTERM)
    assert found == 143, said
    assert "nothing finished is lost: type the same command again" in said and "Traceback" not in said
    assert _saves(tmp_path) and not (tmp_path / "tiny" / "40-pretrain").exists()
