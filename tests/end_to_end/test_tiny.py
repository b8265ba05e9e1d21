"""The whole line on tiny real models, through the command line."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastvocab.config import STAGES
from fastvocab.recipes import new_language
from fastvocab.run import last_checkpoint, read_records
from tests.conftest import CHAT_TEMPLATE, tiny_run, tune_llama

RECIPE = [sys.executable, "-m", "fastvocab.recipes.new_language"]


@pytest.fixture(scope="module")
def finished(
    tied_llama: Path, text_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A finished run and what it printed."""
    runs = tmp_path_factory.mktemp("runs")
    done = subprocess.run(
        [*RECIPE, *tiny_run(tied_llama, text_folder, runs)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == ""
    return runs / "tiny", done.stderr


def test_all_seven_stages_leave_their_record(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    records = read_records(folder)
    assert tuple(records) == STAGES
    assert all(r.data["status"] == "done" and r.data["outputs"] for r in records.values())
    export = records["export"]
    assert export.data["base"]["name"] == "./model", "what is handed out tells nothing of this machine"
    machine = str(folder.parent.parent).encode()
    assert not [p.name for p in export.folder.iterdir() if machine in p.read_bytes()]
    assert (folder / "report.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert not (folder / ".saves" / "pretrain").exists()


def test_the_end_is_a_table_and_the_command_to_go_on_with(finished: tuple[Path, str]) -> None:
    folder, said = finished
    for part in (
        "base",
        "extend",
        "pretrain",
        "instruct",
        "Bits per byte",
        f'fastvocab generate {folder} "..."',
    ):
        assert part.lower() in said.lower()
    assert "\x1b" not in said, "no terminal, no escape codes"


def test_training_lowers_the_loss_and_new_tokens_shorten_the_text(finished: tuple[Path, str]) -> None:
    records = read_records(finished[0])
    points = records["evaluate"].figures["points"]
    assert points["extend"]["target"]["tokens"] < 0.7 * points["base"]["target"]["tokens"]
    assert points["base"]["target"]["bytes"] == points["pretrain"]["target"]["bytes"]
    assert points["extend"]["original"]["tokens"] == points["base"]["original"]["tokens"]
    log = [json.loads(line) for line in (finished[0] / "40-pretrain" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [1, 2, 3, 4, 5, 6]
    assert points["pretrain"]["target"]["bits_per_byte"] < points["extend"]["target"]["bits_per_byte"]


def test_the_export_opens_in_plain_transformers_and_generates(finished: tuple[Path, str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = finished[0] / "70-export"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("Мова народу", return_tensors="pt").input_ids
    with torch.inference_mode():
        out = model.generate(ids, max_new_tokens=5, do_sample=False)
    assert out.shape[1] > ids.shape[1] and int(out.max()) < len(tokenizer)
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("---\n")


def test_steps_of_arms_can_be_timed_in_turns(finished: tuple[Path, str]) -> None:
    script = Path(__file__).parents[2] / "scripts" / "bench_steps.py"
    arms = ["extended", "control"]  # a process each, which imports unsloth
    command = [sys.executable, str(script), str(finished[0]), "--steps", "3", "--arms", *arms, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    steps = json.loads(done.stdout)["steps"]
    assert {name: len(taken) for name, taken in steps.items()} == dict.fromkeys(arms, 3)
    order = sorted((*step, name) for name, taken in steps.items() for step in taken)
    assert [name for *_, name in order] == arms * 3
    assert all(end <= following for (_, end, _), (following, *_) in itertools.pairwise(order)), (
        "one at a time"
    )


def test_the_same_command_reuses_everything(
    finished: tuple[Path, str], tied_llama: Path, text_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished[0].glob("*/stage.json")}
    assert new_language.main(tiny_run(tied_llama, text_folder, finished[0].parent)) == 0
    assert capsys.readouterr().err.count("reused") == len(STAGES)
    assert (
        new_language.main([*tiny_run(tied_llama, text_folder, finished[0].parent), "--dry-run", "--fresh"])
        == 0
    )
    said = capsys.readouterr().err
    assert "the earlier run will be kept in" in said and "tiny.1" in said and "reuse" not in said
    assert before == {p: p.stat().st_mtime_ns for p in finished[0].glob("*/stage.json")}


def test_the_config_it_leaves_is_re_runnable(
    finished: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert new_language.main(["--config", str(finished[0] / "config.yaml")]) == 0
    assert capsys.readouterr().err.count("reused") == len(STAGES)


def test_a_moved_run_is_gone_on_with_where_its_text_is_not(
    finished: tuple[Path, str], tied_llama: Path, text_folder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(finished[0], tmp_path / "tiny")
    gone = Path(shutil.copytree(text_folder, tmp_path / "gone"))
    assert new_language.main(tiny_run(tied_llama, gone, tmp_path)) == 0
    assert capsys.readouterr().err.count("reused") == len(STAGES), "text counts by its content"
    for record in (tmp_path / "tiny").glob("*/stage.json"):  # as on a machine where it never lay
        record.write_text(
            record.read_text(encoding="utf-8").replace(str(text_folder), str(gone)), encoding="utf-8"
        )
    shutil.rmtree(gone)
    assert new_language.main([*tiny_run(tied_llama, gone, tmp_path), "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert said.count("reuse") == len(STAGES) and "uk.jsonl  (not on this machine)" in said
    assert new_language.main(tiny_run(tied_llama, gone, tmp_path)) == 0
    assert capsys.readouterr().err.count("reused") == len(STAGES)
    assert new_language.main(tiny_run(tied_llama, tmp_path / "gonne", tmp_path)) == 3
    assert "gonne/uk.jsonl is not there" in capsys.readouterr().err


def test_text_that_changes_its_part_is_read_again(
    finished: tuple[Path, str], tied_llama: Path, text_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [
        f"corpus.train={text_folder / 'en.jsonl'}",
        f"corpus.replay={text_folder / 'uk.jsonl'}",
        "--dry-run",
    ]
    assert new_language.main(tiny_run(tied_llama, text_folder, finished[0].parent, *more)) == 0
    assert "10-corpus" in capsys.readouterr().err.split("run again")[0]


def test_a_checkpoint_made_from_an_earlier_stage_is_not_the_run_s_last(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(finished[0], folder)
    assert last_checkpoint(folder).name == "50-instruct"
    record = folder / "40-pretrain" / "stage.json"
    data = json.loads(record.read_text(encoding="utf-8"))
    data["outputs"][0]["sha256"] = "made anew"
    record.write_text(json.dumps(data), encoding="utf-8")
    assert last_checkpoint(folder).name == "40-pretrain"


def test_one_s_own_model_without_text_is_not_given_ukrainian(
    tied_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new_language.main([f"model.base={tied_llama}", "--dry-run"]) == 2
    assert "corpus.train is missing" in capsys.readouterr().err


def test_new_settings_run_again_from_there_on(
    finished: tuple[Path, str], tied_llama: Path, text_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["instruct.steps=2", "--dry-run"]
    assert new_language.main(tiny_run(tied_llama, text_folder, finished[0].parent, *more)) == 0
    said = capsys.readouterr().err
    assert "50-instruct" in said and said.count("reuse") == 4 and "run again" in said


def test_generate_inspect_and_export_work_on_the_run(
    finished: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fastvocab import cli

    def call(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            cli.main(list(words))
        return int(left.value.code or 0), capsys.readouterr().out

    run = str(finished[0])
    code, said = call("generate", run, "Мова", "--tokens", "5")
    assert code == 0 and said.endswith("\n")
    code, said = call("inspect", run, "--json")
    facts = json.loads(said)
    assert code == 0 and facts["stage"] == "instruct" and facts["faults"] == []
    assert [entry["stage"] for entry in facts["lineage"]] == ["extend", "pretrain"]
    assert call("generate", f"{run}/70-export", "Мова", "--raw", "--tokens", "1")[0] == 0
    with pytest.raises(SystemExit) as left:
        cli.main(["generate", f"{run}/60-evaluate", "x"])
    assert left.value.code == 5 and f"give the run, {run}" in capsys.readouterr().err
    young = tmp_path / "young"
    for stage in ("10-corpus", "20-tokenizer", "30-extend"):
        shutil.copytree(finished[0] / stage, young / stage)
    with pytest.raises(SystemExit):
        cli.main(["generate", str(young), "x", "--tokens", "1"])
    assert "its new tokens have not been trained yet" in capsys.readouterr().err
    code, _ = call("export", run, "--to", "hf", "--out", str(tmp_path / "out"))
    assert code == 0 and (tmp_path / "out" / "model.safetensors").exists()
    code, _ = call("export", run, "--to", "hf", "--out", str(tmp_path / "out"))
    assert code == 2, "an existing folder is never written over"
    code, said = call("evaluate", run, "--text", str(finished[0] / "10-corpus" / "heldout.jsonl"), "--json")
    assert code == 0 and json.loads(said)["bits_per_byte"] > 0


@pytest.mark.parametrize("kind", ["untied_llama", "padded_llama", "bare_llama", "mistral_like"])
def test_other_kinds_of_base_and_a_run_without_replay_and_chat(
    kind: str, request: pytest.FixtureRequest, text_folder: Path, tmp_path: Path
) -> None:
    base = request.getfixturevalue(kind)
    arguments = [
        a for a in tiny_run(base, text_folder, tmp_path, "pretrain.embeddings=new_rows", "pretrain.steps=2")
        if not a.startswith(("corpus.replay", "instruct.train"))
    ]  # fmt: skip
    assert new_language.main(arguments) == 0
    records = read_records(tmp_path / "tiny")
    assert "instruct" not in records and records["evaluate"].figures["points"]["base"]["original"] is None
    assert records["pretrain"].figures["data"]["replay_blocks"] == 0


def test_a_chat_model_s_difference_in_place_of_instruction_tuning(
    finished: tuple[Path, str],
    tied_llama: Path,
    text_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    shutil.copytree(finished[0], tmp_path / "tiny")
    arguments = [a for a in tiny_run(tied_llama, text_folder, tmp_path) if not a.startswith("instruct.")]

    def call(*more: str) -> tuple[int, str]:
        code = new_language.main([*arguments, *more])
        return code, capsys.readouterr().err

    code, said = call("instruct.chat_vector=../nowhere")
    assert code == 4 and "instruct.chat_vector: there is no folder ../nowhere" in said
    code, said = call(f"instruct.chat_vector={tied_llama}")
    assert code == 4 and "is the base model itself" in said and "pretrain: r" not in said
    chat = tune_llama(tied_llama, tmp_path / "chat")
    code, said = call(f"instruct.chat_vector={chat}", "instruct.steps=3", "instruct.max_length=64")
    assert code == 2 and "instruct.max_length, instruct.steps would do nothing" in said
    code, said = call(f"instruct.chat_vector={chat}", "--dry-run")
    assert code == 0 and "less the base" in said and "instruct   run again" in said
    code, said = call(f"instruct.chat_vector={chat}")
    assert code == 0, said
    assert "pretrain: reused" in said and "what sets chat apart from the base added to it" in said
    config = read_records(tmp_path / "tiny")["instruct"].data["config"]
    assert "learning_rate" not in config, "nothing was trained"
    card = (tmp_path / "tiny" / "70-export" / "README.md").read_text(encoding="utf-8")
    assert (
        "**Chat vector**: the difference between chat and the base" in card
        and "Instruction tuning" not in card
    )
    assert str(tmp_path) not in card
    template = (tmp_path / "tiny" / "70-export" / "chat_template.jinja").read_text(encoding="utf-8")
    assert template == CHAT_TEMPLATE
    moved = chat.rename(tmp_path / "moved")
    code, said = call(f"instruct.chat_vector={moved}")
    assert code == 0 and "instruct: reused" in said, "it counts by its content"
    (moved / "chat_template.jinja").write_text(CHAT_TEMPLATE + " ", encoding="utf-8")
    code, said = call(f"instruct.chat_vector={moved}")
    assert code == 0 and "instruct: running" in said, "of which the template is a part"
    away = moved.rename(tmp_path / "away")
    code, said = call(f"instruct.chat_vector={moved}")
    assert code == 0 and "instruct: reused" in said, "the record stands for a model that is gone"
    code, said = call(f"instruct.chat_vector={moved}", "pretrain.steps=7")
    assert code == 4 and "there is no folder" in said and "step 1" not in said
    moved = away.rename(moved)
    code, said = call(f"instruct.chat_vector={tmp_path}/tiny/70-export", "--dry-run")
    assert code == 2 and "lies in the folder of the run itself" in said
    own = shutil.copytree(tmp_path / "tiny" / "70-export", tmp_path / "own")
    code, said = call(f"instruct.chat_vector={own}", "--dry-run")
    assert code == 4 and "which is no token here" in said
    code, said = call("instruct.chat_vector=../nowhere", "--dry-run")
    assert code == 4 and "there is no folder ../nowhere" in said
    silent = shutil.copytree(moved, tmp_path / "silent")
    (silent / "chat_template.jinja").unlink()
    code, said = call(f"instruct.chat_vector={silent}", "--dry-run")
    assert code == 4 and "has no chat template" in said
    tune_llama(tied_llama, chat, size=0.02)
    code, said = call(f"instruct.chat_vector={chat}")
    assert code == 0 and "instruct: running" in said
    assert new_language.main(["--config", str(tmp_path / "tiny" / "config.yaml")]) == 0
