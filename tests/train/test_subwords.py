"""``shared_subwords``: what tokens share, that they learn from each other by it, and that it leaves no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fastvocab.train import subwords
from tests.train.conftest import same

WORDS = [" мова", " мови", "мова", " дім", " 中国", "中国人", " คำ", "한국어", " שלום", None]


def _tokenizer(kind: str, words: list[str]) -> Any:
    if kind == "byte-level":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        spelt = [
            "".join(
                piece for piece, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(w)
            )
            for w in words
        ]
        backend = Tokenizer(models.BPE({t: i for i, t in enumerate([*alphabet, *spelt])}, []))
        backend.decoder = decoders.ByteLevel()
        first = len(alphabet)
    else:
        pieces = ["<unk>", "a", "<0xD0>", *(w.replace(" ", "▁") for w in words)]
        backend = Tokenizer(models.BPE({t: i for i, t in enumerate(pieces)}, [], byte_fallback=True))
        steps = [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
        backend.decoder = decoders.Sequence(steps)
        first = 3
    return PreTrainedTokenizerFast(tokenizer_object=backend), first


@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
def test_texts_keep_their_space_in_every_kind_of_tokenizer(kind: str) -> None:
    words = [w for w in WORDS if w]
    tokenizer, first = _tokenizer(kind, words)
    assert subwords.texts(tokenizer, range(first, first + len(words))) == words


def test_a_byte_is_no_text() -> None:
    tokenizer, _ = _tokenizer("sentencepiece", ["x"])
    assert subwords.texts(tokenizer, range(2, 3)) == [None]


def test_rows_have_length_1_and_relatives_are_nearer_than_strangers() -> None:
    of = subwords.table(WORDS).to_dense()
    lengths = of.norm(dim=1)
    assert torch.isclose(lengths, torch.ones(())).logical_or(lengths == 0).all()
    assert lengths[-1] == 0 and (of > 0).sum(0).min() >= 2, "what one token alone has is its own part"
    kin = of @ of.T
    assert min(kin[0, 1], kin[0, 2], kin[4, 5]) > 0.2, "another form of a word; its letters inside another"
    assert kin[0, 3] == kin[0, 4] == 0


def test_a_step_is_that_of_the_sum_of_own_and_shared_parts() -> None:
    """Against torch's own gradient and SGD of the parametrisation, written out."""
    torch.manual_seed(0)
    of = subwords.table(WORDS)
    start, target = torch.randn(len(WORDS), 4), torch.randn(len(WORDS), 4)
    own, parts = start.clone().requires_grad_(), torch.zeros(of.shape[1], 4, requires_grad=True)
    groups = [{"params": [own]}, {"params": [parts], "lr": 0.1 * subwords.RATE}]
    written = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    rows = torch.nn.Parameter(start.clone())
    shared = subwords.Shared(rows, of)
    folded = torch.optim.SGD([rows, shared.part], lr=0.1, momentum=0.9)
    for _ in range(5):
        written.zero_grad()
        (own + of.to_dense() @ parts - target).pow(2).sum().backward()
        written.step()
        rows.grad = None
        (rows - target).pow(2).sum().backward()
        shared.before_step()
        folded.step()
        shared.after_step()
        assert not shared.part.any()
    torch.testing.assert_close(rows.data, (own + of.to_dense() @ parts).detach())


def test_a_token_that_no_text_has_learns_from_its_relatives_alone() -> None:
    of = subwords.table(WORDS)
    rows = torch.nn.Parameter(torch.zeros(len(WORDS), 3))
    shared = subwords.Shared(rows, of)
    optimizer = torch.optim.AdamW([rows, shared.part], lr=0.1, weight_decay=0.0)
    rows.grad = torch.zeros_like(rows)
    rows.grad[0] = 1.0  # " мова"
    shared.before_step()
    optimizer.step()
    shared.after_step()
    moved = rows.data.abs().sum(1) > 0
    assert moved.tolist() == [True, True, True, *[False] * 7]


def test_training_with_and_without_differs_and_leaves_nothing_behind(train: Any, tmp_path: Path) -> None:
    settings = ("steps=3", "embeddings=new_rows", "count_targets=0")
    apart = train("untied", *settings, "shared_subwords=false", name="apart")
    together = train("untied", *settings, name="together")
    assert not same(apart.tensors(), together.tensors())
    assert apart.tensors().keys() == together.tensors().keys()
    assert {n: t.shape for n, t in apart.tensors().items()} == {
        n: t.shape for n, t in together.tensors().items()
    }
