"""Rows of item tokens: what they add up to, how long they are, and whose they resemble."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastvocab.errors import ConfigError, ModelError
from fastvocab.items.codes import residual_kmeans, resolve_collisions
from fastvocab.items.mapping import ItemTokens
from fastvocab.items.starts import described, item_rows, projected, rows

torch: Any = pytest.importorskip("torch")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")


def made(items: int = 120) -> dict[str, Any]:
    """Items of 4 kinds: each kind has its own words in descriptions, and its own place among vectors."""
    generator = np.random.default_rng(0)
    kinds = np.arange(items) % 4
    weight = torch.randn(300, 32, generator=torch.Generator().manual_seed(0)) + 0.5
    weight[280:] = 0  # padding
    ids = [(40 * kind + generator.integers(0, 20, 5)).tolist() for kind in kinds]
    places = 3 * generator.normal(size=(4, 10))
    vectors = places[kinds] + 0.3 * generator.normal(size=(items, 10))
    cut = residual_kmeans(vectors, levels=2, codebook=4, seed=0)
    codes = resolve_collisions(cut.codes)
    return {
        "weight": weight,
        "description_ids": ids,
        "codes": codes,
        "vectors": vectors,
        "centroids": cut.centroids,
    }


def own(given: dict[str, Any]) -> np.ndarray:
    return np.stack([given["weight"][ids].mean(0).numpy() for ids in given["description_ids"]])


def places(codes: np.ndarray) -> np.ndarray:
    """(items, D) place of each token among ``ItemTokens.tokens()``."""
    tokens = ItemTokens(tuple(map(str, range(len(codes)))), codes)
    return tokens.ids({token: place for place, token in enumerate(tokens.tokens())})


def test_parts_of_levels_come_nearer_to_the_items_rows() -> None:
    given = made()
    wanted = own(given) - own(given).mean(0)
    sums, before = np.zeros_like(wanted), (wanted**2).sum()
    for part, column in zip(described(own(given), given["codes"]), given["codes"].T):
        place = np.unique(column, return_inverse=True)[1].reshape(-1)
        sums += part[place]
        assert ((wanted - sums) ** 2).sum() < before
        before = ((wanted - sums) ** 2).sum()
    first = described(own(given), given["codes"])[0]
    codes = given["codes"][:, 0]
    hand = [wanted[codes == code].mean(0) for code in np.unique(codes)]
    assert first == pytest.approx(np.stack(hand), abs=1e-6)


def test_an_item_alone_with_its_codes_is_its_own_row() -> None:
    given = made(5)
    codes = np.arange(5)[:, None]
    assert described(own(given), codes)[0] == pytest.approx(own(given) - own(given).mean(0), abs=1e-6)


@pytest.mark.parametrize("way", ["description", "centroid"])
def test_rows_are_as_long_as_the_bases_and_all_different(way: Any) -> None:
    given = made()
    before = given["weight"].clone()
    found = rows(**given, way=way, seed=1)
    assert found.shape == (places(given["codes"]).max() + 1, 32) and found.dtype == torch.float32
    norm = given["weight"][:280].norm(dim=1).mean()  # the padding is no row of the base
    assert float(found.norm(dim=1).mean()) == pytest.approx(float(norm), rel=1e-5)
    assert float(rows(**given, way=way, used=range(10)).norm(dim=1).mean()) == pytest.approx(
        float(given["weight"][:10].norm(dim=1).mean()), rel=1e-5
    )
    assert torch.allclose(rows(**given, way=way, length=0.4, seed=1), 0.4 * found)
    assert float(torch.cdist(found, found).fill_diagonal_(1).min()) > 0.01
    assert torch.equal(found, rows(**given, way=way, seed=1))
    assert not torch.equal(found, rows(**given, way=way, seed=2))
    assert torch.equal(given["weight"], before)


@pytest.mark.parametrize("way", ["description", "centroid"])
def test_items_tokens_point_where_their_descriptions_do(way: Any) -> None:
    """Mean over an item's tokens: nearest to it is the mean row of its own kind of descriptions, of four."""
    given = made()
    tokens = rows(**given, way=way).numpy()[places(given["codes"])].mean(1)
    kinds, texts = np.arange(len(tokens)) % 4, own(given)
    centres = np.stack([texts[kinds == kind].mean(0) for kind in range(4)])
    tokens, centres = tokens - tokens.mean(0), centres - centres.mean(0)
    assert (np.argmax(tokens @ centres.T, axis=1) == kinds).mean() > 0.9


def test_the_projection_is_ridge_regression() -> None:
    """Where rows are a linear map of vectors, centroids end where the map takes them."""
    given, generator = made(), np.random.default_rng(3)
    linear = generator.normal(size=(10, 32))
    rows_of_items = given["vectors"] @ linear + 7
    parts = projected(rows_of_items, given["codes"], given["vectors"], given["centroids"])
    wanted = (given["centroids"][0] - given["vectors"].mean(0)) @ linear
    assert parts[0] == pytest.approx(wanted, abs=0.01 * np.abs(wanted).max())
    assert parts[1] == pytest.approx(given["centroids"][1] @ linear, abs=0.01 * np.abs(wanted).max())
    assert (parts[2] == 0).all()  # the last level has no centroids


def test_items_without_a_description_start_from_the_others() -> None:
    given = made()
    given["description_ids"][3] = []
    found = item_rows(given["weight"], given["description_ids"])
    assert found[3] == pytest.approx(np.delete(found, 3, axis=0).mean(0))
    with pytest.raises(ModelError, match="no item has a description"):
        rows(**given | {"description_ids": [[]] * 120}, way="description")


def test_centroids_must_be_there_for_rows_from_centroids() -> None:
    given = made()
    for lacking in ("vectors", "centroids"):
        with pytest.raises(ConfigError, match="come without"):
            rows(**given | {lacking: None}, way="centroid")


def test_items_that_are_all_called_the_same_get_different_rows() -> None:
    given = made()
    found = rows(**given | {"description_ids": [[7]] * 120}, way="description")
    assert torch.isfinite(found).all() and float(torch.cdist(found, found).fill_diagonal_(1).min()) > 0


def test_half_precision_of_a_real_matrix(tied_llama: Path) -> None:
    from transformers import AutoModelForCausalLM

    weight = AutoModelForCausalLM.from_pretrained(tied_llama).get_input_embeddings().weight
    given = made() | {"weight": weight.bfloat16()}
    assert torch.isfinite(rows(**given, way="centroid")).all()
