"""Where the new rows lie among the old ones, before training and after: two axes, lengths, and how far each turned.

The axes are the first two principal components of the old rows before training (centred, by singular value
decomposition). High-dimensional rows lie mostly outside of any two axes, so the share of the variance that these hold
is part of the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastvocab.model import manifest
from fastvocab.model.reference import Base
from fastvocab.model.rows import base_matrix

#: Rows that are drawn: both pictures of a page together stay under 200 kB of SVG.
OLD_SHOWN, NEW_SHOWN = 600, 400
#: Old rows that the axes are fitted on: a decomposition of 2,000 x 4,096 takes 3 s, and more rows turn them little.
_FITTED = 2000
#: Rows whose lengths are worked out at a time.
_CHUNK = 16_384
#: Points that are no part of a run's own line.
_OTHERS = ("control", "plain")
_PART = "embed_tokens"


def view(base: Base, points: Mapping[str, Path]) -> dict[str, Any] | None:
    """The input embeddings of a line's first checkpoint and its last.

    Reads the matrix of the base and the rows that checkpoints have of their own, no model.

    Args:
        base: the base of the line.
        points: checkpoint folders by stage, in order.

    Returns:
        None where nothing was added, or the first checkpoint is not that of the stage extend. Else
        ``first`` and ``last``: names of the two points, ``last`` None where nothing was trained. ``tied``, ``width``.
        ``old``, ``new``: each with ``rows`` (how many there are), ``norm`` (mean length of all: before, after),
        ``cosine`` (mean, of a row after with itself before; None without training), ``changed`` (how many differ
        after), ``variance`` (share that both axes hold, before and after; of the new rows around the old ones' mean
        too), and ``before`` and ``after``: (x, y) of at most `OLD_SHOWN` and `NEW_SHOWN` rows, evenly
        spaced by id. Old rows that stayed as they were have ``after`` None.
    """
    import numpy as np

    line = {name: folder for name, folder in points.items() if name not in _OTHERS}
    if not line:
        return None
    first, start = next(iter(line.items()))
    facts = manifest.peek(start)
    new_ids = manifest.new_ids(facts)
    if not new_ids or facts["stage"] != "extend":
        return None
    # after a chat vector the rows are another model's: nothing that training did
    stands = facts["base"]["fingerprint"]
    last, end = [one for one in line.items() if manifest.peek(one[1])["base"]["fingerprint"] == stands][-1]
    weight = base_matrix(base.folder, _PART)
    before = _Matrix(weight, start)
    after = _Matrix(weight, end) if end != start else None
    spare = {i for a, b in facts["vocabulary"]["unused"] for i in range(a, b)}
    old = np.array([i for i in range(before.rows) if i not in new_ids and i not in spare])
    new = np.arange(new_ids.start, new_ids.stop)
    fitted = before.take(_spread(old, _FITTED))
    centre = fitted.mean(axis=0)
    axes = np.linalg.svd(fitted - centre, full_matrices=False)[2][:2]
    # either sign is right: the one whose largest entry is positive, so that every machine draws the same picture
    axes *= np.sign(axes[range(len(axes)), abs(axes).argmax(axis=1)])[:, None]
    found: dict[str, Any] = {
        "first": first,
        "last": last if after else None,
        "tied": facts["tied"],
        "width": fitted.shape[1],
    }
    for name, ids, shown in (("old", old, OLD_SHOWN), ("new", new, NEW_SHOWN)):
        found[name] = _group(ids, _spread(ids, shown), before, after, centre, axes)
    return found


class _Matrix:
    """Rows of a checkpoint's input embeddings by id: its own where it has them, else the base's."""

    def __init__(self, base: Any, checkpoint: Path) -> None:
        from safetensors.torch import load_file

        own = load_file(checkpoint / manifest.ROWS)
        self._base, self._own = base, own[f"{_PART}.rows"]
        self.ids = own[f"{_PART}.index"].numpy()
        self.rows = manifest.peek(checkpoint)["vocabulary"]["rows"]

    def take(self, ids: Any) -> Any:
        """float32 (len(ids), width)."""
        import numpy as np

        places = np.searchsorted(self.ids, ids)
        mine = places < len(self.ids)
        mine[mine] = self.ids[places[mine]] == ids[mine]
        out = np.empty((len(ids), self._base.shape[1]), np.float32)
        out[mine] = self._own[places[mine]].float().numpy()
        out[~mine] = self._base[ids[~mine]].float().numpy()
        return out


def _group(
    ids: Any, shown: Any, before: _Matrix, after: _Matrix | None, centre: Any, axes: Any
) -> dict[str, Any]:
    import numpy as np

    lengths = _lengths(before, ids)
    out: dict[str, Any] = {
        "rows": len(ids), "norm": [_rounded(lengths.mean())], "cosine": None, "changed": None,
        "variance": [], "before": None, "after": None,
    }  # fmt: skip
    if after is not None:
        cosines, changed = np.ones(len(ids)), 0
        # what neither has a row of its own for is the base's in both
        (own,) = np.isin(ids, np.concatenate([before.ids, after.ids])).nonzero()
        now = lengths.copy()
        for some in _chunks(own):
            a, b = before.take(ids[some]), after.take(ids[some])
            now[some] = np.linalg.norm(b, axis=1)
            cosines[some] = (a * b).sum(axis=1) / np.maximum(lengths[some] * now[some], 1e-30)
            changed += int((a != b).any(axis=1).sum())
        out["norm"].append(_rounded(now.mean()))
        out |= {"cosine": _rounded(cosines.mean(), 4), "changed": changed}
    moments = {"before": before} | ({"after": after} if after is not None and out["changed"] else {})
    for moment, matrix in moments.items():
        apart = matrix.take(shown) - centre
        places = apart @ axes.T
        total = float((apart**2).sum())
        out["variance"].append(_rounded((places**2).sum() / total) if total else None)
        out[moment] = [[_rounded(value) for value in place] for place in places]
    return out


def _lengths(matrix: _Matrix, ids: Any) -> Any:
    import numpy as np

    return np.concatenate(
        [np.linalg.norm(matrix.take(ids[some]), axis=1) for some in _chunks(np.arange(len(ids)))]
    )


def _chunks(places: Any) -> list[Any]:
    return [places[start : start + _CHUNK] for start in range(0, len(places), _CHUNK)]


def _spread(ids: Any, count: int) -> Any:
    """At most ``count`` of ``ids``, evenly spaced."""
    import numpy as np

    return ids if len(ids) <= count else ids[np.linspace(0, len(ids) - 1, count).round().astype(int)]


def _rounded(value: Any, digits: int = 3) -> float:
    """To a few digits, so that a record stays small."""
    return float(f"{float(value):.{digits}g}")
