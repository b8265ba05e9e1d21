"""The verb export: where things go, what is used again, and what is refused before any work."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from fastvocab import cli, files
from fastvocab.config import load
from fastvocab.errors import ConfigError, ModelError
from fastvocab.export import stage, targets
from fastvocab.export.gguf import BYTES
from fastvocab.plan import exports
from fastvocab.recipes import given, new_language
from fastvocab.run import Run, read_records
from tests.conftest import tiny_run


@pytest.fixture
def run(finished: Callable[[str], Path], tmp_path: Path) -> Path:
    return shutil.copytree(finished("tied"), tmp_path / "runs" / "tied")


@pytest.fixture
def export(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def call(*words: Any) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            cli.main(["export", *map(str, words)])
        return int(left.value.code or 0), capsys.readouterr().err

    return call


@pytest.fixture
def no_merging(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **named: Any) -> None:
        raise AssertionError("merged, although there is a merged model of this checkpoint")

    monkeypatch.setattr(stage.checkpoint, "merge", refuse)


def _contents(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_the_old_form_is_told_the_new_one(run: Path, export) -> None:
    code, said = export(run, "--to", "out/model")
    assert code == 2 and "--to hf --out out/model" in said
    assert not Path("out").exists()
    assert export(run)[0] == 2


def test_all_mistakes_are_told_at_once_and_nothing_is_made(run: Path, export, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "theirs.txt").write_text("kept", "utf-8")
    before = _contents(tmp_path)
    code, said = export(run, "--to", "hf", "--out", out, "--kind", "q4", "--repo", "a/b")
    assert (
        code == 2
        and "--kind q4" in said
        and "--repo" in said
        and str(out) in said
        and "there already" in said
    )
    assert _contents(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--to", "hf", "--kind", "f16"], "--kind f16 is for --to gguf"),
        (["--to", "hf", "--public"], "are for --to hub"),
        (["--to", "hub"], "--to hub without --repo"),
        (["--to", "hub", "--repo", "a/b", "--out", "x"], "--out together with --to hub"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(run: Path, export, words: list[str], why: str) -> None:
    code, said = export(run, *words, "--dry-run")
    assert code == 2 and why in said and "do:" in said


def test_what_a_finished_run_has_is_pointed_at(run: Path, export, no_merging: None) -> None:
    code, said = export(run, "--to", "hf")
    assert code == 0 and f"there already, made of this checkpoint: {run / '70-export'}" in said
    assert f"vllm serve {run / '70-export'}" in said and not (run / "exports").exists()


def test_a_merged_model_is_copied_rather_than_merged_again(
    run: Path, export, no_merging: None, tmp_path: Path
) -> None:
    out = tmp_path / "the model"
    code, said = export(run, "--to", "hf", "--out", out)
    assert code == 0, said
    made = _contents(out)
    assert made == {name: content for name, content in _contents(run / "70-export").items() if name in made}
    assert "stage.json" not in made and {"config.json", "model.safetensors", "README.md"} <= set(made)
    assert f"vllm serve '{out}'" in said, "quoted, as a shell needs it"


def test_a_damaged_model_is_not_handed_out(run: Path, export, tmp_path: Path) -> None:
    weights = run / "70-export" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    code, said = export(run, "--to", "hf")
    assert code == 5 and "not as it was written" in said
    assert export(run, "--to", "hf", "--out", tmp_path / "out")[0] == 0, "merged anew"
    assert (tmp_path / "out" / "model.safetensors").read_bytes() != bytes(content)


def test_another_checkpoint_goes_elsewhere_and_is_remembered(run: Path, export) -> None:
    code, said = export(run / "30-extend", "--to", "hf")
    place = run / "exports" / "30-extend" / "hf"
    assert code == 0 and str(place) in said and (place / "config.json").is_file()
    assert "have not been trained" in (place / "README.md").read_text("utf-8")
    assert "there already" in export(run / "30-extend", "--to", "hf")[1]
    # made of what is no longer there: neither passed off as new nor written over
    known = run / "exports" / "30-extend" / targets.MADE
    files.write_json(known, {"hf": json.loads(known.read_text("utf-8"))["hf"] | {"checkpoint": "0" * 64}})
    code, said = export(run / "30-extend", "--to", "hf")
    assert code == 2 and f"{place} is there already, of another checkpoint" in said


def test_a_checkpoint_of_no_run_has_its_exports_beside_it(run: Path, export, tmp_path: Path) -> None:
    alone = shutil.copytree(run / "40-pretrain", tmp_path / "alone")
    (alone / "stage.json").unlink()
    (alone / "log.jsonl").unlink()
    assert export(alone, "--to", "hf", "--to", "adapter")[0] == 0
    assert {p.name for p in (tmp_path / "alone-exports").iterdir()} == {"hf", "adapter", "made.json"}
    assert export(alone, "--to", "adapter", "--to", "hf", "--out", tmp_path / "both")[0] == 0
    assert {p.name for p in (tmp_path / "both").iterdir()} == {"hf", "adapter"}


def test_an_earlier_export_is_told_when_it_was_made_of_an_earlier_training(run: Path, export) -> None:
    record = run / "70-export" / "stage.json"
    data = json.loads(record.read_text("utf-8"))
    for entry in data["inputs"]:
        if entry["path"] == "40-pretrain/fastvocab.json":
            entry["sha256"] = "0" * 64
    files.write_json(record, data)
    code, said = export(run, "--to", "hf", "--dry-run")
    assert code == 0 and str(run / "exports" / "hf") in said and "there already" not in said


def test_room_is_asked_for_before_any_work(
    run: Path, export, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 1000))
    code, said = export(run, "--to", "hf", "--out", tmp_path / "out")
    assert code == 6 and "GB are free" in said and not (tmp_path / "out").exists()


def test_a_dry_run_makes_nothing(run: Path, export, tmp_path: Path) -> None:
    before = _contents(tmp_path)
    code, said = export(run, "--to", "adapter", "--to", "hf", "--dry-run")
    assert (
        code == 0
        and str(run / "exports" / "adapter") in said
        and f"there already: {run / '70-export'}" in said
    )
    assert _contents(tmp_path) == before


def test_what_fails_after_merging_is_not_merged_again(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GGUF writer is put in place here: what it does is tested by its own tests."""
    source, records = run / "40-pretrain", read_records(run)
    kept = tmp_path / "saves" / "key"

    def fails(model: Path, out: Path, kind: str) -> dict[str, Any]:
        out.write_bytes(b"half")
        raise ModelError("the tokenizer read back is not ours")

    def works(model: Path, out: Path, kind: str) -> dict[str, Any]:
        assert (model / "config.json").is_file()
        out.write_bytes(b"GGUF")
        return {"file": out.name, "kind": kind}

    asked: dict[str, Any] = {
        "source": source,
        "records": records,
        "to": ("hf", "gguf"),
        "name": "x",
        "kept": kept,
    }
    monkeypatch.setattr(stage, "write_gguf", fails)
    with pytest.raises(ModelError), files.atomic_folder(tmp_path / "out") as folder:
        stage.export(folder, **asked)
    assert not (tmp_path / "out").exists() and (kept / "model.safetensors").is_file()
    monkeypatch.setattr(stage, "write_gguf", works)
    monkeypatch.setattr(stage.checkpoint, "merge", fails)
    with files.atomic_folder(tmp_path / "out") as folder:
        figures = stage.export(folder, **asked)
    made = _contents(tmp_path / "out")
    assert made["x-Q8_0.gguf"] == b"GGUF" and figures["gguf"]["kind"] == "q8_0" and figures["rows"] == 832
    assert made["model.safetensors"] == (run / "70-export" / "model.safetensors").read_bytes()
    assert b"- gguf\n" in made["README.md"] and b"llama-cli -m x-Q8_0.gguf" in made["README.md"]
    assert not list(kept.parent.iterdir())


def test_where_it_is_uploaded_to_is_no_reason_to_export_again() -> None:
    def settings(*words: str) -> dict[str, Any]:
        (step,) = given.export_steps(Run(load(None, list(words))), "pretrain")
        return step.settings

    old = {"to": ["hf"]}  # what a record of before these formats has
    assert settings() == settings("export.to=[hub]", "export.repo=a/b", "export.public=true") == old
    assert (
        settings("export.to=[gguf,hf]")
        == settings("export.to=[hf,gguf]")
        == {"to": ["hf", "gguf"], "kind": "q8_0"}
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["export.to=[hub]"], "hub needs a name"),
        (["export.repo=a/b"], "repo would do nothing"),
        (["export.public=true"], "public would do nothing"),
        (["export.kind=f16"], "kind would do nothing"),
        (["export.kind=q4_0", "export.to=[gguf]"], "q4_0"),
        (["export.to=[gguff]"], "gguff"),
    ],
)
def test_keys_that_do_not_fit_are_refused(words: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load(None, words)


def test_an_upload_that_could_not_be_is_told_before_training(
    finished: Callable[[str], Path], text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    base = finished("tied").parents[1] / "base"
    words = tiny_run(base, text_folder, tmp_path / "runs", "export.to=[hf,hub]", "export.repo=me/x")
    assert new_language.main(words) == 2
    said = capsys.readouterr().err
    assert "no Hugging Face token" in said and not (tmp_path / "runs").exists()
    assert new_language.main([*words, "--dry-run"]) == 0, "a plan asks nobody"
    wrong = [word for word in words if "export.repo" not in word]
    assert new_language.main([*wrong, "export.repo=nowhere", "--dry-run"]) == 2
    assert "no name of a repository" in capsys.readouterr().err


def test_an_adapter_of_layers_that_train_themselves_is_refused_before(tmp_path: Path) -> None:
    config = load(None, ["export.to=[hf,adapter]", "pretrain.layers=full", f"runs={tmp_path}"])
    with pytest.raises(ConfigError, match=r"pretrain\.layers=full"):
        exports.check(config, None, reach=False)


def test_the_plan_counts_every_file() -> None:
    def disk(*words: str) -> int:
        return exports.disk(load(None, list(words)).export, 1_000_000, 40_000, 10_000)

    assert disk() == 2_010_000
    assert disk("export.to=[hf,gguf]") == 2_010_000 + 1_062_500 + 10_000
    assert disk("export.to=[hf,gguf]", "export.kind=f16") == 4_020_000
    assert disk("export.to=[adapter]") == 50_000


def test_gguf_and_ollama_share_a_file_and_are_found_again(run: Path, export, no_merging: None) -> None:
    code, said = export(run, "--to", "ollama", "--to", "gguf")
    file, folder = run / "exports" / "tied-Q8_0.gguf", run / "exports" / "ollama"
    assert code == 0, said
    assert {p.name for p in folder.iterdir()} == {"Modelfile", "tied-Q8_0.gguf"}
    assert (folder / "tied-Q8_0.gguf").stat().st_ino == file.stat().st_ino, "one file under two names"
    assert "FROM ./tied-Q8_0.gguf" in (folder / "Modelfile").read_text("utf-8"), "the folder can be moved"
    name = "tied-q8_0"
    assert f"next    llama-cli -m {file}" in said
    assert f"next    ollama create {name} -f {folder}/Modelfile && ollama run {name}" in said
    code, said = export(run, "--to", "ollama", "--to", "gguf")
    assert code == 0 and said.count("there already") == 2 and f"ollama run {name}" in said
    # of another precision it is another file; the folder of the first is neither written over nor taken for it
    code, said = export(run, "--to", "gguf", "--to", "ollama", "--kind", "f16")
    assert code == 2 and f"{folder} is there already" in said and "F16" not in said
    assert export(run, "--to", "gguf", "--kind", "f16")[0] == 0
    assert (run / "exports" / "tied-F16.gguf").stat().st_size > file.stat().st_size
    assert {p.name for p in (run / "exports").iterdir()} == {
        file.name,
        "tied-F16.gguf",
        "ollama",
        "made.json",
    }
    assert "there already, made of this checkpoint" in export(run, "--to", "gguf")[1], (
        "the first is known as well"
    )


def test_ollama_alone_has_its_file_in_its_folder(run: Path, export, no_merging: None, tmp_path: Path) -> None:
    assert export(run, "--to", "ollama", "--out", tmp_path / "out")[0] == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"Modelfile", "tied-Q8_0.gguf"}


def test_a_stage_with_everything_in_it(run: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    to = ("hf", "gguf", "ollama", "adapter")
    asked: dict[str, Any] = {
        "source": run / "40-pretrain",
        "records": read_records(run),
        "to": to,
        "name": "x",
    }
    with files.atomic_folder(tmp_path / "out") as folder:
        figures = stage.export(folder, **asked, kept=tmp_path / "saves" / "key")
    out = tmp_path / "out"
    assert {"x-Q8_0.gguf", "ollama", "adapter", "config.json", "README.md"} <= {p.name for p in out.iterdir()}
    assert "FROM ./x-Q8_0.gguf" in (out / "ollama" / "Modelfile").read_text("utf-8")
    assert AutoModelForCausalLM.from_pretrained(out).config.vocab_size == 832
    assert str(tmp_path) not in json.dumps(figures), "no place of the machine in a record"
    assert figures["gguf"]["kind"] == "q8_0" and figures["adapter"]["rows"] == {"embed_tokens": 820}


def test_ollama_without_a_chat_template_is_refused_before_training(tmp_path: Path) -> None:
    from fastvocab.model import reference
    from tests.conftest import make_llama

    base = make_llama(tmp_path / "base")
    config = load(None, ["export.to=[hf,ollama]", f"runs={tmp_path}"])
    exports.check(config, reference.resolve(str(base)), reach=True)
    (base / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="has no chat template"):
        exports.check(config, reference.resolve(str(base)), reach=False)
    chats = load(None, ["export.to=[hf,ollama]", f"runs={tmp_path}", "instruct.train=chat.jsonl"])
    exports.check(chats, reference.resolve(str(base)), reach=False)


def test_every_kind_of_file_is_one_that_is_known() -> None:
    from typing import get_args

    from fastvocab.config.models import ExportSection

    fields = ExportSection.model_fields
    assert set(get_args(fields["kind"].annotation)) == set(targets.KINDS) == set(BYTES)
    assert set(get_args(get_args(fields["to"].annotation)[0])) == set(targets.TARGETS)
