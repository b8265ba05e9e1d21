"""The training blocks: what is in them, where it is from, and what of them attention sees."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
import pytest
import torch

from fastvocab.model import backend, checkpoint, text
from fastvocab.train import blocks
from fastvocab.train.blocks import Packed
from tests.conftest import write_jsonl
from tests.train.conftest import Material


def packed(ids: np.ndarray) -> Packed:
    count = len(ids)
    lines = np.stack([np.arange(1, count + 1)] * 2, 1)
    return Packed(ids, lines, np.full(count, 10, np.int64))


def mixed(target: np.ndarray, replay: np.ndarray | None, share: float, needed: int | None) -> Any:
    other = None if replay is None else packed(replay)
    return blocks.mix(packed(target), other, share, needed=needed, collate=blocks.collate_whole)


def test_blocks_of_both_kinds_are_in_one_dataset_and_short_replay_is_repeated() -> None:
    target = np.arange(9 * 4, dtype=np.int32).reshape(9, 4)
    replay = -np.arange(2 * 4, dtype=np.int32).reshape(2, 4)
    data = mixed(target, replay, 0.25, None)
    assert data.dataset["input_ids"][:9] == target.tolist()
    assert data.dataset["input_ids"][9:] == [replay[0].tolist(), replay[1].tolist(), replay[0].tolist()]
    whole = np.concatenate([target, replay, replay[:1]])
    assert data.figures == {
        "blocks": 9, "replay_blocks": 3, "replay_repeats": 1.5, "block": 4, "bytes": 90,
        "sha256": hashlib.sha256(whole.astype("<i4").tobytes()).hexdigest(),
    }  # fmt: skip
    assert data.text_bytes.tolist() == [10] * 9 + [0] * 3
    assert (data.origin(3), data.origin(11)) == ("train.jsonl line 4", "replay.jsonl line 1")


def test_no_more_blocks_are_taken_than_training_reads() -> None:
    data = mixed(np.arange(100 * 4, dtype=np.int32).reshape(100, 4), None, 0.0, 7)
    assert len(data.dataset) == data.figures["blocks"] == 7 and data.figures["replay_blocks"] == 0


def test_no_cache_is_left_that_a_later_run_would_train_on_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    data = mixed(np.ones((5, 4), np.int32), None, 0.0, None)
    assert data.dataset.cache_files == [] and list(tmp_path.iterdir()) == []


def test_blocks_are_the_documents_in_order_without_padding_and_know_their_lines(
    material: Material, tmp_path: Path
) -> None:
    tok = text.tokenizer(material.extend["tied"])
    written = list(text.documents(material.corpus / "train.jsonl"))
    made = blocks.pack(written, tok, block=32, out=tmp_path / "a.npy")
    stream: list[int] = []
    owner: list[int] = []
    for line, document in enumerate(written, 1):
        ids = [tok.bos_token_id, *tok(document, add_special_tokens=False)["input_ids"], tok.eos_token_id]
        stream += ids
        owner += [line] * len(ids)
    whole = len(stream) // 32
    assert made.ids.flatten().tolist() == stream[: whole * 32], (
        "every place of every block is a token of a document"
    )
    for number, (first, last) in enumerate(made.lines.tolist()):
        assert (first, last) == (owner[number * 32], owner[number * 32 + 31])
    # whole documents count with all their bytes, and of the last one only what is in a block
    size = sum(len(document.encode()) for document in written)
    cut = len(written[-1].encode())
    assert size - cut <= made.bytes.sum() <= size and len(made.bytes) == whole
    few = blocks.pack(written, tok, block=32, out=tmp_path / "b.npy", limit=3)
    assert len(few.ids) == len(few.lines) == len(few.bytes) == 3
    assert few.bytes.tolist() == made.bytes[:3].tolist()


def test_positions_begin_anew_at_each_document_and_transformers_finds_them() -> None:
    from transformers.masking_utils import find_packed_sequence_indices

    ids = np.array([[9, 5, 5, 9, 9, 5], [5, 5, 9, 5, 5, 5], [9, 5, 5, 5, 5, 5]])
    places = blocks.positions(ids, 9)
    assert places.tolist() == [[0, 1, 2, 0, 0, 1], [0, 1, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]]
    found = find_packed_sequence_indices(torch.from_numpy(places))
    assert found is not None
    assert found.tolist() == [[0, 0, 0, 1, 2, 2], [0, 0, 1, 1, 1, 1], [0] * 6]


@pytest.mark.parametrize("mode", ["full", "new_rows", "frozen"])
def test_a_document_inside_a_block_has_the_logits_that_it_has_alone(mode: str, material: Material) -> None:
    model, tok = checkpoint.load(
        material.extend["untied"], trainable=True, embeddings=cast(Any, mode), block=48, seed=3
    )
    model.train()  # through the forward pass of training, adapters and all
    begin = text.bos_id(tok)
    documents = [
        [begin, *ids, tok.eos_token_id] for ids in text.encode(tok, ["Мова народу", "A dog ran", "степ"])
    ]
    block = [i for document in documents for i in document]
    rows = [{"input_ids": ids, "new_language": True} for ids in (block, block[::-1])]
    batch = blocks.collate_apart(begin)(rows)
    assert set(batch) == {"input_ids", "labels", "position_ids", "new_language"}
    with torch.no_grad():
        inside = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"]).logits[0]
        first = len(documents[0])
        middle = inside[first : first + len(documents[1])]
        alone = model(input_ids=torch.tensor([documents[1]])).logits[0]
        seen = model(input_ids=batch["input_ids"]).logits[0][first : first + len(documents[1])]
    assert torch.allclose(middle, alone, rtol=0, atol=1e-5)
    assert not torch.allclose(seen, alone, rtol=0, atol=1e-3), "without positions the border is not there"


@pytest.mark.parametrize("mode", ["full", "new_rows"])
def test_the_loss_of_training_is_that_of_the_documents_apart(mode: str, material: Material) -> None:
    """Against a mask of causal blocks that is written out, and plain cross-entropy."""
    model, tok = checkpoint.load(
        material.extend["tied"], trainable=True, embeddings=cast(Any, mode), block=48, seed=3
    )
    begin = text.bos_id(tok)
    block = [i for ids in text.encode(tok, ["Мова народу", "A dog ran", "степ"]) for i in (begin, *ids)]
    batch = blocks.collate_apart(begin)([{"input_ids": block, "new_language": True}])
    del batch["new_language"]  # for the trainer
    model.train()
    ours = model(**batch).loss.detach()
    owner = torch.tensor(block).eq(begin).cumsum(0)
    allowed = (owner[:, None] == owner) & torch.ones(len(block), len(block)).tril().bool()
    mask = torch.zeros(1, 1, len(block), len(block)).masked_fill(~allowed, torch.finfo(torch.float32).min)
    with torch.no_grad():
        logits = model.eval()(
            input_ids=batch["input_ids"], attention_mask=mask, position_ids=batch["position_ids"]
        ).logits
    expected = torch.nn.functional.cross_entropy(logits[0, :-1], torch.tensor(block[1:]))
    assert abs(float(ours) - float(expected)) < 1e-5


def test_attention_goes_across_where_the_backend_is_not_sure_to_read_borders(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tok = text.tokenizer(material.extend["tied"])

    def prepared() -> Any:
        return blocks.prepare(
            material.corpus, tok, block=48, replay_share=0.1, needed=4, work=tmp_path / "work"
        )

    cpu = prepared()
    monkeypatch.setattr(backend, "device", lambda: "cuda")
    gpu = prepared()
    assert (cpu.figures["documents_apart"], gpu.figures["documents_apart"]) == (True, False)
    rows = [cpu.dataset[0], cpu.dataset[1]]
    assert set(gpu.collate(rows)) == {"input_ids", "labels", "attention_mask", "new_language"}
    assert gpu.collate(rows)["input_ids"].equal(cpu.collate(rows)["input_ids"])
    assert json.loads(json.dumps(cpu.figures)) == cpu.figures and not list((tmp_path / "work").iterdir())


def test_replay_that_fills_no_block_is_said_to_be_unused(
    tmp_path: Path, material: Material, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "train.jsonl", ["слово " * 60] * 4)
    write_jsonl(tmp_path / "replay.jsonl", ["A few words."])
    tok = text.tokenizer(material.extend["tied"])
    data = blocks.prepare(tmp_path, tok, block=32, replay_share=0.3, needed=None, work=tmp_path / "work")
    assert data.figures["replay_blocks"] == 0
    assert "does not fill one block of 32 tokens" in " ".join(capsys.readouterr().err.split())


def test_without_replay_text_it_is_said_what_to_expect(
    tmp_path: Path, material: Material, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "train.jsonl", ["слово " * 60] * 4)
    tok = text.tokenizer(material.extend["tied"])
    data = blocks.prepare(tmp_path, tok, block=32, replay_share=0.3, needed=None, work=tmp_path / "work")
    assert data.figures["replay_blocks"] == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "no replay text (corpus.replay)" in said and "0.05 to 0.3" in said
