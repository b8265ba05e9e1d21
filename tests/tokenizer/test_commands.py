"""``fastvocab tokenizer merge`` and ``check``: JSON alone on standard output, an exit code for each outcome."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, trainers
from transformers import AutoTokenizer

from fastvocab import cli
from tests.conftest import english, sentences


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and error output of a command, run in this process."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main(["tokenizer", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "uk.txt"
    path.write_text("\n\n".join(sentences(150)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def merged(gpt2_base: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """An extended folder with what the command printed."""
    import contextlib
    import io

    out = tmp_path_factory.mktemp("merged") / "uk"
    replay = text.parent / "en.txt"
    replay.write_text("\n\n".join(english(10)), encoding="utf-8")
    printed, said = io.StringIO(), io.StringIO()
    arguments = ["--base", gpt2_base, "--corpus", text, "--out", out, "--replay", replay, "--new-tokens", 80]
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(said),
        pytest.raises(SystemExit) as end,
    ):
        cli.main(["tokenizer", "merge", *map(str, arguments), "--json"])
    assert not end.value.code, said.getvalue()
    return out, printed.getvalue(), said.getvalue()


def test_merge_prints_its_figures_as_json_and_writes_them(merged: tuple[Path, str, str]) -> None:
    out, printed, _ = merged
    figures = json.loads(printed)
    assert figures == json.loads((out / "merge.json").read_text(encoding="utf-8"))
    assert figures["new_tokens"] == 80 and figures["scripts"] == ["Cyrl"]
    assert {path.name for path in out.iterdir()} >= {"tokenizer.json", "new_tokens.jsonl", "merge.json"}


def test_check_measures_on_a_corpus_and_prints_json(
    merged: tuple[Path, str, str], gpt2_base: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = command(capsys, "check", gpt2_base, merged[0], "--corpus", text, "--json")
    report = json.loads(out)
    assert code == 0 and report["passed"] and report["new_tokens"] == 80
    lines = text.read_text(encoding="utf-8").split("\n\n")
    for name, folder in (("base", gpt2_base), ("extended", merged[0])):
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        assert report["corpus"][name]["tokens"] == sum(len(tokenizer.encode(line).ids) for line in lines)


def test_check_prints_a_table_of_the_proofs(
    merged: tuple[Path, str, str], gpt2_base: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, said = command(capsys, "check", gpt2_base, merged[0], "--corpus", text)
    rows = [line.split("  ")[0].strip() for line in out.splitlines()]
    assert code == 0 and {"old ids identical", "new tokens reachable", "round trip exact"} <= set(rows)
    assert "FAILED" not in out and "new tokens do not occur in the text" in said


def test_a_failed_proof_is_exit_code_4_and_the_json_is_whole(
    gpt2_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(gpt2_base)
    tokenizer.add_tokens(["слово", "ing"])
    tokenizer.save_pretrained(tmp_path)
    code, out, said = command(capsys, "check", gpt2_base, tmp_path, "--json")
    report = json.loads(out)
    failed = {proof["name"] for proof in report["proofs"] if not proof["passed"]}
    assert code == 4 and not report["passed"] and "other_text_identical" in failed
    assert all(name in said for name in failed)


@pytest.mark.parametrize("number", ["0", "-5", "many", "1.5", ""])
def test_a_number_of_tokens_that_is_none_is_exit_code_2(
    number: str, gpt2_base: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, said = command(
        capsys,
        "merge",
        "--base",
        gpt2_base,
        "--corpus",
        text,
        "--out",
        tmp_path / "o",
        f"--new-tokens={number}",
    )
    assert code == 2 and not out and "a number from 1 to 1,000,000, or auto" in said
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("option", ["--method=guess", "--pretokenizer=break", "--sentencepiece=word"])
def test_an_unknown_choice_is_exit_code_2(
    option: str, gpt2_base: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = command(
        capsys, "merge", "--base", gpt2_base, "--corpus", text, "--out", tmp_path / "o", option
    )
    assert code == 2 and not out


def test_an_output_folder_that_is_there_is_exit_code_2(
    gpt2_base: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, said = command(capsys, "merge", "--base", gpt2_base, "--corpus", text, "--out", tmp_path)
    assert code == 2 and "is there already" in said


@pytest.fixture
def word_piece(tmp_path: Path) -> Path:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trainer: Any = trainers.WordPieceTrainer(special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(["some words to learn from"] * 10, trainer)
    folder = tmp_path / "bert"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_a_base_of_another_kind_is_exit_code_4(
    word_piece: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, said = command(
        capsys, "merge", "--base", word_piece, "--corpus", text, "--out", tmp_path / "o", "--new-tokens", 50
    )
    assert code == 4 and not out and "WordPiece" in said
    assert not (tmp_path / "o").exists()


def test_train_writes_a_model_alone(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = command(capsys, "train", "--corpus", text, "--out", tmp_path / "m", "--pieces", 60)
    assert code == 0 and "60 pieces" in said
    assert (tmp_path / "m" / "sentencepiece.model").stat().st_size > 500
