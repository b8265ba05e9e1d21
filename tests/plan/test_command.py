"""``fastvocab plan``: from a config.json alone, and of what is here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastvocab import cli
from fastvocab.plan.sizes import MODES
from tests.plan.test_sizes import QWEN2_7B


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    folder = tmp_path / "qwen"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(QWEN2_7B), encoding="utf-8")
    return folder


def plan(capsys: Any, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["plan", *arguments])
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


def test_three_modes_side_by_side_from_a_config_alone(qwen: Path) -> None:
    """In a process of its own: nothing of torch is imported for it."""
    for place in (qwen, qwen / "config.json"):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", "from fastvocab.cli import main; main()", "plan",
             f"model.base={place}", "pretrain.lora.r=8", "--json"],
            capture_output=True, text=True, check=False, timeout=60, cwd=qwen,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-500:]
        imported = {
            line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if "import time:" in line
        }
        assert not imported & {"torch", "unsloth", "transformers", "datasets"}
        found = json.loads(done.stdout)
        assert list(found["modes"]) == list(MODES)
        alone = {mode: found["modes"][mode]["as_it_is"] for mode in MODES}
        assert alone["frozen"] == {"trainable_parameters": 20_185_088, "parameters": 7_635_801_600}
        assert alone["full"] == {"trainable_parameters": 1_110_179_840, "parameters": 8_725_796_352}
        assert (found["weights"], found["shapes"]) == (False, "exact")


def test_what_is_planned_for_another_machine(qwen: Path, capsys: Any) -> None:
    keys = (f"model.base={qwen}", "tokenizer.new_tokens=3", "pretrain.lora.r=8", "--json")
    code, out, _ = plan(capsys, *keys, "--gpu", "A100-80GB")
    large = json.loads(out)
    assert code == 0 and large["modes"]["full"]["fits"] == "yes"
    assert large["device"]["name"] == "A100-80GB" and "not measured" in large["memory_is"]
    code, out, _ = plan(capsys, *keys, "--gpu", "T4")
    small = json.loads(out)
    assert code == 0 and small["modes"]["full"]["fits"] == "no"
    assert small["modes"]["full"]["fits_with"]["model.load_in_4bit"] is True
    assert small["modes"]["full"]["memory_bytes"] == large["modes"]["full"]["memory_bytes"]
    low, high = (small["tokens_per_second"][end] for end in ("low", "high"))
    assert 0 < low < high < large["tokens_per_second"]["high"]


def test_a_person_reads_what_to_change(qwen: Path, capsys: Any) -> None:
    code, _, err = plan(
        capsys, f"model.base={qwen}", "tokenizer.new_tokens=3", "pretrain.lora.r=8", "--gpu", "16"
    )
    assert code == 0
    for part in (
        "1,110,201,344",
        "1,110,179,840",
        "a config.json alone",
        "change   ",
        "missing  corpus.train",
        "no",
    ):
        assert part in err


def test_a_family_that_is_not_known_is_said_to_be_assumed(qwen: Path, capsys: Any) -> None:
    config = QWEN2_7B | {"model_type": "unheardof", "architectures": ["UnheardofForCausalLM"]}
    (qwen / "config.json").write_text(json.dumps(config), encoding="utf-8")
    code, _, err = plan(capsys, f"model.base={qwen}", "--gpu", "80")
    assert code == 0 and "unheardof is not known here and counted as a Llama" in err
    code, out, _ = plan(capsys, f"model.base={qwen}", "--gpu", "80", "--json")
    assert json.loads(out)["shapes"] == "assumed to be a Llama's"


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        ({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, 4, "hidden_size is missing"),
        (QWEN2_7B | {"architectures": ["Qwen2VLForConditionalGeneration"]}, 4, "causal language model"),
        ([1], 4, "no JSON object"),
    ],
)
def test_configs_that_no_plan_can_be_made_of(
    qwen: Path, capsys: Any, config: Any, code: int, said: str
) -> None:
    (qwen / "config.json").write_text(json.dumps(config), encoding="utf-8")
    found, _, err = plan(capsys, f"model.base={qwen}")
    assert found == code and said in err


def test_adapters_that_fit_nowhere_are_refused(qwen: Path, capsys: Any) -> None:
    code, _, err = plan(
        capsys, f"model.base={qwen}", "pretrain.lora.targets=[query_key_value]", "--gpu", "80"
    )
    assert code == 2 and "down_proj, gate_proj" in err
    code, _, err = plan(capsys, f"model.base={qwen}", "pretrain.lora.targets=[q_proj, qkv]", "--gpu", "80")
    assert code == 0 and "this model has no qkv" in err


def test_tokens_and_time_by_what_limits_them(
    tied_llama: Path, text_folder: Path, capsys: Any, tmp_path: Path
) -> None:
    def stage(*keys: str) -> dict[str, Any]:
        code, out, err = plan(
            capsys, f"model.base={tied_llama}", f"runs={tmp_path}", f"corpus.train={text_folder / 'uk.jsonl'}",
            "corpus.language=uk", "pretrain.block=64", "pretrain.batch=2", "--json", *keys,
        )  # fmt: skip
        assert code == 0, err
        return dict(json.loads(out)["stages"]["pretrain"])

    assert stage("pretrain.steps=10")["tokens"] == [1280, 1280]
    assert stage("pretrain.tokens=500", "pretrain.steps=10") == {
        **stage("pretrain.tokens=500"),
        "limit": "tokens or steps",
    }
    assert stage("pretrain.minutes=2")["seconds"] == [120, 120]
    size = (text_folder / "uk.jsonl").stat().st_size
    low, high = stage()["tokens"]
    assert size / 10 < low < high < size


def test_measured_steps(tied_llama: Path, capsys: Any, tmp_path: Path) -> None:
    keys = [
        f"model.base={tied_llama}",
        f"runs={tmp_path}",
        "tokenizer.new_tokens=40",
        "pretrain.block=64",
        "--json",
    ]
    for mode in MODES:
        code, out, err = plan(capsys, *keys, f"pretrain.embeddings={mode}", "--measure")
        assert code == 0, err
        found = json.loads(out)
        assert found["measured"]["tokens_per_second"] > 0
        assert found["tokens_per_second"]["source"] == "measured just now"
    assert plan(capsys, *keys, "--measure", "--gpu", "T4")[0] == 2
    assert not list(tmp_path.iterdir())
