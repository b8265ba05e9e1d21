"""A checkpoint as a base, and outside of any run: what is kept, refused, found again and exported."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from fastvocab import cli
from fastvocab.config import load
from fastvocab.config.models import LoraSection
from fastvocab.errors import CheckpointError, ConfigError, ModelError, ResourceError
from fastvocab.files import read_json
from fastvocab.model import manifest, reference
from fastvocab.plan import bases
from fastvocab.recipes import common, given, new_language
from fastvocab.run import Record, Run, last_checkpoint, records_around
from fastvocab.train.stage import own_adapter
from tests.conftest import tiny_run
from tests.made_records import make

LORA = {"r": 8, "alpha": 16, "dropout": 0.0, "targets": ["v_proj", "q_proj"]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVOCAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(reference, "_SEEN", {})


@pytest.fixture
def model(tied_llama: Path, tmp_path: Path) -> Path:
    """A base of one's own, to be changed or moved."""
    return Path(shutil.copytree(tied_llama, tmp_path / "model"))


def made_checkpoint(folder: Path, base: Path, lora: dict[str, Any] | None = None) -> Path:
    """A whole checkpoint as far as its manifest goes; its weights are never read here."""
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*config.json", "*.safetensors"))
    shutil.copy(base / "tokenizer_config.json", folder)
    (folder / manifest.ROWS).write_bytes(b"")
    if lora:
        (folder / "adapter_model.safetensors").write_bytes(b"")
        (folder / "adapter_config.json").write_text("{}")
    rows = {"base_rows": 700, "new_first": 700, "new_stop": 800, "tokens": 800, "rows": 800, "unused": []}
    found = reference.resolve(str(base)).record()
    manifest.write(folder, {
        "stage": "pretrain", "base": found, "vocabulary": rows, "tied": True, "init": "mean",
        "extensions": [{"first": 700, "stop": 800, "init": "mean"}], "rows": {"embed_tokens": 100},
        "lora": lora, "embeddings": "full", "dtype": "float32", "load_in_4bit": False,
        "lineage": [{"stage": "extend", "checkpoint": "0" * 64, "tokens_after": 4096}],
        "probe": {"ids": [1, 2], "sha256": "0" * 64, "places": [0], "logits": [[0.0]]},
    })  # fmt: skip
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error of ``fastvocab``."""
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return int(left.value.code or 0), captured.out, " ".join(captured.err.split())


def everything(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("named", ["run", "checkpoint", "export"])
@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_a_run_does_not_stand_on_its_own_folder(
    named: str, dry: list[str], model: Path, text_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    runs = tmp_path / "runs"
    checkpoint = made_checkpoint(runs / "tiny" / "40-pretrain", model)
    shutil.copytree(model, runs / "tiny" / "70-export")
    (checkpoint / "stage.json").write_text(
        json.dumps({"schema": 1, "stage": "pretrain", "inputs": [], "outputs": []})
    )
    base = {"run": runs / "tiny", "checkpoint": checkpoint, "export": runs / "tiny" / "70-export"}[named]
    before = everything(runs)
    code = new_language.main([*tiny_run(base, text_folder, runs), *dry])
    err = " ".join(capsys.readouterr().err.split())
    assert code == 2 and "folder of the run itself" in err and "name=tiny-2" in err
    assert everything(runs) == before
    assert new_language.main([*tiny_run(base, text_folder, runs), "name=tiny-2", "--dry-run"]) == 0


def test_an_adapter_goes_on_and_what_was_set_otherwise_is_refused() -> None:
    kept = own_adapter(LoraSection(), LORA)
    assert (kept.r, kept.alpha, kept.targets) == (8, 16, ("v_proj", "q_proj"))
    assert own_adapter(LoraSection(r=8, targets=("q_proj", "v_proj")), LORA).alpha == 16
    with pytest.raises(
        ConfigError, match=r"pretrain\.lora\.alpha is 64, .* has 16; pretrain\.lora\.r is 32, .* has 8"
    ):
        own_adapter(LoraSection(r=32, alpha=64), LORA)


def test_the_plan_shows_and_the_stages_record_the_adapter_that_is_used(
    model: Path, text_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = made_checkpoint(tmp_path / "first", model, LORA)
    arguments = [a for a in tiny_run(base, text_folder, tmp_path / "runs") if "lora" not in a]
    run = Run(load(None, arguments))
    common.execute(run, new_language.steps, dry_run=True)
    assert "that of the checkpoint goes on (r=8, alpha=16)" in capsys.readouterr().err
    (pretrain,) = (step for step in new_language.steps(run) if step.name == "pretrain")
    assert pretrain.settings["lora"] == LORA
    code = new_language.main([*arguments, "pretrain.lora.r=4", "--dry-run"])
    assert code == 2 and "pretrain.lora.r is 4" in capsys.readouterr().err
    from fastvocab.config.load import dump

    (tmp_path / "again.yaml").write_text(dump(run.config))  # what a run writes down can be run again
    assert new_language.main(["--config", str(tmp_path / "again.yaml"), "--dry-run"]) == 0


@pytest.mark.parametrize(
    ("name", "counts"),
    [("chat_template.jinja", True), ("tokenizer.json", True), ("merges.txt", True), ("README.md", False)],
)
def test_the_base_s_tokenizer_and_chat_template_count_and_its_place_does_not(
    name: str, counts: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(given, "_resolve", reference.resolve)

    def key(base: Path) -> str:
        run = Run(load(None, [f"model.base={base}", f"runs={tmp_path / 'runs'}"]))
        run.records["corpus"] = Record(tmp_path / "10-corpus", {"outputs": [], "inputs": []})
        (step,) = (step for step in new_language.steps(run) if step.name == "tokenizer")
        return run._key(step)[0]

    before = key(model)
    other = Path(shutil.copytree(model, tmp_path / "other"))
    config = json.loads((other / "tokenizer_config.json").read_text())
    (other / "tokenizer_config.json").write_text(json.dumps(config | {"name_or_path": "/elsewhere"}))
    assert key(other) == before
    path = model / name
    path.write_text((path.read_text() if path.is_file() else "") + " ")
    assert (key(model) != before) == counts


def test_a_moved_base_is_remembered_by_inspect(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tied_llama: Path
) -> None:
    checkpoint = made_checkpoint(tmp_path / "first", model)
    code, out, err = said(capsys, "inspect", str(checkpoint), "--json")
    assert code == 0 and json.loads(out)["base_folder"] == str(model)
    moved = model.rename(tmp_path / "moved")
    reference._SEEN.clear()
    code, out, err = said(capsys, "inspect", str(checkpoint))
    assert code == 0 and "not on this machine" in err and "--base DIR" in err
    code, out, err = said(capsys, "inspect", str(checkpoint), "--base", str(checkpoint.parent / "nowhere"))
    assert code == 4
    code, out, err = said(capsys, "inspect", str(checkpoint), "--base", str(moved))
    assert code == 0 and f"its base is in {moved}" in err
    reference._SEEN.clear()  # another command
    assert reference.resolve(str(checkpoint)).folder == moved
    code, out, err = said(capsys, "inspect", str(checkpoint), "--json")
    assert json.loads(out)["base_folder"] == str(moved)


def test_a_checkpoint_of_no_run_is_exported_with_what_it_knows(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, to = made_checkpoint(tmp_path / "first", model, LORA), tmp_path / "out"
    figures = {"dtype": "bfloat16", "rows": 800, "parameters": 12_345, "rounding": 0.0}
    monkeypatch.setattr("fastvocab.model.checkpoint.merge", lambda *a, **k: figures)
    monkeypatch.setattr("fastvocab.model.backend.device", lambda: "cpu")
    code, _, err = said(capsys, "export", str(checkpoint), "--to", "hf", "--out", str(to))
    assert code == 0 and "12,345 parameters" in err
    text = (to / "README.md").read_text()
    assert ModelCard(text).data.base_model == "model"
    for part in ("100 tokens", "`mean`", "LoRA of rank 8", "4,096 tokens", "12,345", "nothing was measured"):
        assert part in text
    assert str(tmp_path) not in text and "continues text" in text
    (to / "chat_template.jinja").write_text("{{ messages }}")
    from fastvocab.export.card import card_of_checkpoint

    facts = manifest.read(checkpoint)
    assert "has a chat template" in card_of_checkpoint(to, facts, figures)
    assert "have not been trained" in card_of_checkpoint(to, {**facts, "stage": "extend"}, figures)


def test_a_card_says_nothing_of_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    assert set(records_around(run / "40-pretrain")) == {"corpus", "tokenizer", "extend", "pretrain"}
    assert "evaluate" in records_around(run / "50-instruct")
    assert not records_around(Path(shutil.copytree(run / "40-pretrain", tmp_path / "alone")))


def test_a_run_that_is_mistyped_is_no_name_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for fetch in (True, False):
        with pytest.raises(ModelError, match="no tinny in the folder runs") as caught:
            bases.find_base(load(None, ["model.base=runs/tinny"]), fetch=fetch)
        assert "did you mean runs/tiny?" in str(caught.value)
    assert bases.find_base(load(None, ["model.base=org/tinny"]), fetch=False) is None
    assert bases.find_base(load(None, ["model.base=runs/tinny@main"]), fetch=False) is None


def test_what_is_no_checkpoint_is_said_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "unlike").mkdir()
    (tmp_path / "file").write_text("")
    for name, expected in (
        ("tinny", f"did you mean {tmp_path / 'tiny'}"),
        ("file", "is a file"),
        ("tiny", "no checkpoint"),
    ):
        with pytest.raises(CheckpointError, match=expected) as caught:
            last_checkpoint(tmp_path / name)
        assert "unlike" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ResourceError, match="cannot be read: Is a directory"):
        read_json(tmp_path)
    assert common.guarded(lambda: (tmp_path / "none").read_text()) == 6
    assert f"error: {tmp_path / 'none'}: No such file" in capsys.readouterr().err

    def ours() -> None:
        raise OSError("a mistake in the program")

    with pytest.raises(OSError, match="in the program"):
        common.guarded(ours)
