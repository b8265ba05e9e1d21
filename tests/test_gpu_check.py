"""scripts/gpu_check.py on a CPU: its table, its exit codes, and that a failed check does not stop the others."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import tiny_run

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu_check.py"


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("gpu_check")


def test_without_a_gpu_it_says_so_in_a_line(gpu_check: Any, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert gpu_check.main([]) == 6
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("no GPU")


def test_a_failed_check_leaves_a_line_and_the_others_go_on(gpu_check: Any, tmp_path: Path) -> None:
    check = gpu_check.Check(Namespace(device="cpu", quick=True, only=["borders", "speed"], set=[]), tmp_path)

    def halfway() -> Iterator[Any]:
        yield "first", "1", "1", True
        raise RuntimeError("no such | thing")

    check.borders, check.speed = halfway, lambda: iter([("last", "2", "2", True)])
    check.all()
    whats, wells = [line[0] for line in check.lines], [line[3] for line in check.lines]
    assert (whats, wells) == (["first", "halfway", "last"], [True, False, True])
    assert check.lines[1][1] == "failed: no such / thing", "a cell of a table"


@pytest.mark.slow
def test_checks_of_a_tiny_run(tied_llama: Path, text_folder: Path, tmp_path: Path) -> None:
    settings = [
        s for s in tiny_run(tied_llama, text_folder, tmp_path) if not s.startswith(("runs=", "name="))
    ]
    settings += ["instruct.train=[]", "pretrain.evaluations=0"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--device", "cpu", "--quick", "--only", "recipe", "borders", "--out",
         str(tmp_path / "work"), "--json", str(tmp_path / "found.json"), "--set", *settings],
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    lines = {line["what"]: line for line in found["checks"]}
    assert done.returncode == 0 and all(line["ok"] for line in lines.values()), (
        done.stdout + done.stderr[-3000:]
    )
    assert lines["default recipe"]["result"] == "exit code 0" and lines["pretrain: device"]["result"] == "cpu"
    assert (tmp_path / "work" / "gpu-check" / "40-pretrain" / "fastvocab.json").is_file()
    behind, told = (
        float(part.split()[0])
        for part in lines[next(w for w in lines if "behind" in w)]["result"].split(", ")
    )
    assert behind > 0.05 and told < 1e-3, "on a CPU the border is kept"
    assert {"torch", "unsloth", "trl", "bitsandbytes"} <= found["machine"].keys()
    assert "| what | result | expected | ok |" in done.stdout
