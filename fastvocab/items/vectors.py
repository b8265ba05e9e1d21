"""A vector for each item: from who took it together with what, from what it is called, or given."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastvocab import console
from fastvocab.corpus.items import names
from fastvocab.corpus.read import rows
from fastvocab.errors import DataError, DependencyError
from fastvocab.items.codes import NEEDS, by_item, field_pairs, refuse

Vectors = npt.NDArray[np.float32]
_FILES = (".npy", ".npz", ".safetensors")
#: Of a text, at most: descriptions of items are a line or a few.
_TOKENS = 256
_RULE = "a vector for each item of the catalogue, all as long, of finite numbers"


def cooccurrence(
    histories: Sequence[Sequence[int]], items: int, *, size: int = 64, seed: int, window: int = 10
) -> Vectors:
    """Items that are taken together are near each other: PPMI of pairs, reduced by a truncated SVD.

    Levy, Goldberg 2014 ("Neural word embedding as implicit matrix factorization"), with the square root of the
    singular values (Levy, Goldberg, Dagan 2015, section 3.3).

    Rows have length 1: k-means sees their direction, and not how much is known of an item (MovieLens-100K, 48
    clusters: the commonest has 6% of the items, of rows as they come 10%). An item that was never
    seen, or only alone, is the zero vector: as far from every direction as from any other, so that such items share
    codes and are told apart by the last one. Inventing a place for them would put chance into the first code.

    Args:
        histories: for each user, row numbers from 0 to ``items - 1`` in the order of time; of training alone.
        items: how many there are.
        size: of a vector; where there are no more items than that, one less than items.
        window: items at most so many places apart count as taken together. Distances within it all count the same.

    Returns:
        (items, size) float32.

    Raises:
        DependencyError: scikit-learn is not installed.
        DataError: no two items stand near each other in any history.
    """
    counts = ppmi(histories, items, window)
    if not counts.nnz:
        raise DataError(
            f"{len(histories):,} histories have no two different items within {window} places, or none more often "
            "than by chance",
            rule="items get their vectors from the items around them",
            fix="make the vectors from text, or give longer histories",
        )
    from sklearn.decomposition import TruncatedSVD

    reduced = TruncatedSVD(min(size, items - 1), algorithm="arpack", random_state=seed)
    found = reduced.fit_transform(counts) / np.sqrt(np.maximum(reduced.singular_values_, 1e-12))
    return unit(found)


def ppmi(histories: Sequence[Sequence[int]], items: int, window: int) -> Any:
    """max(0, log p(i, j) / p(i) p(j)) over pairs of different items within ``window`` places of one history.

    Both orders of a pair count. An item with itself does not: that says nothing of what it is like.

    Returns:
        (items, items) sparse float64, symmetric.

    Raises:
        DependencyError: as `cooccurrence`.
    """
    try:
        from scipy.sparse import csr_array
    except ImportError as error:
        raise DependencyError(f"vectors of items need scikit-learn: {error}", fix=NEEDS) from None
    taken = np.array([row for history in histories for row in history], np.int64)
    owner = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    together = csr_array((items, items))
    for apart in range(1, window + 1):
        left, right = taken[:-apart], taken[apart:]
        counted = (owner[:-apart] == owner[apart:]) & (left != right)
        together = together + csr_array(
            (np.ones(int(counted.sum())), (left[counted], right[counted])), shape=(items, items)
        )
    together = (together + together.T).tocoo()
    often = np.asarray(together.sum(axis=1)).reshape(-1)
    first, second = together.coords
    value = np.log(together.data * often.sum() / (often[first] * often[second]))
    kept = value > 0
    return csr_array((value[kept], (first[kept], second[kept])), shape=(items, items))


def of_text(model: Any, tokenizer: Any, texts: Sequence[str], *, batch: int = 16) -> Vectors:
    """What a language model makes of what items are called: its final hidden states, mean over a text's tokens.

    Args:
        model, tokenizer: a base (`fastvocab.model.checkpoint.on_base`).
        texts: one for each item; of each the first 256 tokens.
        batch: texts at once.

    Returns:
        (items, width) float32, of length 1; zero for a text without tokens. Each number is centred and divided by its
        standard deviation first: a few of them vary most, and say least of what the text is about.
    """
    import torch

    from fastvocab.model import backend, text
    from fastvocab.model.nats import padded

    start, device = text.bos_id(tokenizer), model.get_input_embeddings().weight.device
    pieces = [ids[:_TOKENS] for ids in text.encode(tokenizer, list(texts))]
    found: list[Any] = [None] * len(pieces)
    order = sorted(range(len(pieces)), key=lambda i: len(pieces[i]))  # little padding
    model.eval()
    with torch.no_grad(), backend.autocast(), console.progress("items") as bars:
        bar = bars.add_task("reading items", total=len(pieces), note="")
        for at in range(0, len(order), batch):
            some = order[at : at + batch]
            ids, mask = (part.to(device) for part in padded([[start, *pieces[i]] for i in some]))
            hidden = model.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False)
            # without the BOS: its state is the same for all, and many times as long as the others
            own = mask[:, 1:, None].float()
            states = hidden.last_hidden_state[:, 1:].float() * own
            for place, mean in zip(some, (states.sum(1) / own.sum(1).clamp_min(1)).cpu().numpy()):
                found[place] = mean
            bars.advance(bar, len(some))
    vectors = np.stack(found).astype(np.float64)
    blank = np.array([not ids for ids in pieces])
    if not blank.all():
        vectors -= vectors[~blank].mean(0)
        spread = vectors[~blank].std(0)
        vectors /= np.where(spread > 1e-6 * max(spread.max(), 1e-12), spread, 1.0)
    vectors[blank] = 0
    return unit(vectors)


def unit(vectors: npt.NDArray[Any]) -> Vectors:
    """Rows of length 1, (items, d) float32; rows of nothing stay so.

    Raises:
        DataError: a number that is not finite.
    """
    if not np.isfinite(vectors).all():
        where = np.flatnonzero(~np.isfinite(vectors).all(1))
        raise DataError(
            f"the vectors of {len(where):,} items are not finite: rows {names(where.tolist(), 5)}"
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 1e-12, lengths, 1.0)).astype(np.float32)


def read_vectors(path: Path | str, items: Sequence[str]) -> Vectors:
    """Vectors from a file, as they are.

    Args:
        path: ``.npy`` (rows in the order of the catalogue), ``.npz`` with ``ids`` and ``vectors``, ``.safetensors``
            with ``vectors`` (rows in the order of the catalogue), or rows with the fields ``item`` and ``vector``
            (jsonl, json, parquet).
        items: ids of the catalogue. Others in the file are left out, with a warning.

    Returns:
        (items, d) float32.

    Raises:
        DataError: damaged, items without a vector, vectors of several lengths, numbers that are not finite: all of it
            in one error.
    """
    file = Path(path).expanduser()
    if file.suffix.lower() not in _FILES:
        faults, found = by_item(field_pairs(rows(str(path)), "vector"), items, "vectors", _numbers, str(path))
        lengths = {len(vector): item for item, vector in reversed(found.items())}
        if len(lengths) > 1:
            said = [f"{length} ({item})" for length, item in sorted(lengths.items())]
            faults.append(f"vectors have different lengths: {names(said, 4)}")
        faults += _not_finite(list(found.values()), list(found))
        refuse(str(path), faults, _RULE)
        return np.array([found[item] for item in items], np.float32)
    ids, given = _arrays(file)
    if given.ndim != 2 or not np.issubdtype(given.dtype, np.number) or np.iscomplexobj(given):
        refuse(str(path), [f"the vectors are an array of {given.dtype} of shape {given.shape}"], _RULE)
    if ids is None:
        faults = _not_finite(given, items)
        if len(given) != len(items):
            faults.insert(0, f"{len(given):,} vectors for {len(items):,} items")
        refuse(str(path), faults, f"{_RULE}; row n is the n-th item")
        return given.astype(np.float32)
    if ids.shape != (len(given),):
        refuse(str(path), [f"{ids.size:,} ids and {len(given):,} vectors"], _RULE)
    pairs = ((key, row, f"row {row}") for row, key in enumerate(ids.tolist()))
    faults, places = by_item(pairs, items, "vectors", int, str(path))
    faults += _not_finite(given[list(places.values())], list(places))
    refuse(str(path), faults, _RULE)
    return given[[places[item] for item in items]].astype(np.float32)


def _arrays(file: Path) -> tuple[npt.NDArray[Any] | None, npt.NDArray[Any]]:
    """(ids or None, vectors) of a file of arrays."""
    try:
        if file.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file  # NumPy has no bfloat16

            return None, load_file(file)["vectors"].float().numpy()
        # pickled objects would run as code
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return None, found
        with found:
            return found["ids"], found["vectors"]
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}", fix="check the path") from None
    except KeyError as error:
        raise DataError(
            f"{file}: {error.args[0]}",
            rule="the arrays are named 'vectors', and 'ids' in .npz",
            fix="rename them",
        ) from None
    except (ValueError, EOFError, zipfile.BadZipFile, _safetensors_error()) as error:
        raise DataError(
            f"{file} is damaged, or holds objects: {error}", rule="arrays of numbers, ids as text or numbers"
        ) from None


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError


def _numbers(value: Any) -> list[float] | None:
    if not isinstance(value, (list, tuple)) or not value:
        return None
    return list(value) if all(type(one) in (int, float) for one in value) else None


def _not_finite(vectors: Any, items: Sequence[str]) -> list[str]:
    """What to say of vectors with numbers that are not finite in float32."""
    with np.errstate(over="ignore"):
        wrong = [
            item
            for item, row in zip(items, vectors)
            if not np.isfinite(np.asarray(row).astype(np.float32)).all()
        ]
    return [f"{len(wrong):,} vectors have numbers that are not finite: {names(wrong, 5)}"] if wrong else []
