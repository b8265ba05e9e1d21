"""Rows from the base's rows: means of sub-tokens, and the weak baselines (mean of everything, noise)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from fastvocab.model import load
from fastvocab.model.initialise.task import Task
from fastvocab.unicode import dominant_scripts, letter_scripts

#: Variance of ``noisy_mean`` around the mean, as a share of the old rows' own: transformers' figure.
NOISE = 1e-9
#: With fewer tokens in the script than this, the sub-tokens say how long its rows are.
_ENOUGH_ROWS = 20


def subtokens(model: Any, task: Task) -> dict[str, Any]:
    """Mean of the rows of the tokens that the base reads in the same place, in both matrices.

    The usual good start, compared with others in arXiv 2407.05841 and 2608.03494.
    """
    for weight in load.embedding_weights(model).values():
        subtoken_mean(weight, task.new.ids.start, task.new.base_ids)
    return {}


def asymmetric(model: Any, task: Task) -> dict[str, Any]:
    """Input and head rows each in their own way (arXiv 2608.03494, best of more than 20 there).

    Input rows are the sub-tokens' mean, rescaled to the mean norm of the base's rows of the same script: a mean of
    rows is shorter than they are. Head rows are the sub-tokens' mean weighted by their lengths in UTF-8 bytes: the
    longer sub-token tells more of the word.

    A tied matrix can have one of the two, and gets what is meant for the head: as long as the script's rows, new
    tokens drown all others (SmolLM2-135M, Ukrainian, 8,000 tokens: 5.43 bits per byte untrained, against 1.96 as it is
    and 1.97 of ``subtokens``).

    Returns:
        ``tied``, and of a head of its own what input rows were rescaled to (`script_norm`).
    """
    new, weights = task.new, load.embedding_weights(model)
    head = model.get_output_embeddings().weight
    lengths = byte_lengths(task.base_tokenizer, sorted({i for ids in new.base_ids for i in ids}))
    put(head, new.ids, mean_rows(head, new.base_ids, [[lengths[i] for i in ids] for ids in new.base_ids]))
    if "lm_head" not in weights:
        return {"tied": True}
    norm, notes = script_norm(weights["embed_tokens"], task)
    put(weights["embed_tokens"], new.ids, rescaled(mean_rows(weights["embed_tokens"], new.base_ids), norm))
    return {"tied": False} | notes


def mean(model: Any, task: Task) -> dict[str, Any]:
    """Mean of the rows of all old tokens: the usual way, and the weak one.

    New tokens without a surface form cannot be told apart (arXiv 2604.02324), and all are equally likely.
    """
    for weight in load.embedding_weights(model).values():
        average = weight[_index(task.old_ids, weight)].float().mean(0)
        put(weight, task.new.ids, average.expand(len(task.new.ids), -1))
    return {}


def noisy_mean(model: Any, task: Task) -> dict[str, Any]:
    """Drawn from a normal distribution with the old rows' mean and `NOISE` times their covariance.

    Hewitt 2021 ("Initializing new word embeddings for pretrained language models"), with the factor of transformers'
    ``resize_token_embeddings(mean_resizing=True)``. The noise is 3e-5 of the rows' own spread: in 16-bit matrices
    most of it is rounded away.
    """
    import torch

    generator = torch.Generator().manual_seed(task.seed)
    for weight in load.embedding_weights(model).values():
        old = weight[_index(task.old_ids, weight)].float()
        average = old.mean(0)
        centred = old - average
        spread = _factor(centred.T @ centred / len(old))
        drawn = torch.randn(len(task.new.ids), len(average), generator=generator).to(weight.device)
        put(weight, task.new.ids, average + NOISE**0.5 * drawn @ spread.T)
    return {}


def random(model: Any, task: Task) -> dict[str, Any]:
    """Normal noise around 0 with the standard deviation of the base's ``initializer_range``.

    What ``resize_token_embeddings(mean_resizing=False)`` gives, as a model that is trained from nothing starts.
    """
    import torch

    generator = torch.Generator().manual_seed(task.seed)
    deviation = float(getattr(model.config.get_text_config(), "initializer_range", 0.02))
    for weight in load.embedding_weights(model).values():
        drawn = torch.randn(len(task.new.ids), weight.shape[1], generator=generator)
        put(weight, task.new.ids, deviation * drawn)
    return {"deviation": deviation}


def subtoken_mean(weight: Any, first: int, base_ids: Sequence[Sequence[int]]) -> None:
    """Set ``weight[first + i]`` to the mean of ``weight[base_ids[i]]``, in place.

    Args:
        weight: (rows, width), already resized.
        first: id of the first new token.
        base_ids: for each new token, in id order, the ids that the base reads in its place.
    """
    put(weight, range(first, first + len(base_ids)), mean_rows(weight, base_ids))


def mean_rows(
    weight: Any, groups: Sequence[Sequence[int]], shares: Sequence[Sequence[float]] | None = None
) -> Any:
    """Means of the rows ``groups[i]`` of a matrix, weighted by ``shares[i]``: (groups, width) float32."""
    import torch

    device = weight.device
    flat = torch.tensor([i for ids in groups for i in ids], device=device)
    owner = torch.repeat_interleave(torch.tensor([len(ids) for ids in groups], device=device))
    with torch.no_grad():
        rows = weight[flat].float()
        if shares is None:
            totals = torch.tensor([float(len(ids)) for ids in groups], device=device)
        else:
            rows *= torch.tensor([float(s) for given in shares for s in given], device=device)[:, None]
            totals = torch.tensor([float(sum(given)) for given in shares], device=device)
        sums = torch.zeros(len(groups), weight.shape[1], dtype=torch.float32, device=device)
        return sums.index_add_(0, owner, rows) / totals[:, None]


def put(weight: Any, ids: range, rows: Any) -> None:
    """Set the rows ``ids`` of a matrix, in its own dtype."""
    import torch

    with torch.no_grad():
        weight[ids.start : ids.stop] = rows.to(weight.device, weight.dtype)


def rescaled(rows: Any, norm: float) -> Any:
    """Rows of length ``norm``, in their own directions; rows of nothing stay so."""
    lengths = rows.norm(dim=1, keepdim=True)
    return rows * (norm / lengths.clamp_min(1e-12))


def script_norm(weight: Any, task: Task) -> tuple[float, dict[str, Any]]:
    """Mean norm of the rows of the base's tokens that are letters of the new tokens' script.

    Where the base has fewer than `_ENOUGH_ROWS` of them, of the sub-tokens that it spells the script with.

    Returns:
        the norm, and notes: ``norm``, ``norm_of`` (script or sub-tokens) and how many rows it was measured on.
    """
    letters: Counter[str] = Counter()
    for text in task.new.texts:
        letters += letter_scripts(text or "")
    wanted = dominant_scripts(letters)
    ids = []
    for i, text in zip(task.old_ids, task.base_tokenizer.batch_decode([[i] for i in task.old_ids])):
        scripts = letter_scripts(text)
        if scripts and scripts.keys() <= wanted:
            ids.append(i)
    of = "script"
    if len(ids) < _ENOUGH_ROWS:
        of, ids = "sub-tokens", sorted({i for pieces in task.new.base_ids for i in pieces})
    norm = float(weight[_index(ids, weight)].detach().float().norm(dim=1).mean())
    return norm, {"norm": norm, "norm_of": of, "norm_rows": len(ids)}


def byte_lengths(tokenizer: Any, ids: Sequence[int]) -> dict[int, int]:
    """UTF-8 bytes that each token stands for, at least 1."""
    byte_level = "ByteLevel" in repr(tokenizer.backend_tokenizer.pre_tokenizer)
    added = set(tokenizer.get_added_vocab().values())
    return {
        i: max(1, _bytes(token, byte_level and i not in added))
        for i, token in zip(ids, tokenizer.convert_ids_to_tokens(list(ids)))
    }


def _bytes(token: str, byte_level: bool) -> int:
    if byte_level:  # one character of the vocabulary for each byte
        return len(token)
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):  # SentencePiece's byte fallback
        return 1
    return len(token.replace("▁", " ").encode())


def _index(ids: Sequence[int], weight: Any) -> Any:
    import torch

    return torch.tensor(ids, device=weight.device)


def _factor(covariance: Any) -> Any:
    """L with L L' = covariance, (width, width) float32; what rounding made negative is lifted above 0."""
    import torch

    exact = covariance.double()
    identity = torch.eye(len(exact), dtype=exact.dtype, device=exact.device)
    lift = 1e-9 * exact.diagonal().mean()
    while True:
        factor, failed = torch.linalg.cholesky_ex(exact + lift * identity)
        if not int(failed):
            return factor.float()
        lift = 10 * lift
