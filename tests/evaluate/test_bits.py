"""Bits per byte against the definition computed by hand, and pieces that no tokenizer can move."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from fastvocab.errors import DataError
from fastvocab.evaluate import bits
from fastvocab.evaluate.bits import Pieces
from fastvocab.model import backend, text
from fastvocab.model.generation import generate


def _score(model, tok, texts: list[str], owners: list[int] | None = None, **options) -> dict:
    return bits.score(model, tok, Pieces(texts, owners or list(range(len(texts)))), **options).figures


@given(st.text(), st.integers(8, 60))
def test_pieces_are_the_text_and_none_is_too_long(document: str, size: int) -> None:
    document = document.encode("utf-8", "ignore").decode()
    pieces = list(text.cut(document, size))
    assert "".join(pieces) == document
    assert all(len(p.encode()) <= size for p in pieces)


@pytest.mark.parametrize(
    "document", ["Мова народу. " * 40, "ภาษาไทยไม่มีช่องว่าง" * 20, "한국어 " * 50, "🎉" * 100]
)
def test_pieces_end_at_characters_in_every_script(document: str) -> None:
    assert "".join(text.cut(document, 64)) == document


def test_bits_per_byte_equal_the_definition(tied_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import contextlib

    monkeypatch.setattr(backend, "autocast", contextlib.nullcontext)  # the reference below is float32
    model = AutoModelForCausalLM.from_pretrained(tied_llama)
    tok = AutoTokenizer.from_pretrained(tied_llama)
    pieces = ["Hello world, this is text.", "x", "Мова", "a longer piece of text " * 6]
    nats = 0.0
    for piece in pieces:
        ids = torch.tensor([[tok.bos_token_id, *tok(piece, add_special_tokens=False).input_ids]])
        logits = model(input_ids=ids).logits[0].double()
        for position in range(ids.shape[1] - 1):
            nats -= float(torch.log_softmax(logits[position], -1)[ids[0, position + 1]])
    size = sum(len(p.encode()) for p in pieces)
    found = _score(model, tok, pieces)
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert found["bytes"] == size
    assert found["tokens"] == sum(len(tok(p, add_special_tokens=False).input_ids) for p in pieces)


def test_a_uniform_model_costs_the_logarithm_of_its_vocabulary(tied_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tied_llama)
    tok = AutoTokenizer.from_pretrained(tied_llama)
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    found = _score(model, tok, ["some text to be scored"])
    expected = found["tokens"] * math.log2(len(tok)) / found["bytes"]
    assert found["bits_per_byte"] == pytest.approx(expected, rel=1e-5)


def test_scripts_without_spaces_have_no_words_but_characters(tied_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tied_llama)
    tok = AutoTokenizer.from_pretrained(tied_llama)
    thai = _score(model, tok, ["ภาษาไทยไม่มีช่องว่าง"])
    assert thai["tokens_per_word"] is None and thai["tokens_per_character"] > 0
    assert _score(model, tok, ["three plain words"])["tokens_per_word"] == pytest.approx(
        len(tok("three plain words", add_special_tokens=False).input_ids) / 3
    )


def test_no_text_is_an_error(tied_llama: Path) -> None:
    with pytest.raises(DataError, match="no held-out text"):
        _score(None, None, [])


def test_a_tag_in_the_text_is_text(tied_llama: Path) -> None:
    tok = AutoTokenizer.from_pretrained(tied_llama)
    ids = text.encode(tok, ["a </s> b"])[0]
    assert tok.eos_token_id not in ids and tok.decode(ids) == "a </s> b"


def test_samples_are_the_same_alone_and_in_a_batch_and_never_use_rows_without_a_token(
    padded_llama: Path,
) -> None:
    model = AutoModelForCausalLM.from_pretrained(padded_llama).float()
    tok = AutoTokenizer.from_pretrained(padded_llama)
    with torch.no_grad():  # spare rows that would win every time
        model.get_output_embeddings().weight[len(tok) :] = 10 * model.get_output_embeddings().weight[5]
    prompts = ["Hello", "A longer prompt with more words in it"]
    together = generate(model, tok, prompts, max_new_tokens=8)
    assert together == [generate(model, tok, [p], max_new_tokens=8)[0] for p in prompts]


def test_the_interval_is_over_documents_not_pieces(tied_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tied_llama)
    tok = AutoTokenizer.from_pretrained(tied_llama)
    texts = [
        "Hello world, this is text.",
        "Мова народу",
        "x y z",
        "and some more of it",
        "число 1234",
        "the end",
    ]
    apart = _score(model, tok, texts)
    together = _score(model, tok, texts, [0] * 6)
    assert apart["bits_per_byte"] == together["bits_per_byte"]
    assert apart["interval"][0] < apart["bits_per_byte"] < apart["interval"][1]
    assert together["interval"] == pytest.approx([together["bits_per_byte"]] * 2)
    assert (apart["documents"], together["documents"]) == (6, 1) and apart["too_few_documents"]


def test_documents_keep_their_own_nats(tied_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tied_llama)
    tok = AutoTokenizer.from_pretrained(tied_llama)
    texts = ["a piece of the first", "one of the second document", "and the first goes on"]
    found = bits.score(model, tok, Pieces(texts, [0, 1, 0])).nats
    alone = [bits.score(model, tok, Pieces([piece], [0])).nats[0] for piece in texts]
    assert found == pytest.approx([alone[0] + alone[2], alone[1]], rel=1e-3)


def test_new_tokens_are_counted_where_they_occur(tied_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tied_llama)
    tok = AutoTokenizer.from_pretrained(tied_llama)
    texts = ["the text of the text", "the"]
    ids = [i for text in texts for i in tok(text, add_special_tokens=False).input_ids]
    added = range(300, len(tok))
    found = _score(model, tok, texts, new_ids=added)["new_tokens"]
    assert found["used"] == len({i for i in ids if i in added}) > 0
    assert found["share_of_tokens"] == pytest.approx(sum(i in added for i in ids) / len(ids))
    assert found["used_share"] == found["used"] / len(added)
    assert "new_tokens" not in _score(model, tok, texts)


def test_pieces_are_drawn_from_many_documents_and_repeatably() -> None:
    documents = [f"{number}: " + "слово та ще одне " * 100 for number in range(30)]
    chosen = bits.choose(documents, size=300, limit=9000, seed=1)
    assert chosen == bits.choose(documents, size=300, limit=9000, seed=1)
    assert chosen != bits.choose(documents, size=300, limit=9000, seed=2)
    assert 9000 <= chosen.bytes < 9300 and len(set(chosen.documents)) == 30
    assert set(chosen.documents) == set(range(max(chosen.documents) + 1))
    # a long one at the beginning, of which there are more pieces than of all others together
    long = bits.choose(["a book " * 20_000, *documents[:9]], size=300, limit=6000, seed=1)
    assert len(set(long.documents)) == 10 and 6000 <= long.bytes < 6300
    assert len([piece for piece in long.texts if "book" in piece]) <= 3
    every = bits.choose(documents, size=300, limit=10**9, seed=1)
    assert every.bytes == sum(len(d.encode()) for d in documents) and max(every.documents) == 29
