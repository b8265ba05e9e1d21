"""Memory by part: measured peaks, what does not fit, and the settings that would."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastvocab.architecture import Architecture
from fastvocab.config import Config, load
from fastvocab.errors import ConfigError, ResourceError
from fastvocab.plan import device, memory, outlook, sizes
from tests.plan.test_sizes import QWEN2_7B

#: Less to do before training starts; what it takes then is the same.
QUICK = ("tokenizer.new_tokens=2000", "pretrain.steps=2", "pretrain.evaluations=1")
A100 = device.find("A100-80GB")
T4 = device.find("T4")


def configured(
    *keys: str, gpu: device.Device = A100, new: int = 3
) -> tuple[Config, sizes.Sizes, dict[str, int]]:
    config = load(None, ["pretrain.lora.r=8", *keys])
    found = sizes.of(Architecture.read(QWEN2_7B), config.pretrain.lora, new, 151646)
    return config, found, memory.of_stage(config, found, gpu, "pretrain")


def test_each_setting_changes_the_part_that_it_is_about() -> None:
    _, found, plain = configured("pretrain.batch=2", "pretrain.gradient_checkpointing=false")
    assert plain["weights"] == 2 * found.base.parameters
    exact = found.new_parameters + found.shared()
    assert plain["optimizer"] == 2 * (found.trainable("full") - found.new_parameters) + 8 * exact
    four = configured("pretrain.batch=2", "pretrain.gradient_checkpointing=false", "model.load_in_4bit=true")[
        2
    ]
    assert 0.25 < four["weights"] / plain["weights"] < 0.45
    more = configured("pretrain.batch=4", "pretrain.gradient_checkpointing=false")[2]
    assert more["activations"] == pytest.approx(2 * plain["activations"], rel=1e-6)
    again = configured("pretrain.batch=2", "pretrain.gradient_checkpointing=true")[2]
    assert again["activations"] < plain["activations"] / 5
    rows = configured("pretrain.batch=2", "pretrain.embeddings=new_rows")[2]
    # three rows instead of 152,064: what full embeddings cost
    assert plain["gradients"] - rows["gradients"] > 7.9 * found.embeddings
    assert memory.total(plain) - memory.total(rows) > 12 * found.embeddings


def test_what_does_not_fit_is_refused_with_settings_that_do() -> None:
    config, found, parts = configured("pretrain.embeddings=full", "pretrain.batch=8", gpu=T4)
    assert memory.fits(parts, T4) == "no"
    with pytest.raises(ResourceError) as caught:
        outlook.require_memory(config, found, T4, "pretrain")
    text = str(caught.value)
    assert "pretrain takes about" in text and "T4, 15.8 GB" in text
    fix = caught.value.fix or ""
    assert "model.load_in_4bit=true" in fix and "pretrain.embeddings=new_rows" in fix
    # what is proposed is what is needed: with it, it fits, and with any one setting less it does not
    keys = dict(pair.split("=") for pair in fix.split())
    changed = load(None, ["pretrain.lora.r=8", "pretrain.embeddings=full", "pretrain.batch=8", *fix.split()])
    assert memory.total(memory.of_stage(changed, found, T4, "pretrain")) <= T4.memory
    groups = [{"pretrain.batch", "pretrain.accumulate"}] + [
        {k} for k in keys if "batch" not in k and "acc" not in k
    ]
    for left_out in groups:
        if not left_out <= keys.keys():
            continue
        fewer = [pair for pair in fix.split() if pair.split("=")[0] not in left_out]
        less = load(None, ["pretrain.lora.r=8", "pretrain.embeddings=full", "pretrain.batch=8", *fewer])
        assert memory.total(memory.of_stage(less, found, T4, "pretrain")) > memory.TIGHT * T4.memory


def test_a_step_stays_as_large_when_its_passes_become_smaller() -> None:
    config = load(
        None, ["pretrain.lora.r=8", "pretrain.batch=8", "pretrain.accumulate=2", "pretrain.block=4096"]
    )
    found = sizes.of(Architecture.read(QWEN2_7B), config.pretrain.lora, 3, 151646)
    # just too small for a batch of eight
    own = replace(A100, memory=int(memory.total(memory.of_stage(config, found, A100, "pretrain")) * 0.95))
    keys = memory.smaller(config, found, own, "pretrain")
    assert keys == {"pretrain.batch": 4, "pretrain.accumulate": 4}


def test_constants_are_those_of_the_modules_that_train() -> None:
    from fastvocab.control import arms
    from fastvocab.model import chunked_loss, nats
    from fastvocab.train import cpu_kernels

    assert (memory._CHUNK, memory._SCORES) == (chunked_loss.CHUNK, cpu_kernels._MOST_SCORES)
    assert (memory._EVALUATED, sizes.PLAIN_RANK) == (nats.CHUNK, arms._RANK)


def test_where_nothing_helps_it_is_said() -> None:
    config, found, _ = configured()
    tiny = device.find("2")
    assert memory.smaller(config, found, tiny, "pretrain") is None
    with pytest.raises(ResourceError, match="choose a smaller model"):
        outlook.require_memory(config, found, tiny, "pretrain")


@pytest.mark.parametrize(
    "name", ["T4", "t4", "NVIDIA A100-SXM4-40GB", "rtx 3090", "24", "24 GiB", "16gb", "0.5"]
)
def test_gpus_by_name_and_by_size(name: str) -> None:
    found = device.find(name)
    assert found.kind == "gpu" and found.given and found.memory > 0


def test_a_gpu_that_nobody_knows_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        device.find("A1000")
    assert "did you mean A10" in str(caught.value)
    for wrong in ("", "-3", "0"):
        with pytest.raises(ConfigError):
            device.find(wrong)


def test_the_gpu_that_nvidia_smi_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no GPU here: a program of that name stands in, with the output of the real one."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\necho '0, GPU-aa, NVIDIA A100-SXM4-80GB, 81000, 8.0'\necho '1, GPU-bb, Tesla T4, 14900, 7.5'\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    first = device.find()
    assert (first.kind, first.memory, first.bfloat16, first.flops) == ("gpu", 81000 * 2**20, True, 312e12)
    for visible in ("1", "GPU-bb"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert (device.find().name, device.find().bfloat16) == ("Tesla T4", False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert device.find().kind == "cpu"
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert device.find().kind == "cpu"


@pytest.mark.slow
def test_a_measured_peak(text_folder: Path) -> None:
    """A run up to pretraining, in a process of its own; `scripts/bench_memory.py` has nine, of three families."""
    text = (f"corpus.train={text_folder / 'uk.jsonl'}", f"corpus.replay={text_folder / 'en.jsonl'}")
    script = Path(__file__).parents[2] / "scripts" / "bench_memory.py"
    done = subprocess.run(
        [sys.executable, str(script), "--json", "--models", "gemma", "--modes", "new_rows", "--", *QUICK, *text],
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = json.loads(done.stdout)
    assert line["planned"] == pytest.approx(line["measured"], rel=0.15)


def test_a_run_that_does_not_fit_is_not_begun(
    tied_llama: Path, text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from fastvocab.recipes import new_language
    from tests.conftest import tiny_run

    own = replace(device.cpu(), memory=400_000_000)  # less than the libraries alone take
    monkeypatch.setattr(device, "find", lambda given=None: own)
    code = new_language.main(tiny_run(tied_llama, text_folder, tmp_path / "runs"))
    assert code == ResourceError.exit_code
    assert not (tmp_path / "runs" / "tiny").exists()
    assert "pretrain takes about" in capsys.readouterr().err
