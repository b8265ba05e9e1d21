"""The arithmetic of scripts/bench_overhead.py: operations against torch's own counter, and its table."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fastvocab.config import load


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    return importlib.import_module("bench_overhead")


@pytest.mark.parametrize("mode", ["full", "frozen"])
@pytest.mark.parametrize("tied", [True, False])
def test_operations_are_those_that_torch_counts(bench: Any, tmp_path: Path, mode: Any, tied: bool) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from fastvocab.model import checkpoint, reference
    from fastvocab.model import load as loader
    from tests.conftest import make_llama

    base = reference.resolve(str(make_llama(tmp_path / "model", tied=tied, width=128)))
    model, _ = checkpoint.on_base(base, load_in_4bit=False, seed=1)
    model = loader.add_lora(
        model, r=8, alpha=8, dropout=0.0, targets=loader.LINEAR, embeddings=mode, new_ids=range(690, 700), block=16,
        seed=1, gradient_checkpointing=False,
    )  # fmt: skip
    section = load(None, ["pretrain.block=16", "pretrain.batch=3", "pretrain.accumulate=2"]).pretrain
    ids = torch.randint(0, 700, (3, 16))
    model.train()
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids).loss.backward()
    # attention's own products are left out there, 16 tokens of 128 numbers; and with frozen rows the first of these two
    # layers needs no gradient of its input
    assert bench.operations(model, section) == pytest.approx(2 * counter.get_total_flops(), rel=0.06)


def test_phases_are_timed_and_compared_step_by_step(bench: Any) -> None:
    clock = bench.Clock()
    work = clock.around("forward", lambda x: time.sleep(0.02) or x)
    assert work(3) == 3 and 0.02 <= clock.spent["forward"] < 1 and clock.spent["backward"] == 0

    def arm(seconds: list[float]) -> dict[str, Any]:
        phases = [{"forward": s / 4, "backward": s / 2, "optimizer": s / 8} for s in seconds]
        return {"steps": [(0.0, s) for s in seconds], "phases": phases, "operations": 10**9, "losses": [2.5]}

    # the machine becomes three times slower
    found = {"bare": arm([1.0, 1.0, 1.0, 3.0, 3.0]), "ours": arm([0.8, 0.8, 0.8, 2.4, 2.4])}
    line = bench.row("ours", found, most=2.5e9)
    assert line["of bare"].startswith("0.800 ") and line["step s"] == "0.800"
    assert [line[name] for name in ("forward", "backward", "optimizer", "other")] == [
        "25.0%",
        "50.0%",
        "12.5%",
        "12.5%",
    ]
    assert (line["GFLOP/s"], line["of peak"]) == ("1", "50%")


def test_a_folder_that_is_no_run_is_refused(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_overhead.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="no pretrained run"):
        bench.main()
