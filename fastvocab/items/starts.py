"""Where the rows of item tokens start: what is known of the items that have a code, not one mean for all.

Either way gives a part for each token, so that an item's own row (the mean of the rows of its description's tokens) is
near the mean of all items' rows plus the parts of its tokens. A part alone is no row of a model: it is short, and
has nothing of what the rows of such text have in common. So a token's row is the items' mean plus its part,
lengthened, by one factor for all tokens, until parts are as long as the base's rows are far from their mean. The mean
over an item's tokens, which is what even attention takes of them, then points from the items' mean to where the item's
own row does. (A factor for each level, so that fine differences count as much as coarse ones, trained no better: 9.9
nats after 40 steps against 9.7, in the measurement of `rows` and of 0.6 times the length.)

It is the items' mean and not that of all of the base's rows, which are mostly rare tokens': in SmolLM2 that mean is
2.2 long, of rows of 3.2, and points elsewhere (cosine 0.33).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastvocab.errors import ConfigError, DependencyError, ModelError
from fastvocab.items.codes import NEEDS

Way = Literal["description", "centroid"]
_Floats = npt.NDArray[np.float64]
#: Random part of each row, as a share of how far rows are from their mean: codes whose items are all called the same
#: would start as one token.
NOISE = 0.05
#: Of ridge regression, of which leave-one-out takes the best (scikit-learn's ``RidgeCV``).
_PENALTIES = tuple(10.0**power for power in range(-2, 7))


def rows(
    weight: Any,
    *,
    way: Way,
    description_ids: Sequence[Sequence[int]],
    codes: npt.NDArray[np.int64],
    vectors: npt.NDArray[Any] | None = None,
    centroids: Sequence[npt.NDArray[Any]] | None = None,
    used: Sequence[int] | None = None,
    length: float = 1.0,
    seed: int = 0,
) -> Any:
    """Rows of all tokens of items, for one matrix.

    Nats of an item (3 codes of 32 from co-occurrence and the last one) in held-out histories of MovieLens-100K after 0,
    10 and 40 steps that trained these rows alone, in SmolLM2-135M's tied matrix (one seed; all codes equally likely
    would be 10.4 without the last):

        rows                                   0     10     40
        description, as long as the base's    39.5   12.9   10.3
        the same, of 0.4 times the length     17.5   11.4    9.9
        centroid, as long as the base's       26.7   14.3   11.4
        the same, of 0.4 times the length     18.0   10.9    9.5
        the base's mean and 5% of noise       13.4   11.6   11.1
        random, as long as the base's         60.0   21.6   13.2

    In a tied matrix rows are the head's as well, and long ones are sure of what they do not know.

    Args:
        weight: (vocabulary, width) of the base; it is not changed.
        way: ``description``: parts come from descriptions alone (`described`); ``centroid``: from centroids, through
            a ridge regression from item vectors to the rows of descriptions (`projected`).
        description_ids: for each item, what the base reads in its description; may be empty for some.
        codes: (items, D), as `fastvocab.items.mapping.ItemTokens` has them.
        vectors: (items, d) that were clustered, for ``centroid``.
        centroids: (k, d) of the first levels, for ``centroid``; other levels get random parts.
        used: ids of the base's own tokens, as padding and new rows are none; None: all rows that are not zero.
        length: mean norm, as a share of that of the rows ``used``.
        seed: of the random part, drawn on the CPU.

    Returns:
        (tokens, width) float32 on the matrix' device, in the order of ``ItemTokens.tokens()``.

    Raises:
        ModelError: no item has a description.
        ConfigError: ``centroid`` without vectors and centroids.
        DependencyError: ``centroid`` without scikit-learn.
    """
    import torch

    assert len(description_ids) == len(codes), "a description for each item"
    if way == "centroid" and (vectors is None or not centroids):
        raise ConfigError(
            "rows from centroids, and the codes come without",
            rule="codes from a file have no centroids",
            fix="start the rows from descriptions",
        )
    own = item_rows(weight, description_ids)
    parts = (
        described(own, codes) if way == "description" else projected(own, codes, vectors, centroids)  # type: ignore[arg-type]
    )
    base = weight.detach().float()
    base = base[torch.tensor(used, device=base.device)] if used is not None else base[base.any(1)]
    spread, norm = (float(some.norm(dim=1).mean()) for some in (base - base.mean(0), base))
    found = np.concatenate(parts)
    short = float(np.linalg.norm(found, axis=1).mean())
    drawn = torch.randn(found.shape, generator=torch.Generator().manual_seed(seed))
    drawn *= NOISE * spread / float(drawn.norm(dim=1).mean())
    lengthened = torch.from_numpy(found * (spread / short if short > 1e-12 else 0.0)).float()
    out = torch.from_numpy(own.mean(0)).float() + lengthened + drawn
    return (out * (length * norm / float(out.norm(dim=1).mean()))).to(weight.device)


def item_rows(weight: Any, description_ids: Sequence[Sequence[int]]) -> _Floats:
    """(items, width) mean of the rows of each description's tokens; that of all items for one without tokens.

    Raises:
        ModelError: all are without.
    """
    from fastvocab.model.initialise.means import mean_rows  # imports torch

    has = np.array([len(ids) > 0 for ids in description_ids])
    if not has.any():
        raise ModelError(
            "no item has a description that the tokenizer reads as anything",
            rule="rows of item tokens start from what items are called",
            fix="name a field with text: corpus.items.text='{NAME}'",
        )
    found = np.empty((len(has), weight.shape[1]))
    found[has] = mean_rows(weight, [list(ids) for ids in description_ids if len(ids)]).cpu().numpy()
    found[~has] = found[has].mean(0)
    return found


def described(own: _Floats, codes: npt.NDArray[np.int64]) -> list[_Floats]:
    """Parts of each level's tokens: mean over a code's items of what the tokens before it leave of the items' rows.

    Where all items of a code have other codes before it, what sets it apart is in no item's row as a whole, only in
    what is left of it. The sum of an item's parts comes nearer to its row, around the items' mean, with each level.

    Args:
        own: (items, width) rows of descriptions.
        codes: (items, D).

    Returns:
        for each level (codes in use, width), in ascending order of codes.
    """
    left, parts = own - own.mean(0), []
    for column in codes.T:
        _, place, count = np.unique(column, return_inverse=True, return_counts=True)
        place = place.reshape(-1)
        sums = np.zeros((len(count), left.shape[1]))
        np.add.at(sums, place, left)
        parts.append(sums / count[:, None])
        left = left - parts[-1][place]
    return parts


def projected(
    own: _Floats,
    codes: npt.NDArray[np.int64],
    vectors: npt.NDArray[Any],
    centroids: Sequence[npt.NDArray[Any]],
) -> list[_Floats]:
    """Parts of each level's tokens: centroids through the linear map that best takes item vectors to ``own``.

    The map is a ridge regression, its penalty chosen by leave-one-out. Of MovieLens-100K it explains a tenth of
    the variance of titles and genres from co-occurrence, and 59% from SmolLM2's own states (in sample).

    Args, Returns:
        as `described`; parts of levels without centroids are zero.

    Raises:
        DependencyError: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import RidgeCV
    except ImportError as error:
        raise DependencyError(f"rows from centroids need scikit-learn: {error}", fix=NEEDS) from None
    centre, scale = vectors.mean(0), float(vectors.std()) or 1.0
    fitted = RidgeCV(alphas=_PENALTIES, fit_intercept=False).fit(
        (vectors - centre) / scale, own - own.mean(0)
    )
    parts = []
    for level, column in enumerate(codes.T):
        used = np.unique(column)
        if level >= len(centroids):
            parts.append(np.zeros((len(used), own.shape[1])))
            continue
        assert used[-1] < len(centroids[level]), "codes and centroids are of one clustering"
        # the first level's centroids are places, the others' are steps from there
        steps = (centroids[level][used] - (centre if level == 0 else 0.0)) / scale
        parts.append(steps @ fitted.coef_.T)
    return parts
