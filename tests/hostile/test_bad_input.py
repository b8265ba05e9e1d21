"""What users get wrong: a message with value, rule and remedy, the exit code of its kind, no traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fastvocab.recipes import new_language
from tests.conftest import sentences, tiny_run, write_jsonl


def run(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str]:
    code = new_language.main(arguments)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err + captured.out
    return code, " ".join(captured.err.split())


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """Corpora that are wrong in one way each."""
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "empty.txt").write_text("")
    (folder / "latin1.txt").write_bytes("мова\n".encode() + b"\xe9t\xe9\n")
    (folder / "binary.txt").write_bytes(b"\x00\x01\x02" * 100)
    (folder / "other_key.jsonl").write_text(json.dumps({"content": "x", "id": 1}) + "\n")
    (folder / "english.txt").write_text("\n".join(["Only English words in this whole file of text."] * 50))
    (folder / "little.txt").write_text("мова")
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"body": ["мова"]}), folder / "t.parquet")
    return folder


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        ("missing.txt", 3, ["missing.txt"]),
        ("*.none", 3, ["*.none"]),
        ("empty.txt", 3, ["empty.txt", "name files that have text in them"]),
        ("latin1.txt", 3, ["latin1.txt", "UTF-8", "9"]),
        ("binary.txt", 3, ["binary.txt"]),
        ("other_key.jsonl", 3, ["content", "id", "text_key"]),
        ("t.parquet", 3, ["body", "text_key"]),
        ("english.txt", 3, ["Latn", "Cyrl"]),
        ("little.txt", 3, ["too_short"]),
    ],
)
def test_a_bad_corpus(
    name: str, code: int, expected: list[str], corpora: Path, tied_llama: Path, text_folder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    found, said = run(
        capsys, [*tiny_run(tied_llama, text_folder, tmp_path), f"corpus.train={corpora / name}"]
    )
    assert found == code, said
    for part in expected:
        assert part in said


@pytest.mark.parametrize("name", ["blank.txt", "latin1.txt", "other_key.jsonl"])
def test_text_without_a_document_is_found_by_a_dry_run(
    name: str, corpora: Path, tied_llama: Path, text_folder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (corpora / "blank.txt").write_text(" \n" * 1000)
    arguments = [*tiny_run(tied_llama, text_folder, tmp_path), f"corpus.train={corpora / name}", "--dry-run"]
    code, said = run(capsys, arguments)
    assert code == 3 and name in said


def test_several_things_at_once_are_all_named(
    tied_llama: Path, text_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["corpus.train=nowhere.txt", "pretrain.block=4096", "instruct.train=nochat.jsonl"]
    code, said = run(capsys, tiny_run(tied_llama, text_folder, tmp_path, *more))
    assert code == 3
    for part in ("3 things", "nowhere.txt", "pretrain.block is 4096", "at most 256", "nochat.jsonl"):
        assert part in said
    assert "do: pretrain.block=256" in said


def _broken(base: Path, to: Path, change: str) -> Path:
    shutil.copytree(base, to)
    config = json.loads((to / "config.json").read_text())
    if change == "bert":
        config["architectures"] = ["BertForMaskedLM"]
    elif change == "unknown":
        config |= {"model_type": "nonesuch", "architectures": ["NonesuchForCausalLM"]}
    elif change == "remote":
        config |= {"model_type": "nonesuch", "auto_map": {"AutoModelForCausalLM": "modeling.Own"}}
    elif change == "unnamed":
        del config["architectures"]
    (to / "config.json").write_text(json.dumps(config))
    if change == "pickle":
        (to / "model.safetensors").rename(to / "pytorch_model.bin")
    elif change == "wordpiece":
        spec = json.loads((to / "tokenizer.json").read_text())
        spec["model"] = {"type": "WordPiece", "vocab": {"a": 0, "[UNK]": 1}, "unk_token": "[UNK]"}
        spec["model"]["continuing_subword_prefix"], spec["model"]["max_input_chars_per_word"] = "##", 100
        (to / "tokenizer.json").write_text(json.dumps(spec))
    elif change in ("settings", "settings_list"):
        (to / "tokenizer_config.json").write_text("{" if change == "settings" else "[]")
    elif change == "damaged":
        (to / "tokenizer.json").write_text("{")
    elif change == "no_config":
        (to / "config.json").unlink()
    elif change == "weights":
        raw = (to / "model.safetensors").read_bytes()
        (to / "model.safetensors").write_bytes(raw[: len(raw) // 2])
    return to


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("bert", ["BertForMaskedLM", "causal"]),
        ("unknown", ["model type 'nonesuch'", "installed transformers has"]),
        ("remote", ["code of its own, which is never run"]),
        ("unnamed", ["unnamed architecture", '"architectures": ["LlamaForCausalLM"]']),
        ("pickle", ["pytorch_model.bin", "safetensors"]),
        ("wordpiece", ["WordPiece"]),
        ("damaged", ["tokenizer.json"]),
        ("settings", ["tokenizer_config.json"]),
        ("settings_list", ["tokenizer_config.json"]),
        ("no_config", ["config.json"]),
        ("weights", ["could not be loaded"]),
    ],
)
def test_a_bad_base_model(
    change: str,
    expected: list[str],
    tied_llama: Path,
    text_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = _broken(tied_llama, tmp_path / "base", change)
    code, said = run(capsys, tiny_run(base, text_folder, tmp_path / "runs"))
    assert code == 4, said
    for part in expected:
        assert part in said


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        ("generate", 2, "Missing argument"),
        ("generate x y --tokns 3", 2, "--tokns"),
        ("nonsense", 2, "nonsense"),
        ("generate x y --tokens many", 2, "valid integer"),
        ("inspect nowhere", 5, "there is no folder nowhere"),
        ("inspect .", 5, "holds no checkpoint"),
        ("tokenizer check nowhere.d/x y", 4, "no folder"),
        ("extend --base ./nowhere --tokenizer x --out y", 2, "no new_tokens.jsonl"),
        ("extend --base ./nowhere --tokenizer x --out .", 2, "is there already"),
    ],
)
def test_a_wrong_command_line(
    words: str,
    code: int,
    expected: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fastvocab import cli

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        cli.main(words.split())
    said = capsys.readouterr().err
    assert left.value.code == code and expected in said and "Traceback" not in said


def test_a_tracker_that_is_not_installed_is_said_before_anything_runs(
    tied_llama: Path, text_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(capsys, tiny_run(tied_llama, text_folder, tmp_path, "track=wandb"))
    assert code == 7 and "wandb is not installed" in said and not (tmp_path / "tiny").exists()


def test_a_base_model_that_is_not_there_names_its_neighbour(
    tied_llama: Path, text_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(capsys, tiny_run(tied_llama.parent / "modle", text_folder, tmp_path))
    assert code == 4 and f"did you mean {tied_llama}" in said


def test_a_hub_name_without_a_hub_says_what_to_do(
    text_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*tiny_run(Path("x"), text_folder, tmp_path), "model.base=nobody/nothing-here"]
    code, said = run(capsys, arguments)
    assert code == 4 and "nobody/nothing-here" in said and "HF_TOKEN" in said


def test_chat_rows_without_the_fields_are_found_before_any_training(
    tied_llama: Path, text_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = tmp_path / "chat.jsonl"
    chat.write_text(json.dumps({"q": "a", "a": "b"}) + "\n")
    code, said = run(capsys, [*tiny_run(tied_llama, text_folder, tmp_path), f"instruct.train={chat}"])
    assert code == 3 and "messages" in said and "q" in said
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize(
    ("turns", "stages", "expected"),
    [
        (
            [("assistant", "так")],
            0,
            ["no usable conversation in 2 rows", "2 of them: user and assistant do not alternate"],
        ),
        ([("user", "мова?")], 0, ["2 of them: the last message is not the assistant's"]),
        (
            [("user", "слово мова народ " * 60), ("assistant", "так")],
            3,
            ["no reply within max_length (128 tokens) in any of", "instruct.max_length is cut off", "raise"],
        ),
    ],
)
def test_chats_that_cannot_be_learnt_from_are_found_before_pretraining(
    turns: list[tuple[str, str]], stages: int, expected: list[str], tied_llama: Path, text_folder: Path,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    chat = tmp_path / "chat.jsonl"
    chat.write_text(2 * (json.dumps(row) + "\n"), encoding="utf-8")
    code, said = run(capsys, [*tiny_run(tied_llama, text_folder, tmp_path), f"instruct.train={chat}"])
    assert code == 3 and all(part in said for part in expected), said
    assert len(list((tmp_path / "tiny").glob("*/stage.json"))) == stages
    assert not (tmp_path / "tiny" / "40-pretrain").exists()


def test_a_vocabulary_that_the_corpus_cannot_support_gives_what_there_is_or_says_why(
    tied_llama: Path, tmp_path: Path, text_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = write_jsonl(tmp_path / "few.jsonl", sentences(8))
    arguments = tiny_run(tied_llama, text_folder, tmp_path, "tokenizer.new_tokens=50000", "pretrain.steps=1")
    code, said = run(capsys, [*arguments, f"corpus.train={few}"])
    assert "50,000" in said or "50000" in said
    assert code == 0 and "warning" in said, said


def test_too_little_disk_is_said_beforehand(
    tied_llama: Path,
    text_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import shutil as disk
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(disk, "disk_usage", lambda path: usage(10, 10, 1000))
    code, said = run(capsys, tiny_run(tied_llama, text_folder, tmp_path))
    assert code == 6 and "are free" in said and not (tmp_path / "tiny").exists()


def test_a_secret_in_the_environment_is_in_no_file_of_the_run(
    tied_llama: Path,
    text_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_thisisnotarealtokenatall")
    code, said = run(
        capsys, [*tiny_run(tied_llama, text_folder, tmp_path), "pretrain.steps=1", "instruct.steps=1"]
    )
    assert code == 0 and "thisisnotareal" not in said
    for file in (tmp_path / "tiny").rglob("*"):
        assert not file.is_file() or b"thisisnotareal" not in file.read_bytes(), file
