from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, trainers

from fastvocab.errors import ModelError
from fastvocab.tokenizer import probes, samples
from fastvocab.tokenizer.base import Kind, read
from tests.conftest import english
from tests.tokenizer.conftest import package


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


def reuploaded(mistral_base: Path, folder: Path, *, own: bool) -> Path:
    """Both files of Mistral: tokenizer.json as fastvocab converts it, or as transformers does."""
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(mistral_base).save_pretrained(folder)
    if own:
        (folder / "tokenizer.json").write_text(json.dumps(read(mistral_base).spec), encoding="utf-8")
    shutil.copy(mistral_base / "tokenizer.model", folder / "tokenizer.model")
    return folder


def test_both_files_of_one_tokenizer_are_taken_together_where_their_ids_are_equal(
    mistral_base: Path, tmp_path: Path
) -> None:
    base = read(reuploaded(mistral_base, tmp_path, own=True))
    assert base.kind is Kind.SENTENCEPIECE and base.disagreement is None and not base.converted
    assert base.proto == (mistral_base / "tokenizer.model").read_bytes()


def test_where_their_ids_differ_tokenizer_json_leads_and_the_difference_is_said(
    mistral_base: Path, tmp_path: Path
) -> None:
    import sentencepiece

    base = read(reuploaded(mistral_base, tmp_path, own=False))
    assert base.kind is Kind.SENTENCEPIECE_JSON and base.proto is None
    found = base.disagreement
    assert found is not None and 0 < found.unequal < found.lines
    other = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    theirs = other.encode(found.example)
    assert base.tokenizer.encode(found.example, add_special_tokens=False).ids != theirs
    assert found.sentencepiece[-1] == other.id_to_piece(theirs[-1])
    file = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for line in samples.built_in():
        assert base.tokenizer.encode(line).ids == file.encode(line).ids


def test_a_tokenizer_model_with_other_merges_is_noticed(mistral_base: Path, tmp_path: Path) -> None:
    """One swapped pair of scores: the vocabularies are the same, and so is nearly all text."""
    from fastvocab.tokenizer.base import parse_proto

    reuploaded(mistral_base, tmp_path, own=True)
    proto = parse_proto((tmp_path / "tokenizer.model").read_bytes())
    by_piece = {piece.piece: piece for piece in proto.pieces}
    a, b = by_piece["▁t"], by_piece["th"]
    a.score, b.score = b.score - 5000, a.score
    (tmp_path / "tokenizer.model").write_bytes(proto.SerializeToString())
    base = read(tmp_path)
    assert base.disagreement is not None and "give different ids" in str(base.disagreement)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tekken_240718.json", "tekken_240911.json"])
def test_tekken_gives_the_ids_of_mistral_common(name: str, tmp_path: Path) -> None:
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    shutil.copy(package("mistral_common") / "data" / name, tmp_path / "tekken.json")
    base, other = read(tmp_path), Tekkenizer.from_file(str(tmp_path / "tekken.json"))
    assert base.kind is Kind.BYTE_LEVEL and base.converted
    # the file holds more ranks than the model has rows: both cut it at the same place
    assert base.next_id == other.n_words == 131072
    assert base.vocab["<s>"] == other.bos_id and base.vocab["</s>"] == other.eos_id
    lines = [*samples.built_in(), *samples.other_scripts(frozenset()), *probes.spaces()]
    lines += [*probes.random_unicode(200), *(line for text in english(30) for line in text.splitlines())]
    for line, encoding in zip(lines, base.tokenizer.encode_batch(lines, add_special_tokens=False)):
        assert encoding.ids == other.encode(line, bos=False, eos=False), repr(line[:100])
        assert base.tokenizer.decode(encoding.ids) == other.decode(encoding.ids)


def test_a_damaged_tekken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tekken.json").write_text('{"config": {}, "vocab": []')
    with pytest.raises(ModelError, match="cannot load"):
        read(tmp_path)
