"""fastvocab through unsloth's own GPU classes, on a CPU (`tests.gpu.stand_in` says what of a GPU is stood in for)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("triton", reason="no interpreter for unsloth's kernels")
    folder, repository = tmp_path_factory.mktemp("gpu"), Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.line", str(folder)],
        capture_output=True, text=True, cwd=folder, timeout=580,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["left"] = sorted(p.name for p in folder.iterdir() if "unsloth" in p.name)
    return found


def _part(found: dict[str, Any], name: str) -> dict[str, Any]:
    part: dict[str, Any] = found[name]
    assert "error" not in part, part["error"] + "\n" + part["where"]
    return part


def test_it_is_taken_for_a_gpu_without_bfloat16(found: dict[str, Any]) -> None:
    assert (found["device"], found["dtype"]) == ("cuda", "float16")


@pytest.mark.parametrize(("kind", "pad"), [("plain", 1), ("bare", None), ("padded", 1), ("longer", 1)])
def test_a_base_that_pads_with_the_end_of_text_or_has_more_tokens_than_rows_loads_as_it_is(
    kind: str, pad: int | None, found: dict[str, Any]
) -> None:
    part = _part(found, f"load {kind}")
    rows, wanted = part["rows"]
    assert rows == wanted and part["finite"], "no row for a padding token"
    model, generation, end = part["pad"]
    assert model == generation == end and part["tokenizer_pad"] == pad
    assert part["fast"] == "_CausalLM_fast_forward", "unsloth's forward pass"


@pytest.mark.parametrize(
    ("kind", "parts"), [("tied", ["embed_tokens"]), ("untied", ["embed_tokens", "lm_head"])]
)
def test_opening_the_matrices_writes_nothing_beside_the_base(
    kind: str, parts: list[str], found: dict[str, Any]
) -> None:
    part = _part(found, f"open {kind}")
    assert part["offloads"] == "unsloth" and part["untouched"]
    assert part["path"][0] == part["path"][1] and not part["here"]
    assert part["parts"] == parts and part["dtypes"] == ["torch.float32"] and part["same"]
    assert not found["left"], "nothing in the folder that the process ran in"


def test_loss_and_gradient_of_the_added_rows_are_plain_transformers_s(found: dict[str, Any]) -> None:
    part = _part(found, "gradients")
    for mean in ("True", "False"):
        ours, theirs, apart, size = part[mean]
        assert ours == pytest.approx(theirs, rel=1e-3)
        assert size > 0.1 and apart < 5e-3, "float16 against float32"
    assert part["nats"] == pytest.approx(part["plain_nats"], rel=2e-3) and part["training"]


def test_writing_in_the_middle_of_training_leaves_it_as_it_was(found: dict[str, Any]) -> None:
    part = _part(found, "spoken")
    assert part["same_gradient"] and part["same_modes"] and part["recomputing"]
    assert part["written"] == part["by_hand"] != []


def test_borders_between_documents_are_kept_in_one_row_and_not_in_several(found: dict[str, Any]) -> None:
    """Why blocks on a GPU are plain rows (`fastvocab.train.blocks`): positions of several rows part no documents."""
    part = _part(found, "borders")
    assert part["behind"] > 0.1, "a document sees the one before it"
    assert part["packed_seq_lengths"] < 0.01 and part["positions of one row"] < 0.01
    assert part["positions of two rows"] > 0.1


@pytest.mark.parametrize(
    ("mode", "counts", "old", "new", "bits"),
    [
        ("full", 0.0, 700, 60, {"adapters", "old_rows", "new_rows"}),
        ("new_rows", 0.9, 0, 60, {"adapters", "new_rows"}),
    ],
)
def test_a_mode_trains_its_rows_alone_in_float16_under_8_bit_adam_and_loads_again(
    mode: str, counts: float, old: int, new: int, bits: set[str], found: dict[str, Any]
) -> None:
    part = _part(found, f"train {mode} {counts}")
    assert "UnslothSFTTrainer" in part["class"] and part["optimizer"].startswith("bitsandbytes.")
    assert part["scale"] == 65536, "no step was passed over"
    assert len(part["losses"]) == 2 and part["finite"]
    assert all(0 < value < 100 for value in [*part["losses"], *part["norms"]])
    assert (part["old_rows_moved"], part["new_rows_moved"]) == (old, [new, 60])
    assert set(part["bits"]) == bits
    # a matrix has moments of a byte, added rows exact ones; adapters of this size have too few weights for 8 bits
    assert part["bits"].get("old_rows", ["torch.uint8"]) == ["torch.uint8"]
    assert part["bits"].get("new_rows", ["torch.float32"]) == ["torch.float32"]
