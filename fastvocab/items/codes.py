"""Codes of items: vectors cut into levels of clusters, each level saying what those before it left open.

The semantic ids of TIGER (arXiv 2305.05065) and LC-Rec (arXiv 2311.09049), with k-means on residuals in the place of a
trained RQ-VAE: no training, and the same codes from the same seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastvocab import console
from fastvocab.corpus import streams
from fastvocab.corpus.items import Row, names
from fastvocab.corpus.read import rows
from fastvocab.corpus.sources import resolve
from fastvocab.errors import DataError, DependencyError
from fastvocab.items.fields import identity

Codes = npt.NDArray[np.int64]
NEEDS = "pip install 'fastvocab[items]'"
#: Starts of k-means, of which the best counts. MovieLens-100K, 3 levels of 32, variance left over five seeds: 0.339
#: to 0.346 of one start (0.2 s), 0.335 to 0.343 of four (0.4 s), 0.334 to 0.340 of ten (0.9 s).
STARTS = 4
#: Residuals that differ by less, as a share of the largest number, are one: what rounding leaves is no difference.
_SAME = 1e-6


@dataclass(frozen=True, eq=False)
class Quantised:
    """Vectors as codes.

    Attributes:
        codes: (items, levels) int64, of level l from 0 to ``len(centroids[l]) - 1``.
        centroids: (k_l, d) float64 of each level; their sum over an item's codes is near its vector.
        residual: share of the vectors' variance that is left after each level.
        asked: codes of a level that were asked for; k_l is less where fewer different residuals were left.
    """

    codes: Codes
    centroids: list[npt.NDArray[np.float64]]
    residual: list[float]
    asked: int

    def figures(self) -> dict[str, Any]:
        """Fit for JSON; ``cut_down`` are the levels that have fewer codes than were asked for."""
        sizes = [len(centres) for centres in self.centroids]
        return {
            "codebook": self.asked,
            "codebooks": sizes,
            "cut_down": [level for level, size in enumerate(sizes) if size < self.asked],
            "residual": [round(share, 4) for share in self.residual],
        }


def residual_kmeans(
    vectors: npt.NDArray[Any], *, levels: int, codebook: int, seed: int, starts: int = STARTS
) -> Quantised:
    """Cluster vectors, then what is left of them, and so on.

    k-means of scikit-learn (Lloyd, k-means++), on one thread: sums of several threads are rounded in whatever order
    they end, and codes must be the same again.

    Args:
        vectors: (items, d), finite.
        levels: one or more.
        codebook: clusters of each level.
        starts: as `STARTS`.

    Raises:
        DependencyError: scikit-learn is not installed.
    """
    assert vectors.ndim == 2 and len(vectors) and levels > 0 and codebook > 0
    assert np.isfinite(vectors).all(), "whoever made the vectors has checked them"
    try:
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise DependencyError(f"codes of items need scikit-learn: {error}", fix=NEEDS) from None
    left = vectors.astype(np.float64)
    scale, total = np.abs(left).max(), float(((left - left.mean(0)) ** 2).sum())
    codes, centroids, shares = [], list[npt.NDArray[np.float64]](), list[float]()
    with threadpool_limits(limits=1):
        for level in range(levels):
            distinct = len(np.unique(np.round(left / (scale * _SAME or 1.0)), axis=0))
            found = KMeans(min(codebook, distinct), n_init=starts, random_state=seed + level).fit(left)
            codes.append(found.labels_.astype(np.int64))
            centroids.append(found.cluster_centers_)
            left = left - centroids[-1][codes[-1]]
            shares.append(float((left**2).sum()) / total if total else 0.0)
    return Quantised(np.stack(codes, axis=1), centroids, shares, codebook)


def resolve_collisions(codes: Codes) -> Codes:
    """Tell items with the same codes apart by one more, which counts them from 0 in the order of rows.

    It is there for items that are alone too, as 0: all items have the same number of codes. TIGER's way (section 3.1
    there), but for its leaving the code out where nothing collides.

    Args:
        codes: (items, levels) int64.

    Returns:
        (items, levels + 1), all rows different.
    """
    group, count = _groups(codes)
    order = np.argsort(group, kind="stable")
    first = np.concatenate(([0], np.cumsum(count)[:-1]))
    numbers = np.empty(len(codes), np.int64)
    numbers[order] = np.arange(len(codes)) - np.repeat(first, count)
    return np.concatenate((codes, numbers[:, None]), axis=1)


def usage(codes: Codes, sizes: Sequence[int] = ()) -> dict[str, Any]:
    """How codes are used, and how many items only the last code tells apart.

    Args:
        codes: (items, D).
        sizes: of the codebooks, of the first levels; of the others, the highest code and one.

    Returns:
        Fit for JSON. ``levels``: for each ``used`` codes, ``of`` how many, ``commonest``, the share of items on the
        commonest, and ``perplexity``, exp of the entropy: as many codes, all equally common, would tell as much.
        ``colliding``: items that share all codes but the last with another; ``groups`` of them, and the ``largest``.
    """
    levels = []
    for level, column in enumerate(codes.T):
        counts = np.unique(column, return_counts=True)[1]
        share = counts / len(column)
        levels.append(
            {
                "used": len(counts),
                "of": sizes[level] if level < len(sizes) else int(column.max()) + 1,
                "commonest": round(float(share.max()), 4),
                "perplexity": round(float(np.exp(-(share * np.log(share)).sum())), 1),
            }
        )
    # items of a single level share all none of the codes before it
    counts = _groups(codes[:, :-1])[1]
    groups = counts[counts > 1]
    return {
        "items": len(codes),
        "levels": levels,
        "colliding": int(groups.sum()),
        "groups": len(groups),
        "largest": int(counts.max()),
    }


def table_lines(figures: Mapping[str, Any]) -> list[str]:
    """`usage` for people: a line for each level, and one about collisions."""
    lines = [
        f"code {number}: {level['used']:,} of {level['of']:,} in use, as if {level['perplexity']:,.0f} were equally "
        f"common; the commonest has {level['commonest']:.1%} of the items"
        for number, level in enumerate(figures["levels"], 1)
    ]
    if not figures["colliding"]:
        return [*lines, f"no two of {figures['items']:,} items share all codes but the last"]
    return [
        *lines,
        f"{figures['colliding']:,} of {figures['items']:,} items share all codes but the last with another, "
        f"in {figures['groups']:,} groups of at most {figures['largest']:,}",
    ]


def _groups(codes: Codes) -> tuple[Codes, Codes]:
    """(items,) number of the distinct row that each is, and (distinct rows,) how many items are that row."""
    if not codes.shape[1]:
        return np.zeros(len(codes), np.int64), np.array([len(codes)])
    _, group, count = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    return group.reshape(-1), count


def read_codes(source: str, items: Sequence[str]) -> Codes:
    """Codes from a file: a JSON object ``{item: [codes]}``, or rows with the fields ``item`` and ``codes``.

    Args:
        source: what `fastvocab.corpus.read.rows` reads; in csv a cell of codes is ``[1, 2]`` or ``1 2``.
        items: ids of the catalogue. Others in the file are left out, with a warning.

    Returns:
        (items, D) in the order of ``items``.

    Raises:
        DataError: items without codes, two items with the same codes, codes of several lengths, codes that are no
            whole numbers from 0 on, an item that comes twice: all of it in one error.
    """
    faults, found = by_item(_pairs(source), items, "codes", _whole_numbers, source)
    lengths: dict[int, list[str]] = {}
    for item, codes in found.items():
        lengths.setdefault(len(codes), []).append(item)
    if len(lengths) > 1:
        said = [f"{n} ({len(own):,} items: {names(own, 2)})" for n, own in sorted(lengths.items())]
        faults.append(f"items have different numbers of codes: {names(said, 4)}")
    owners: dict[tuple[int, ...], list[str]] = {}
    for item, codes in found.items():
        owners.setdefault(tuple(codes), []).append(item)
    twins = [f"{names(own, 3)}: {list(codes)}" for codes, own in owners.items() if len(own) > 1]
    if twins:
        faults.append(f"{len(twins):,} times several items have the same codes: " + "; ".join(twins[:3]))
    refuse(source, faults, "every item has codes of its own, as many as the others, whole numbers from 0 on")
    return np.array([found[item] for item in items], np.int64)


def _pairs(source: str) -> Iterable[tuple[Any, Any, str]]:
    """(item, codes, place) of whatever the file holds."""
    given = resolve(source)
    if len(given) == 1 and given[0].format == "json":
        entries: list[tuple[str, Any]] = []  # of the outermost object, which ends last; with doubles

        def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            entries[:] = pairs
            return dict(pairs)

        try:
            value = json.loads("".join(streams.text(given[0])), object_pairs_hook=note)
        except (ValueError, RecursionError):
            value = None  # `rows` says what is wrong with it, and where
        if isinstance(value, dict) and not any(isinstance(v, dict) for v in value.get("data") or ()):
            return [(key, codes, source) for key, codes in entries]
    return field_pairs(rows(source), "codes")


def field_pairs(found: Iterable[Row], name: str) -> Iterable[tuple[Any, Any, str]]:
    """(item, value, place) of rows with the fields ``item`` and ``name``.

    Raises:
        DataError: a row without them.
    """
    for row in found:
        fields = row.fields
        if not isinstance(fields, dict) or "item" not in fields or name not in fields:
            has = names(fields, 20) if isinstance(fields, dict) else f"no fields: {str(fields)[:40]}"
            raise DataError(
                f"{row.source} has {has}",
                rule=f"a row has the fields 'item' and {name!r}",
                fix="name them so, or give a JSON object {item: codes}"
                if name == "codes"
                else "name them so",
            )
        yield fields["item"], fields[name], row.source


def by_item(
    pairs: Iterable[tuple[Any, Any, str]],
    items: Sequence[str],
    what: str,
    take: Callable[[Any], Any],
    source: str,
) -> tuple[list[str], dict[str, Any]]:
    """What a file says of each item of the catalogue, and what is wrong with it; warns of items that are in none.

    Args:
        what: ``codes`` or ``vectors``, for messages.
        take: the value as it is wanted, or None where it is no such value.
    """
    known, found, seen = set(items), dict[str, Any](), set[str]()
    odd, twice, strange = list[str](), list[str](), list[str]()
    for given, value, place in pairs:
        item = identity(given)
        if item not in known:
            strange.append(str(given)[:40])
            continue
        if item in seen:
            twice.append(f"{item} ({place})")
            continue
        seen.add(item)
        if (taken := take(value)) is None:
            odd.append(f"{item}: {str(value)[:40]}")
        else:
            found[item] = taken
    lacking = [item for item in items if item not in seen]
    faults = []
    if lacking:
        faults.append(f"{len(lacking):,} of {len(items):,} items have no {what}: {names(lacking, 5)}")
    if odd:
        faults.append(f"{len(odd):,} items have something else than {what}: {names(odd, 5)}")
    if twice:
        faults.append(f"{len(twice):,} items come again: {names(twice, 5)}")
    if strange and (found or odd):
        console.warn(
            f"{source}: {len(strange):,} items are not in the catalogue and are left out: {names(strange, 5)}"
        )
    elif strange:
        faults.append(f"none of its items is in the catalogue: it has {names(strange, 3)}")
    return faults, found


def refuse(source: str, faults: Sequence[str], rule: str) -> None:
    """One `DataError` for all ``faults``, if there are any."""
    if faults:
        listed = faults[0] if len(faults) == 1 else f"{len(faults)} faults\n  " + "\n  ".join(faults)
        raise DataError(f"{source}: {listed}", rule=rule, fix="mend the file")


def _whole_numbers(value: Any) -> list[int] | None:
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip().startswith("[") else list(map(int, value.split()))
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list) or not value:
        return None
    if not all(type(code) is int and 0 <= code < 2**31 for code in value):
        return None
    return value
