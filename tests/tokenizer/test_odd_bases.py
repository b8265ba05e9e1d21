"""Bases and texts that are a little off: they are extended all the same, or refused in a sentence."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from transformers import AutoTokenizer

from fastvocab.errors import ModelError
from fastvocab.tokenizer.base import read
from fastvocab.tokenizer.guard import Guard, shared_prefix
from fastvocab.tokenizer.stage import build
from fastvocab.tokenizer.verify import check
from fastvocab.tokenizer.words import draw
from tests.conftest import english, sentences
from tests.tokenizer.conftest import letters, made_up

Corpus = Callable[[list[str]], tuple[Path, Path]]


def extend(base: Path, files: tuple[Path, Path], out: Path, count: int = 60, **more: Any) -> dict[str, Any]:
    out.mkdir()
    return build(base, files[0], out, heldout=files[1], new_tokens=count, **more)


def test_a_base_with_added_tokens_in_the_language_is_extended_around_them(
    gpt2_base: Path, corpus: Corpus, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(gpt2_base)
    tokenizer.add_tokens(["мо", "них"])
    tokenizer.save_pretrained(tmp_path / "base")
    figures = extend(tmp_path / "base", corpus(sentences(200)), tmp_path / "out")
    assert figures["new_tokens"] == 60 and figures["unreachable"] == 0
    rows = (tmp_path / "out" / "new_tokens.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(row)["text"] or "" for row in rows]
    assert not any(part in text for text in texts for part in ("мо", "них"))


def test_a_sentencepiece_base_that_normalises_gets_tokens_of_the_normalised_text(
    corpus: Corpus, tmp_path: Path
) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in english() for line in text.splitlines()),
        model_writer=model, model_type="bpe", vocab_size=800, byte_fallback=True, minloglevel=2,
    )  # fmt: skip
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "tokenizer.model").write_bytes(model.getvalue())
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    (tmp_path / "base" / "tokenizer_config.json").write_text(json.dumps(settings))
    thai = made_up("กขคจ", "\u0e33", space=" ")  # nmt_nfkc takes ำ apart
    figures = extend(tmp_path / "base", corpus(thai), tmp_path / "out")
    assert figures["unreachable"] == 0
    assert figures["heldout"]["extended"]["tokens"] < figures["heldout"]["base"]["tokens"] / 2


@pytest.mark.parametrize("step", ["Whitespace", {"pattern": {"Regex": "x"}}, 7])
def test_a_pre_tokenizer_that_is_none_is_refused(step: Any, gpt2_base: Path, tmp_path: Path) -> None:
    shutil.copytree(gpt2_base, tmp_path / "base")
    path = tmp_path / "base" / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pre_tokenizer": step}))
    with pytest.raises(ModelError, match="tokenizers library"):
        read(tmp_path / "base")


def test_korean_named_with_hanja_is_counted_by_words_where_it_has_none(
    qwen_base: Path, corpus: Corpus, tmp_path: Path
) -> None:
    hangul = made_up(letters(0xAC00, 0xAC40))
    figures = extend(qwen_base, corpus(hangul), tmp_path / "out", scripts=frozenset({"Hang", "Hani"}))
    assert figures["scripts"] == ["Hang"] and figures["pretokenizer"]["floor_before"]["unit"] == "word"
    mixed = draw(["한국어 漢字 문장 가나다"], scripts=frozenset({"Hang", "Hani"}), max_bytes=1000, seed=0)
    assert mixed.unit == "word" and mixed.longest == 24


def test_check_excuses_no_fragment_of_characters_far_from_the_script(gpt2_base: Path, tmp_path: Path) -> None:
    shutil.copytree(gpt2_base, tmp_path / "hole")
    path = tmp_path / "hole" / "tokenizer.json"
    spec = json.loads(path.read_text(encoding="utf-8"))
    size = read(gpt2_base).next_id
    for place, (a, b) in enumerate(
        [("Ñ", "ĸ"), ("â", "Ĥ"), ("âĤ", "¬"), ("ð", "Ł")]
    ):  # і, €, an emoji's start
        spec["model"]["merges"].append(f"{a} {b}")
        spec["model"]["vocab"][a + b] = size + place
    path.write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
    report = check(gpt2_base, tmp_path / "hole")
    failed = [proof["name"] for proof in report["proofs"] if not proof["passed"]]
    assert "other_text_identical" in failed


def test_a_fragment_is_shared_only_where_the_script_lies_behind_it() -> None:
    assert shared_prefix(b"\xe2\x82", frozenset({"Cyrl"})) is None
    assert shared_prefix(b"\xe0\xa5", frozenset({"Deva"})) == b"\xe0\xa5"  # the danda is there too
    assert not Guard(frozenset({"Cyrl"}), added=["що"]).allows_text(" що")
    assert Guard(frozenset({"Cyrl"}), added=["the", "що"]).allows_text(" щ")
