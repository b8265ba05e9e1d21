"""The control on a tiny real run: trained, measured, interrupted, gone on with."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from fastvocab.config.models import PretrainSection
from fastvocab.control import arms
from fastvocab.control.arms import Arm
from fastvocab.control.compare import Spent, compare
from fastvocab.errors import Stopped
from fastvocab.model import backend, checkpoint, manifest, reference, text
from fastvocab.recipes import new_language
from fastvocab.run import Record, read_records
from fastvocab.train import pretrain as pretraining
from tests.conftest import tiny_run

SECONDS = 2.5


@pytest.fixture(scope="module")
def finished(tied_llama: Path, text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without the control, up to its evaluation."""
    runs = tmp_path_factory.mktemp("runs")
    assert new_language.main(tiny_run(tied_llama, text_folder, runs, *SETTINGS)) == 0
    return runs / "tiny"


SETTINGS = [
    "instruct.train=[]", "export.to=[]", "pretrain.embeddings=new_rows", "pretrain.steps=24", "pretrain.evaluations=3",
    "pretrain.evaluation_share=1.0", "corpus.heldout=0.2", "evaluate.heldout_bytes=9000",
]  # fmt: skip


@pytest.fixture(scope="module")
def compared(
    finished: Path, tied_llama: Path, text_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same with the control; the time of each arm is set, as starting this process takes longer than they need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Spent, "of", lambda records: Spent(0.3, 0.4, 0.3, SECONDS - 1))
        more = [*SETTINGS, "evaluate.control=true"]
        assert new_language.main(tiny_run(tied_llama, text_folder, finished.parent, *more)) == 0
    return finished


def test_both_arms_are_trained_for_the_time_and_measured_on_the_same_text(compared: Path) -> None:
    figures = read_records(compared)["evaluate"].figures
    found = figures["control"]
    assert found == json.loads((compared / "60-evaluate" / "control.json").read_text(encoding="utf-8"))
    assert list(found["arms"]) == ["extended", "control", "plain"] and found["seconds"] == SECONDS
    assert list(figures["points"]) == ["base", "extend", "pretrain", "control", "plain"]
    for name in ("control", "plain"):
        arm, taken = found["arms"][name], found["preparation"][name]
        assert max(0.1, SECONDS - taken) <= arm["seconds_training"] < SECONDS + 10
        assert arm["tokens"] > 0 and arm["bytes"] > 0 and arm["peak_memory_bytes"] > 0
        assert len(arm["curve"]) >= (2 if name == "control" else 1)
    assert found["preparation"]["control"] == 0 < found["preparation"]["plain"]
    sizes = {p["target"]["bytes"] for p in figures["points"].values()}
    assert len(sizes) == 1, "all points are scored on the same text"
    assert not (compared / ".saves" / "evaluate").exists()


def test_the_control_has_the_tokens_of_the_base_and_the_plain_way_added_ones(compared: Path) -> None:
    points = read_records(compared)["evaluate"].figures["points"]
    tokens = {name: point["target"]["tokens"] for name, point in points.items()}
    assert tokens["control"] == tokens["base"] > tokens["plain"]
    assert "new_tokens" not in points["control"]["target"]
    assert 0 < points["plain"]["target"]["new_tokens"]["used_share"] <= 1
    assert 0 < points["pretrain"]["target"]["new_tokens"]["share_of_tokens"] <= 1
    generated = points["pretrain"]["generation"]
    assert 0 <= generated["new_tokens"] <= generated["tokens"] and points["base"]["generation"] is None
    for point in points.values():
        timed = point["decoding"]
        assert timed["seconds"] == pytest.approx(timed["step_seconds"] * point["target"]["tokens"])
        assert timed["measured_steps"] >= 19 and point["watched_bits_per_byte"] > 0
        assert point["forgetting_percent"]["low"] <= point["forgetting_percent"]["percent"]
    base = points["base"]["change"]["target"]
    assert base == {"ratio": 1.0, "low": 1.0, "high": 1.0}
    learnt = points["pretrain"]["change"]["target"]
    assert learnt["low"] < learnt["ratio"] < learnt["high"]


def test_the_curves_begin_at_the_untrained_models(compared: Path) -> None:
    figures = read_records(compared)["evaluate"].figures
    curves = {name: arm["curve"] for name, arm in figures["control"]["arms"].items()}
    assert curves["extended"][0]["seconds"] == pytest.approx(1.0) and curves["extended"][0]["bytes"] == 0
    assert curves["control"][0]["seconds"] == 0 and curves["control"][0]["tokens"] == 0
    assert curves["control"][0]["target"] == figures["points"]["base"]["watched_bits_per_byte"]
    for curve in curves.values():
        assert [m["seconds"] for m in curve] == sorted(m["seconds"] for m in curve)
        assert [m["bytes"] for m in curve] == sorted(m["bytes"] for m in curve)
    last = curves["control"][-1]["target"]
    assert last == pytest.approx(figures["points"]["control"]["watched_bits_per_byte"], rel=1e-3), (
        "the same text"
    )
    assert figures["control"]["equal_time"] and figures["control"]["equal_bytes"]


def test_the_control_is_reused_with_everything_else(
    compared: Path, tied_llama: Path, text_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [*SETTINGS, "evaluate.control=true"]
    assert new_language.main(tiny_run(tied_llama, text_folder, compared.parent, *more)) == 0
    assert capsys.readouterr().err.count("reused") == 5


def _train(name: str, run: Path, saves: Path, base: Path, **options: Any) -> Arm:
    section = PretrainSection(block=64, batch=2, embeddings="new_rows", save_minutes=0.0001, lora={"r": 4})
    given: dict[str, Any] = {
        "base": reference.resolve(str(base)), "tokenizer": run / "20-tokenizer", "corpus": run / "10-corpus",
        "section": section, "seconds": 2.0, "watched_bytes": None, "key": "k", "saves": saves, "seed": 1,
        "load_in_4bit": False,
    }  # fmt: skip
    return arms.train(name, **(given | options))


def test_an_arm_goes_on_from_its_save_and_a_finished_one_is_left_alone(
    finished: Path, tied_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pretraining.pretrain

    def stopped_at_the_end(folder: Path, **options: Any) -> dict[str, Any]:
        real(folder, **options)
        raise Stopped(15)

    monkeypatch.setattr(arms, "pretrain", stopped_at_the_end)
    with pytest.raises(Stopped):
        _train("control", finished, tmp_path / "control", tied_llama)
    assert (tmp_path / "control" / "start" / "arm.json").is_file()
    assert not (tmp_path / "control" / "done").exists()
    newest = max((tmp_path / "control" / "steps").glob("step-*"))
    history = json.loads((newest / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    before = [(entry["step"], entry["seconds"], entry["loss"]) for entry in history if "loss" in entry]
    begun = (tmp_path / "control" / "start" / "fastvocab.json").stat().st_mtime_ns
    monkeypatch.setattr(arms, "pretrain", real)
    arm = _train("control", finished, tmp_path / "control", tied_llama)
    log = [json.loads(line) for line in (arm.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    after = [(entry["step"], entry["seconds"], entry["loss"]) for entry in log if "loss" in entry]
    assert len(before) > 1 and after[: len(before)] == before, (
        "it went on from the save: no clock runs alike twice"
    )
    assert (tmp_path / "control" / "start" / "fastvocab.json").stat().st_mtime_ns == begun, "nor made twice"
    assert not (tmp_path / "control" / "steps").exists()

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(arms, "pretrain", never)
    assert _train("control", finished, tmp_path / "control", tied_llama).figures == arm.figures
    with pytest.raises(AssertionError, match="trained again"):
        _train("control", finished, tmp_path / "control", tied_llama, key="another")


def test_the_plain_way_is_unsloth_s_own(finished: Path, tied_llama: Path, tmp_path: Path) -> None:
    """Its checkpoint against AddedTokens and ``add_new_tokens`` called here, its adapter against rsLoRA of PEFT."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    backend.unsloth()
    from unsloth_zoo.tokenizer_utils import add_new_tokens

    arm = _train("plain", finished, tmp_path / "plain", tied_llama, seconds=0.5)
    model, tok = AutoModelForCausalLM.from_pretrained(tied_llama), AutoTokenizer.from_pretrained(tied_llama)
    rows = [
        json.loads(line) for line in (finished / "20-tokenizer" / "new_tokens.jsonl").open(encoding="utf-8")
    ]
    texts = [row["text"] for row in rows if (row["text"] or "").strip()]
    add_new_tokens(model, tok, new_tokens=texts)
    start = tmp_path / "plain" / "start"
    mine = text.tokenizer(start)
    sentence = "Мова народу, and English too."
    assert mine(sentence).input_ids == tok(sentence).input_ids
    assert (
        arm.figures["added_tokens"]
        == len(texts)
        == len(mine) - len(AutoTokenizer.from_pretrained(tied_llama))
    )
    live, _ = checkpoint.load(start)
    assert torch.allclose(live.get_input_embeddings().weight, model.get_input_embeddings().weight, atol=1e-6)
    made = manifest.read(arm.folder)["lora"]
    published = get_peft_model(
        model, LoraConfig(r=128, lora_alpha=32, use_rslora=True, target_modules=["q_proj"])
    )
    scaling = next(
        m.scaling["default"] for m in published.modules() if isinstance(getattr(m, "scaling", None), dict)
    )
    assert made["r"] == 128 and made["alpha"] / made["r"] == pytest.approx(scaling)
    used = arm.figures["settings"]
    assert (used["learning_rate"], used["embedding_learning_rate"], used["schedule"]) == (
        5e-5,
        1e-5,
        "linear",
    )
    assert used["new_rows_learning_rate"] == 1e-5 and used["embeddings"] == "full"
    assert used["count_targets"] == 0, "counts are of our way alone"


@pytest.mark.parametrize(("mode", "wanted"), [("new_rows", "frozen"), ("frozen", "frozen"), ("full", "full")])
def test_the_control_trains_what_the_run_does_but_new_rows(
    mode: str, wanted: str, finished: Path, untied_llama: Path, tmp_path: Path
) -> None:
    section = PretrainSection(block=64, batch=2, embeddings=mode, save_minutes=1000, lora={"r": 4})
    arm = _train("control", finished, tmp_path / "control", untied_llama, seconds=0.5, section=section)
    found = manifest.read(arm.folder)
    assert found["vocabulary"]["new_first"] == found["vocabulary"]["new_stop"] == found["vocabulary"]["rows"]
    assert found["embeddings"] == wanted
    assert (found["rows"].get("lm_head", 0) > 0) == (wanted == "full")
    assert arm.figures["preparation"] == 0
    assert arm.figures["settings"]["count_targets"] == section.count_targets > 0
    assert arm.figures["data"]["counted_tokens"] > 0, "it has its own counts"
    model, tok = checkpoint.load(arm.folder)
    assert len(tok) == len(model.get_input_embeddings().weight)


def test_time_is_counted_from_the_records(tmp_path: Path) -> None:
    def record(seconds: float, **figures: Any) -> Record:
        return Record(tmp_path, {"seconds": seconds, "figures": figures})

    records = {"tokenizer": record(20, seconds_importing=8), "extend": record(10),
               "pretrain": record(100, seconds_training=80, data={"seconds_counting": 3})}  # fmt: skip
    spent = Spent.of(records)
    assert spent == Spent(12, 10, 3, 80) and spent.preparation == 25 and spent.all == 105
    plain = records | {"pretrain": record(30, seconds_training=80, data={})}
    assert Spent.of(plain).all == 102


def _arm(folder: Path, marks: list[tuple[float, int, float]], **more: Any) -> Arm:
    folder.mkdir()
    lines = [{"step": 1, "loss": 2.0, "seconds": 1.0}]
    lines += [
        {"seconds": s, "bytes": b, "tokens": b, "target_bits_per_byte": bits, "original_bits_per_byte": 1.0}
        for s, b, bits in marks
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    figures = {
        "seconds_training": marks[-1][0],
        "bytes": marks[-1][1],
        "tokens": 7,
        "steps": 3,
        "settings": {},
    }
    return Arm(folder, figures | more)


def test_three_arms_beside_each_other(tmp_path: Path) -> None:
    own = _arm(tmp_path / "own", [(20, 2000, 1.5), (40, 4000, 1.0)])
    trained = {
        "control": _arm(tmp_path / "control", [(30, 1000, 1.4), (60, 2000, 1.2)], preparation=0.0),
        "plain": _arm(tmp_path / "plain", [(55, 3000, 1.8)], preparation=5.0),
    }

    def point(bits: float, watched: float) -> dict[str, Any]:
        target = {
            "bits_per_byte": bits,
            "interval": [1, 2],
            "documents": 12,
            "too_few_documents": False,
            "tokens": 9,
        }
        rest = {"original": None, "forgetting_percent": None, "decoding": {"seconds": 4.0}}
        return {"target": target, "watched_bits_per_byte": watched} | rest

    points = {"base": point(2.1, 2.0), "extend": point(1.9, 1.8), "pretrain": point(1.1, 1.0),
              "control": point(1.25, 1.2), "plain": point(1.9, 1.8)}  # fmt: skip
    nats = {"pretrain": [1.0, 2.0, 3.0], "control": [1.1, 2.2, 3.3], "plain": [2.0, 4.0, 6.0]}
    found = compare(Spent(8, 7, 5, 40), own, trained, points, nats, seed=1)
    assert found["seconds"] == 60
    # extended: (20, 1.8) (40, 1.5) (60, 1.0); control: (0, 2.0) (30, 1.4) (60, 1.2): 1.5-(t-40)/40 = 1.4-(t-30)/150
    assert found["crossover_seconds"] == pytest.approx(40 + (1.5 - 4 / 3) / (1 / 40 - 1 / 150))
    assert found["reaches_control_seconds"] == {"extended": pytest.approx(52), "control": 60, "plain": None}
    assert found["equal_time"][-1] == {"seconds": 60, "extended": 1.0, "control": 1.2, "plain": 1.8}
    at_2000 = next(row for row in found["equal_bytes"] if row["bytes"] == 2000)
    assert (at_2000["extended"], at_2000["control"]) == (1.5, 1.2)
    assert found["compared"]["control"] == {k: pytest.approx(1 / 1.1) for k in ("ratio", "low", "high")}
    assert found["compared"]["plain"]["ratio"] == pytest.approx(0.5)
    assert math.isclose(found["arms"]["extended"]["bytes_per_second"], 100)


def test_where_no_evaluation_came_about_counts_are_left_by_the_control_as_by_the_run() -> None:
    own = PretrainSection(evaluations=5, patience=None)
    section = arms.control_section(own, 60, None)
    assert section.evaluations == 5 and section.evaluation_share == 0 and section.minutes == 1
    assert arms.control_section(own.model_copy(update={"evaluations": 0}), 60, None).evaluations == 0


@pytest.mark.parametrize("mode", ["full", "new_rows"])
def test_the_rows_of_an_earlier_language_are_old_ones_in_the_control(
    mode: str, finished: Path, tmp_path: Path
) -> None:
    first = finished / "40-pretrain"
    section = PretrainSection(block=64, batch=2, embeddings=mode, save_minutes=1000, lora={"r": 4})
    arm = _train("control", finished, tmp_path / "control", first, seconds=0.5, section=section)
    found = manifest.read(arm.folder)
    assert found["vocabulary"]["new_first"] == found["vocabulary"]["new_stop"]
    log = [json.loads(line) for line in (arm.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = {key for entry in log for key in entry if key.endswith("learning_rate")}
    assert rates == {"learning_rate"} | ({"embedding_learning_rate"} if mode == "full" else set())


@pytest.mark.parametrize("name", ["control", "plain"])
def test_a_base_that_is_a_checkpoint_keeps_its_rows_and_its_adapter(
    name: str, finished: Path, tmp_path: Path
) -> None:
    """As in a second language: both arms go on from the first one's checkpoint."""
    first = finished / "40-pretrain"
    before = manifest.read(first)
    arm = _train(name, finished, tmp_path / name, first, seconds=0.5)
    found = manifest.read(arm.folder)
    assert found["lora"] == before["lora"] and found["base"]["fingerprint"] == before["base"]["fingerprint"]
    assert len(found["lineage"]) > len(before["lineage"])
    assert found["extensions"][: len(before["extensions"])] == before["extensions"]
    added = found["vocabulary"]["tokens"] - before["vocabulary"]["tokens"]
    assert added == arm.figures.get("added_tokens", 0) and (added > 0) == (name == "plain")
