"""How good ranked lists of items are: Recall, NDCG and MRR, with 95% intervals over users.

One item is the right one for each user, and all items of the catalogue compete: a sample of them as competitors gives
other, inconsistent orders of methods (Krichene, Rendle: On Sampled Metrics for Item Recommendation, KDD 2020).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from fastvocab.evaluate import intervals

#: Marks the places of a ranked list for which there is no item.
NONE = -1
#: 97.5% quantile of the normal distribution.
_Z = 1.959964


def top(scores: np.ndarray, k: int, barred: Sequence[Collection[int]] | None = None) -> np.ndarray:
    """The best ``k`` items of each user, best first.

    Args:
        scores: (users, items).
        k: at most so many.
        barred: (users,) row numbers that may not be in the list.

    Returns:
        (users, k) row numbers; `NONE` where no item is left. Of equal ones the earlier row comes first.
    """
    scores = scores.astype(np.float64)
    for user, rows in enumerate(barred or ()):
        scores[user, list(rows)] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best[np.take_along_axis(scores, best, 1) == -np.inf] = NONE
    return np.pad(best, ((0, 0), (0, max(0, k - scores.shape[1]))), constant_values=NONE)


def places(ranked: Sequence[Sequence[int]] | np.ndarray, targets: Sequence[int]) -> np.ndarray:
    """(users,) where in its list each target stands, from 0; infinity where it does not.

    Args:
        ranked: (users, any length) row numbers, best first. `NONE` takes a place and is never right.
        targets: (users,) row numbers.
    """
    assert len(ranked) == len(targets), "one list and one target for each user"
    found = np.full(len(targets), np.inf)
    for user, (rows, target) in enumerate(zip(ranked, targets)):
        hits = np.flatnonzero(np.asarray(rows) == target)
        if len(hits):
            found[user] = hits[0]
    return found


def gains(at: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """What each user adds to the means, by measure.

    With one right item Recall@k is the hit rate, and the best possible DCG is 1, so that NDCG@k is 1 / log2(place + 2)
    (Järvelin, Kekäläinen: Cumulated gain-based evaluation of IR techniques, 2002).

    Args:
        at: (users,) places, as from `places`.
        k: how much of the lists counts.
    """
    inside = at < k
    place = np.where(inside, at, 0)
    return {
        f"recall@{k}": inside.astype(np.float64),
        f"ndcg@{k}": np.where(inside, 1 / np.log2(place + 2), 0.0),
        f"mrr@{k}": np.where(inside, 1 / (place + 1), 0.0),
    }


def measure(
    ranked: Sequence[Sequence[int]] | np.ndarray,
    targets: Sequence[int],
    *,
    ks: Sequence[int] = (10,),
) -> dict[str, Any]:
    """Recall@k, NDCG@k and MRR@k of ranked lists, each ``{"value", "low", "high"}``, and ``users``.

    The intervals are Wilson's for the recall, which holds at no hit too, and those of a mean (normal) for the others.

    Args:
        ranked, targets: as in `places`; MRR of the whole catalogue needs lists of it and ``k`` of its size.
        ks: lengths of lists.
    """
    at, out = places(ranked, targets), dict[str, Any](users=len(targets))
    for k in ks:
        for name, values in gains(at, k).items():
            low, high = _of_share(values) if name.startswith("recall") else _of_mean(values, 0, 1)
            out[name] = {"value": float(values.mean()), "low": low, "high": high}
    return out


def _of_share(hits: np.ndarray) -> tuple[float, float]:
    return intervals.share(int(hits.sum()), len(hits))


def _of_mean(values: np.ndarray, least: float, most: float) -> tuple[float, float]:
    half = _Z * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else most - least
    return max(least, float(values.mean()) - half), min(most, float(values.mean()) + half)


def compare(
    ours: Sequence[Sequence[int]] | np.ndarray,
    other: Sequence[Sequence[int]] | np.ndarray,
    targets: Sequence[int],
    *,
    k: int = 10,
) -> dict[str, dict[str, float]]:
    """By how much ``ours`` is better than ``other`` for the same users, by measure: ``{"difference", "low", "high"}``.

    The interval is that of the mean of differences, user by user: what makes a user hard to predict is hard for both.
    """
    first, second = gains(places(ours, targets), k), gains(places(other, targets), k)
    out = {}
    for name, values in first.items():
        by_user = values - second[name]
        low, high = _of_mean(by_user, -1, 1)
        out[name] = {"difference": float(by_user.mean()), "low": low, "high": high}
    return out
