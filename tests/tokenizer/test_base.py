from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, trainers

from fastvocab.errors import ModelError
from fastvocab.tokenizer.base import Kind, read


@pytest.mark.parametrize(
    ("fixture", "kind"),
    [
        ("gpt2_base", Kind.BYTE_LEVEL),
        ("qwen_base", Kind.BYTE_LEVEL),
        ("fallback_base", Kind.SENTENCEPIECE_JSON),
        ("mistral_base", Kind.SENTENCEPIECE),
        pytest.param("llama3_base", Kind.BYTE_LEVEL, marks=pytest.mark.slow),
    ],
)
def test_each_kind_is_recognised(fixture: str, kind: Kind, request: pytest.FixtureRequest) -> None:
    base = read(request.getfixturevalue(fixture))
    assert base.kind is kind
    assert base.next_id == base.tokenizer.get_vocab_size(with_added_tokens=True)


def test_both_spellings_of_merges_are_read_alike(gpt2_base: Path, tmp_path: Path) -> None:
    as_strings = read(gpt2_base)
    assert isinstance(as_strings.spec["model"]["merges"][0], str)
    shutil.copytree(gpt2_base, tmp_path / "pairs")
    Tokenizer.from_file(str(gpt2_base / "tokenizer.json")).save(str(tmp_path / "pairs" / "tokenizer.json"))
    as_pairs = read(tmp_path / "pairs")
    assert isinstance(as_pairs.spec["model"]["merges"][0], list)
    assert as_strings.merges == as_pairs.merges


def test_a_tiktoken_file_beside_tokenizer_json_is_not_taken_for_sentencepiece(
    gpt2_base: Path, tmp_path: Path
) -> None:
    shutil.copytree(gpt2_base, tmp_path / "b")
    (tmp_path / "b" / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")
    assert read(tmp_path / "b").kind is Kind.BYTE_LEVEL


def test_a_folder_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a folder"):
        read(tmp_path / "absent")
    with pytest.raises(ModelError, match="holds no tokenizer"):
        read(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"model": {}}', '{"model": {"vocab": {}, "type": "BPE"}}'])
def test_a_damaged_tokenizer_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError) as error:
        read(tmp_path)
    assert error.value.fix


def test_a_tokenizer_json_cut_in_half_is_refused(gpt2_base: Path, tmp_path: Path) -> None:
    whole = (gpt2_base / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="damaged"):
        read(tmp_path)


def test_a_damaged_tokenizer_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\xff\x00 not a model")
    with pytest.raises(ModelError, match="damaged"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["WordPiece", "Unigram", "WordLevel"])
def test_other_kinds_are_refused_by_name(tmp_path: Path, name: str) -> None:
    model, trainer = {
        "WordPiece": (
            models.WordPiece(unk_token="[UNK]"),
            trainers.WordPieceTrainer(special_tokens=["[UNK]"]),
        ),
        "Unigram": (models.Unigram(), trainers.UnigramTrainer(vocab_size=30, show_progress=False)),
        "WordLevel": (
            models.WordLevel(unk_token="[UNK]"),
            trainers.WordLevelTrainer(special_tokens=["[UNK]"]),
        ),
    }[name]
    tokenizer = Tokenizer(model)
    tokenizer.train_from_iterator(["some words to learn from, some more words"] * 10, trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelError, match=name) as error:
        read(tmp_path)
    assert "byte-level BPE" in str(error.value.rule)


def test_bpe_without_byte_fallback_is_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.train_from_iterator(["plain characters"] * 5, trainers.BpeTrainer(show_progress=False))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelError, match="without byte fallback"):
        read(tmp_path)


def test_two_forms_that_disagree_are_refused(mistral_base: Path, tmp_path: Path) -> None:
    spec = json.loads(json.dumps(read(mistral_base).spec))
    vocab = spec["model"]["vocab"]
    vocab["▁the"], vocab["▁of"] = vocab["▁of"], vocab["▁the"]
    shutil.copy(mistral_base / "tokenizer.model", tmp_path / "tokenizer.model")
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(ModelError, match="disagree on 2 ids"):
        read(tmp_path)
