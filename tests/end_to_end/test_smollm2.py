"""The embedded default on the real model, with a short training: what the README promises of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastvocab.recipes import new_language
from fastvocab.run import read_records
from tests.conftest import english

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SHORT = [
    "tokenizer.method=continued", "extend.calibration_bytes=10000", "pretrain.minutes=null", "pretrain.steps=16",
    "instruct.minutes=0.1",
    "evaluate.heldout_bytes=2000", "evaluate.replay_bytes=1500", "evaluate.sample_tokens=4",
    "extend.pad_to_multiple_of=128",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    assert new_language.main([f"runs={runs}", *SHORT]) == 0
    return runs / "smollm2-ukrainian"


def test_ukrainian_takes_two_and_a_half_times_fewer_tokens(run: Path) -> None:
    points = read_records(run)["evaluate"].figures["points"]
    before, after = points["base"]["target"], points["pretrain"]["target"]
    assert before["tokens_per_word"] / after["tokens_per_word"] >= 2.5
    assert before["bytes"] == after["bytes"]


def test_english_is_tokenized_as_before_and_every_proof_holds(run: Path) -> None:
    proofs = json.loads((run / "20-tokenizer" / "merge.json").read_text(encoding="utf-8"))["proofs"]
    assert len(proofs) >= 5 and all(proof["passed"] for proof in proofs)
    points = read_records(run)["evaluate"].figures["points"]
    assert points["base"]["original"]["tokens"] == points["extend"]["original"]["tokens"]


def test_bits_per_byte_fall_and_english_is_kept(run: Path) -> None:
    points = read_records(run)["evaluate"].figures["points"]
    target = {name: p["target"]["bits_per_byte"] for name, p in points.items()}
    assert target["pretrain"] < target["extend"] < target["base"]
    english = {name: p["original"]["bits_per_byte"] for name, p in points.items()}
    assert english["pretrain"] <= 1.05 * english["base"]


def test_every_checkpoint_reloads_bit_by_bit_in_a_fresh_process(run: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "check_run.py"), str(run)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    reloads = [
        line.split()[-1]
        for line in done.stdout.splitlines()
        if line.startswith(("extend", "pretrain", "instruct"))
    ]
    assert reloads == ["0", "0", "0"]


def test_padding_is_out_of_every_program_s_reach(run: Path) -> None:
    """Also of one that samples from all rows of the exported matrix, on text that the rows were not made with."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows, tokens = (read_records(run)["extend"].figures[name] for name in ("rows", "tokens"))
    assert rows % 128 == 0 and rows > tokens
    model = AutoModelForCausalLM.from_pretrained(run / "70-export", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(run / "70-export")
    lines = (run / "10-corpus" / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:4]
    for text in [json.loads(line)["text"][:400] for line in lines] + english(2):
        ids = tokenizer(text[:400], return_tensors="pt").input_ids
        with torch.inference_mode():
            shares = torch.softmax(model(input_ids=ids).logits.double(), -1)[..., tokens:]
        assert shares.sum(-1).max() < 1e-12


def test_every_package_is_named_with_its_licence(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    card = (run / "70-export" / "README.md").read_text(encoding="utf-8")
    for text in (page, card):
        for part in ("ua-gec", "CC-BY-4.0", "chatterbot-corpus", "Apache-2.0", "PSF-2.0"):
            assert part.lower() in text.lower()
