"""Real processes, really stopped: the same command goes on and ends with the same tensors."""

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


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)],
    ids=["KILL", "TERM", "INT"],
)
def test_a_run_stopped_inside_pretraining_ends_with_the_same_tensors(
    number: int, code: int, untouched: Path, tied_llama: Path, text_folder: Path, tmp_path: Path
) -> None:
    arguments = tiny_run(tied_llama, text_folder, tmp_path, *SETTINGS)
    saves = tmp_path / "tiny" / ".saves" / "pretrain"
    found, said = _stop(arguments, lambda: len(list(saves.glob("step-*/save.json"))) >= 1, number)
    assert found == code, said
    if code > 0:
        assert "nothing finished is lost: type the same command again" in said and "Traceback" not in said
    assert not (tmp_path / "tiny" / "40-pretrain").exists()
    assert list(saves.glob("step-*/save.json")), "nothing to go on from"
    if number != signal.SIGINT:  # stops as SIGTERM does
        assert new_language.main(arguments) == 0
        assert _same_tensors(untouched, tmp_path / "tiny")


def test_a_spoilt_save_is_passed_over_for_the_one_before(
    untouched: Path, tied_llama: Path, text_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = tiny_run(tied_llama, text_folder, tmp_path, *SETTINGS)
    saves = tmp_path / "tiny" / ".saves" / "pretrain"
    _stop(arguments, lambda: len(list(saves.glob("step-*/save.json"))) >= 2, signal.SIGKILL)
    newest = sorted(saves.glob("step-*"))[-1]
    victim = newest / "optimizer.pt"
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 2] ^= 1
    victim.write_bytes(raw)
    assert new_language.main(arguments) == 0
    said = capsys.readouterr().err
    assert f"{newest.name} is passed over" in said and "optimizer.pt has changed" in said
    assert _same_tensors(untouched, tmp_path / "tiny")


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
    tied_llama: Path, text_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = tiny_run(tied_llama, text_folder, tmp_path, *SETTINGS)
    saves = tmp_path / "tiny" / ".saves" / "pretrain"
    _stop(arguments, lambda: len(list(saves.glob("step-*/save.json"))) >= 1, signal.SIGKILL)
    assert new_language.main([*arguments, "pretrain.learning_rate=1e-5", "pretrain.steps=2"]) == 0
    said = capsys.readouterr().err
    assert "belongs to other settings" in said and "is removed" in said and "goes on from" not in said
