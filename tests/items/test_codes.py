"""Codes against scikit-learn's own k-means, and what is said of codes from files."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fastvocab.errors import DataError
from fastvocab.items.codes import read_codes, residual_kmeans, resolve_collisions, table_lines, usage

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


def clouds(seed: int = 0) -> np.ndarray:
    """180 points around 3 places, each place with the same 3 smaller ones around it: (180, 8)."""
    generator = np.random.default_rng(seed)
    places = 20 * generator.normal(size=(3, 1, 1, 8)) + 2 * generator.normal(size=(1, 3, 1, 8))
    return (places + 0.1 * generator.normal(size=(3, 3, 20, 8))).reshape(180, 8)


def test_the_first_level_is_k_means_of_scikit_learn() -> None:
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score

    vectors = clouds()
    theirs = KMeans(3, n_init=10, random_state=3).fit(vectors)
    ours = residual_kmeans(vectors, levels=1, codebook=3, seed=0)
    assert adjusted_rand_score(theirs.labels_, ours.codes[:, 0]) == 1.0
    total = ((vectors - vectors.mean(0)) ** 2).sum()
    assert ours.residual[0] == pytest.approx(theirs.inertia_ / total)


def test_a_level_codes_what_those_before_it_left() -> None:
    """The same three offsets lie around all places, so three codes twice tell as much as nine at once."""
    found = residual_kmeans(clouds(), levels=2, codebook=3, seed=0)
    of_place = found.codes[:, 1].reshape(9, 20)
    assert (of_place == of_place[:, :1]).all()
    nine = residual_kmeans(clouds(), levels=1, codebook=9, seed=0)
    assert found.residual[1] < 1.2 * nine.residual[0] < 0.1 * found.residual[0]


def test_error_falls_with_levels_and_centroids_add_up() -> None:
    vectors = np.random.default_rng(1).normal(size=(200, 6)).astype(np.float32)
    found = residual_kmeans(vectors, levels=4, codebook=8, seed=0)
    assert all(a > b for a, b in zip([1.0, *found.residual], found.residual))
    total = ((vectors - vectors.mean(0)) ** 2).sum()
    built = np.zeros_like(vectors, np.float64)
    for level, share in enumerate(found.residual):
        built += found.centroids[level][found.codes[:, level]]
        assert share == pytest.approx(((vectors - built) ** 2).sum() / total, rel=1e-5)


def test_the_same_seed_gives_the_same_codes() -> None:
    vectors = np.random.default_rng(2).normal(size=(400, 16))
    first, again = (residual_kmeans(vectors, levels=3, codebook=16, seed=5).codes for _ in range(2))
    assert (first == again).all()
    assert (first != residual_kmeans(vectors, levels=3, codebook=16, seed=6).codes).any()


def test_a_codebook_is_cut_down_to_what_is_different() -> None:
    vectors = np.repeat(np.eye(3), 4, axis=0)
    found = residual_kmeans(vectors, levels=2, codebook=8, seed=0)
    assert [len(c) for c in found.centroids] == [3, 1]
    assert found.figures() == {"codebook": 8, "codebooks": [3, 1], "cut_down": [0, 1], "residual": [0.0, 0.0]}
    alike = residual_kmeans(np.ones((5, 2)), levels=2, codebook=4, seed=0)
    assert (alike.codes == 0).all() and alike.residual == [0.0, 0.0]


@settings(deadline=None)
@given(arrays.arrays(np.int64, st.tuples(st.integers(1, 60), st.integers(0, 3)), elements=st.integers(0, 3)))
def test_collisions_are_resolved(codes: np.ndarray) -> None:
    found = resolve_collisions(codes)
    assert (found[:, :-1] == codes).all()
    assert len(np.unique(found, axis=0)) == len(codes)
    seen: dict[tuple[int, ...], int] = {}
    for *shared, last in found.tolist():  # numbered in the order of rows, without a gap
        assert last == seen.get(tuple(shared), 0)
        seen[tuple(shared)] = last + 1


def test_usage_against_a_calculation_by_hand() -> None:
    codes = np.array([[0, 1, 0], [0, 1, 1], [0, 2, 0], [3, 1, 0]])
    figures = usage(codes, [4])
    assert figures["levels"][0] == {"used": 2, "of": 4, "commonest": 0.75, "perplexity": 1.8}  # 4 / 3^0.75
    assert figures["levels"][1]["of"] == 3
    assert (figures["colliding"], figures["groups"], figures["largest"]) == (2, 1, 2)
    lines = table_lines(figures)
    assert "2 of 4 in use" in lines[0] and "2 of 4 items share" in lines[-1]
    assert "no two" in table_lines(usage(np.array([[0, 0], [1, 0]])))[-1]


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "spaces", "parquet"])
def test_codes_of_any_file(tmp_path: Path, kind: str) -> None:
    codes = {"a": [1, 2], "7": [0, 3], "data": [4, 4]}
    file = tmp_path / f"codes.{'csv' if kind == 'spaces' else kind}"
    if kind == "json":
        file.write_text(json.dumps(codes))
    elif kind == "jsonl":
        file.write_text("".join(json.dumps({"item": k, "codes": v}) + "\n" for k, v in codes.items()))
    elif kind == "csv":
        file.write_text("item,codes\n" + "".join(f'{k},"{v}"\n' for k, v in codes.items()))
    elif kind == "spaces":
        file.write_text("item,codes\n" + "".join(f"{k},{' '.join(map(str, v))}\n" for k, v in codes.items()))
    else:
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table({"item": list(codes), "codes": list(codes.values())})
        pyarrow.parquet.write_table(table, file)
    assert read_codes(str(file), ["7", "data", "a"]).tolist() == [[0, 3], [4, 4], [1, 2]]


def test_all_that_is_wrong_with_a_file_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "codes.json"
    file.write_text(
        '{"a": [1, 2], "b": [1, 2], "c": [1], "d": [1, -2], "e": [1.5, 0], "f": [true, 1], "a": [1, 2]}'
    )
    with pytest.raises(DataError) as caught:
        read_codes(str(file), list("abcdefgh"))
    said = caught.value.message
    for part in (
        "2 of 8 items have no codes: g, h",
        "3 items have something else than codes: d: [1, -2], e",
        "1 items come again: a",
        "different numbers of codes: 1 (1 items: c), 2 (2 items: a, b)",
        "the same codes: a, b: [1, 2]",
    ):
        assert part in said


def test_items_that_are_not_in_the_catalogue_are_left_out_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "codes.json"
    file.write_text('{"a": [1], "stranger": "?"}')
    assert read_codes(str(file), ["a"]).tolist() == [[1]]
    assert "1 items are not in the catalogue" in capsys.readouterr().err
    with pytest.raises(DataError, match="none of its items is in the catalogue: it has a"):
        read_codes(str(file), ["b"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("codes.json", "", "holds nothing"),
        ("codes.json", "{}", "have no codes"),
        ("codes.json", "[1]", "no fields: 1"),
        ("codes.json", '{"a": [1', "not valid JSON"),
        ("codes.jsonl", '{"item": "a", "code": [1]}', "has item, code"),
        ("codes.csv", "item,codes\na,x y\n", "something else than codes: a: x y"),
    ],
)
def test_files_without_codes_are_refused(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as caught:
        read_codes(str(tmp_path / name), ["a"])
    assert said in caught.value.message
