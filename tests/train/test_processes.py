"""Two processes over gloo: the same as one, killed, gone on with by one, and asked for different things."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastvocab.config import load
from fastvocab.errors import ConfigError
from fastvocab.recipes import new_language
from fastvocab.train import budget
from fastvocab.train.data import NOTHING, Batches, Order
from tests.conftest import tiny_run

#: Losses of bfloat16 products, whose order of summing changes with the shape of a batch.
TOLERANCE = 2e-3
STEPS = 50


@given(
    rows=st.integers(1, 40), batch=st.integers(1, 4), passes=st.integers(1, 3), among=st.integers(1, 4),
    epoch=st.integers(0, 3),
)  # fmt: skip
def test_processes_read_together_what_one_reads(
    rows: int, batch: int, passes: int, among: int, epoch: int
) -> None:
    order = Order(rows, batch, passes * among, seed=5)
    each = [Batches(order, process, among) for process in range(among)]
    for batches in each:
        batches.set_epoch(epoch)
    read = [list(batches) for batches in each]
    assert {len(found) for found in read} == {len(each[0])}
    one = [
        b
        for step in range(order.steps_per_epoch)
        for b in order.batches(epoch * order.steps_per_epoch + step + 1)
    ]
    together = [batch for turn in zip(*read) for batch in turn if batch != [NOTHING]]
    assert together == one
    assert sorted(row for batch in one for row in batch) == list(range(rows))


@pytest.mark.parametrize(
    ("batch", "passes", "among", "expected"),
    [(2, 4, 1, (2, 4)), (2, 4, 2, (2, 2)), (2, 4, 4, (2, 1)), (8, 1, 2, (4, 1)), (6, 2, 3, (2, 2))],
)
def test_a_step_is_divided_among_processes(
    batch: int, passes: int, among: int, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(among))
    section = load(None, [f"pretrain.batch={batch}", f"pretrain.accumulate={passes}"]).pretrain
    assert budget.shares(section, "pretrain") == expected
    assert expected[0] * expected[1] * among == batch * passes


def test_a_step_that_cannot_be_divided_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    section = load(None, ["pretrain.batch=2", "pretrain.accumulate=4"]).pretrain
    with pytest.raises(ConfigError, match=r"batch is 2 and pretrain\.accumulate 4, with 3") as caught:
        budget.shares(section, "pretrain")
    assert "pretrain.accumulate=3" in str(caught.value)


def settings(base: Path, text: Path, runs: Path, *more: str) -> list[str]:
    return tiny_run(
        base, text, runs, f"pretrain.steps={STEPS}", "pretrain.accumulate=2", "pretrain.evaluation_share=1",
        "pretrain.evaluations=2", "instruct.batch=4", *more,
    )  # fmt: skip


def launch(arguments: list[str]) -> subprocess.Popen[str]:
    """The recipe in two processes, as ``accelerate launch --multi_gpu`` starts them too."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    return subprocess.Popen(
        [*command, "fastvocab.recipes.new_language", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def steps_of(run: Path, stage: str = "40-pretrain") -> list[dict[str, Any]]:
    lines = (run / stage / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def files_of(run: Path) -> set[str]:
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def one(tied_llama: Path, text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs, threads = tmp_path_factory.mktemp("one"), torch.get_num_threads()
    torch.set_num_threads(
        1
    )  # as those that are launched: sums of other order are apart by more than the tolerance
    try:
        assert new_language.main(settings(tied_llama, text_folder, runs)) == 0
    finally:
        torch.set_num_threads(threads)
    return runs / "tiny"


@pytest.mark.slow
def test_two_processes_give_what_one_gives(
    one: Path, tied_llama: Path, text_folder: Path, tmp_path: Path
) -> None:
    process = launch(settings(tied_llama, text_folder, tmp_path))
    said, _ = process.communicate(timeout=500)
    assert process.returncode == 0, said[-3000:]
    two = tmp_path / "tiny"
    record = json.loads((two / "40-pretrain" / "stage.json").read_text(encoding="utf-8"))
    assert record["figures"]["processes"] == 2
    for stage in ("40-pretrain", "50-instruct"):
        a, b = steps_of(one, stage), steps_of(two, stage)
        assert len(a) == len(b)
        for left, right in zip(a, b):
            assert left.keys() == right.keys()
            for key in ("loss", "grad_norm", "target_bits_per_byte", "original_bits_per_byte"):
                if key in left:
                    assert right[key] == pytest.approx(left[key], abs=TOLERANCE)
            assert (left["step"], left["tokens"]) == (right["step"], right["tokens"])
    assert len([entry for entry in steps_of(two) if "loss" in entry]) == STEPS
    assert files_of(two) == files_of(one)
    assert said.count("pretrain: running") == said.count("pretrain: done") == 1


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_one_goes_on(
    one: Path, tied_llama: Path, text_folder: Path, tmp_path: Path
) -> None:
    import psutil

    arguments = settings(tied_llama, text_folder, tmp_path, "pretrain.save_steps=5")
    process = launch(arguments)
    saves = tmp_path / "tiny" / ".saves" / "pretrain"
    until = time.monotonic() + 300
    while not list(saves.glob("step-*/save.json")):
        assert process.poll() is None and time.monotonic() < until, process.communicate()[0][-3000:]
        time.sleep(0.02)
    workers = [
        c for c in psutil.Process(process.pid).children(recursive=True) if c.environ().get("RANK") == "1"
    ]
    workers[0].send_signal(signal.SIGKILL)
    said, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    # the main one notices by itself, or is told by the launcher first
    clean = ("another of the 2 processes of this run has ended", "nothing finished is lost")
    assert any(end in said for end in clean) and "[rank" not in said, said[-3000:]
    assert new_language.main(arguments) == 0
    record = json.loads((tmp_path / "tiny" / "40-pretrain" / "stage.json").read_text(encoding="utf-8"))
    assert record["figures"]["processes"] == 1
    before = [entry["loss"] for entry in steps_of(one) if "loss" in entry]
    after = [entry["loss"] for entry in steps_of(tmp_path / "tiny") if "loss" in entry]
    assert after == pytest.approx(before, abs=TOLERANCE)


def test_processes_that_are_asked_for_different_things(
    tied_llama: Path, text_folder: Path, tmp_path: Path
) -> None:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    started = []
    for rank, more in enumerate([[], ["pretrain.lora.r=8", "seed=4"]]):
        env = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": 2,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        own = {name: str(value) for name, value in env.items()} | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "fastvocab.recipes.new_language"]
        command += settings(tied_llama, text_folder, tmp_path, *more)
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=os.environ | own))
    said = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [2, 2], said
    assert "process 1: pretrain.lora.r is 8, not 4, seed is 4, not 3407" in said[0]
    assert not (tmp_path / "tiny").exists()


def test_a_comparison_is_made_by_one_process(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert new_language.main(["evaluate.control=true", f"runs={tmp_path}"]) == 2
    assert "with 2 processes" in capsys.readouterr().err
