"""Measures of ranked lists against numbers worked out by hand and against scikit-learn."""

import math

import numpy as np
import pytest

from fastvocab.items.ranking import NONE, compare, gains, measure, places, top


def test_measures_agree_with_a_calculation_by_hand() -> None:
    ranked = [[4, 2, 9], [4, 2, 9], [4, 2, 9], [4, NONE, NONE]]
    found = measure(ranked, [4, 9, 7, 2], ks=(1, 2, 3))
    # first place, third place, not there, not there
    assert found["users"] == 4
    assert found["recall@1"]["value"] == 0.25 and found["recall@2"]["value"] == 0.25
    assert found["recall@3"]["value"] == 0.5
    assert found["ndcg@3"]["value"] == pytest.approx((1 + 1 / math.log2(4)) / 4)
    assert found["mrr@3"]["value"] == pytest.approx((1 + 1 / 3) / 4)


def test_ndcg_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    generator = np.random.default_rng(1)
    scores, targets = generator.normal(size=(40, 30)), generator.integers(0, 30, 40)
    right = np.zeros_like(scores)
    right[np.arange(40), targets] = 1
    for k in (1, 5, 10, 30):
        ours = measure(top(scores, k), targets.tolist(), ks=(k,))[f"ndcg@{k}"]["value"]
        assert ours == pytest.approx(metrics.ndcg_score(right, scores, k=k))


def test_top_is_a_stable_sort_without_the_barred() -> None:
    scores = np.array([[0.0, 3.0, 3.0, 1.0], [9.0, 8.0, 7.0, 6.0]], np.float32)
    assert top(scores, 3).tolist() == [[1, 2, 3], [0, 1, 2]]
    barred = top(scores, 5, [{1}, {0, 1, 2}]).tolist()
    assert barred == [[2, 3, 0, NONE, NONE], [3, NONE, NONE, NONE, NONE]]


def test_a_place_without_an_item_is_never_right() -> None:
    assert places([[NONE, 3], [NONE]], [3, 0]).tolist() == [1, math.inf]
    assert gains(places([[NONE, 3]], [3]), 1)["recall@1"].tolist() == [0]


def test_an_interval_of_no_hit_is_not_of_width_nothing() -> None:
    found = measure([[1]] * 50, [0] * 50, ks=(1,))["recall@1"]
    # Wilson: z^2 / (n + z^2)
    assert found["low"] == 0 and found["high"] == pytest.approx(1.96**2 / (50 + 1.96**2), rel=1e-3)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    generator, inside = np.random.default_rng(0), {"recall@3": 0, "ndcg@3": 0}
    truth = {"recall@3": 0.3, "ndcg@3": (1 + 1 / math.log2(3) + 0.5) / 10}
    for _ in range(400):
        # the target stands with 10% each at the places 0, 1, 2
        targets = generator.integers(0, 10, 200).tolist()
        found = measure([list(range(10))] * 200, targets, ks=(3,))
        for name in inside:
            inside[name] += found[name]["low"] <= truth[name] <= found[name]["high"]
    assert all(365 <= count <= 395 for count in inside.values()), (
        inside
    )  # 95% of 400 are 380, +- 3.5 deviations


def test_a_paired_difference_is_sure_where_the_users_agree() -> None:
    # each of the second's hits is one of the first's too: hard users are hard for both
    targets = [0] * 100
    good, bad = (
        [[0] if user < 60 else [1] for user in range(100)],
        [[0] if user < 50 else [1] for user in range(100)],
    )
    found = compare(good, bad, targets, k=1)["recall@1"]
    assert found["difference"] == pytest.approx(0.1) and 0 < found["low"] < 0.1 < found["high"]
    apart = [measure(ranked, targets, ks=(1,))["recall@1"] for ranked in (good, bad)]
    assert apart[0]["low"] < apart[1]["high"], "by themselves the two intervals overlap"
