"""SASRec of the library recbole as a peer: a recommender of its own, trained on the same histories.

Kang, McAuley: Self-Attentive Sequential Recommendation, arXiv 1808.09781; recbole: arXiv 2011.01731. Only the model
class is taken: recbole's own data sets, configuration and trainer write into the current directory and need more
packages.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastvocab import console
from fastvocab.errors import ConfigError, DependencyError
from fastvocab.items.interactions import Interactions, Part
from fastvocab.items.ranking import gains, places, top

#: recbole's own settings (its SASRec.yaml), which are those it publishes results with.
SETTINGS = {
    "n_layers": 2,
    "n_heads": 2,
    "hidden_size": 64,
    "inner_size": 256,
    "hidden_dropout_prob": 0.5,
    "attn_dropout_prob": 0.5,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
    "loss_type": "CE",
}
LEARNING_RATE = 1e-3
NEEDS = "pip install --no-deps recbole==1.2.1 && pip install pandas colorlog colorama texttable tensorboard"
#: Items of a batch, padding included: recbole's batch has as many predictions. On MovieLens-100K validation NDCG@10 is
#: then 0.092 after 5 epochs and 0.108 after 10; with 6,400 it takes twice the epochs, each of the same work.
BATCH_ITEMS = 2_048
#: Epochs between two looks at validation, and how many looks without a better one end the training.
EVERY, PATIENCE = 5, 10
#: Users whose validation is looked at while training: 5,000 take 3 s on two cores.
LOOKED_AT = 5_000
_ITEM, _LIST, _LENGTH = "item_id", "item_id_list", "item_length"


def available() -> str | None:
    """Why SASRec cannot be had here, or None."""
    try:
        _model_class()
    except DependencyError as error:
        return error.message
    return None


def _model_class() -> type:
    import torch

    watched, nan = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    try:
        from recbole.model.sequential_recommender.sasrec import SASRec
    except ImportError as error:
        raise DependencyError(
            f"SASRec needs the package recbole and what it imports: {error}", fix=NEEDS
        ) from None
    finally:
        # recbole turns it on for the whole process (in its sine.py): all training after it, ours too, takes 1.8 times
        # as long
        torch.autograd.set_detect_anomaly(watched, nan)
    return SASRec


class _Sizes:
    """All that recbole's model asks of a data set."""

    def __init__(self, items: int) -> None:
        self.items = items

    def num(self, _field: str) -> int:
        return self.items + 1  # 0 is the padding


def _build(items: int, length: int) -> Any:
    class AllPlaces(_model_class()):  # type: ignore[misc]
        """SASRec that gives the state at every place, not at the last alone."""

        def gather_indexes(self, output: Any, _index: Any) -> Any:
            return output

    config = {
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": _ITEM,
        "LIST_SUFFIX": "_list",
        "ITEM_LIST_LENGTH_FIELD": _LENGTH,
        "NEG_PREFIX": "neg_",
        "MAX_ITEM_LIST_LENGTH": length,
        "device": "cpu",
    }
    return AllPlaces({**config, **SETTINGS}, _Sizes(items))


def train_and_rank(
    interactions: Interactions,
    *,
    minutes: float,
    seed: int,
    k: int,
    bar_seen: bool,
    length: int = 50,
) -> dict[str, Any]:
    """Train SASRec on the training histories, and rank all items for the test.

    Cross-entropy over all items, Adam at 1e-3. The item after every beginning of a history is predicted, as in the
    paper: the attention is causal, so one pass over a piece of a history gives the predictions at all its places.
    (recbole passes each beginning by itself: 4.9 million places an epoch of MovieLens-100K instead of 0.1 million.)
    The state with the best NDCG@10 of validation is kept; training ends when it has not been bettered for long, or
    the time is over.

    Args:
        interactions: histories.
        minutes: of training at the most, looks at validation included.
        seed: of weights, order and dropout.
        k: length of the lists.
        bar_seen: may an item not come again that the user took?
        length: most recent items that the model sees.

    Returns:
        ``ranked``: (users, k) row numbers, best first. ``figures``: ``epochs``, ``best_epoch``, ``seconds`` (of
        training), ``valid_ndcg@10`` of the best state, ``ended`` (``patience`` or ``time``), ``parameters``.

    Raises:
        ConfigError: no time.
        DependencyError: recbole, or a package that its model imports, is not installed.
    """
    import torch

    if not minutes > 0:
        raise ConfigError(f"SASRec is to be trained for {minutes:g} minutes", rule="more than 0")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _build(len(interactions.items), length)
        figures = _train(model, interactions, 60 * minutes, seed, bar_seen, length)
        ranked = _rank(model, interactions, "test", range(len(interactions.users)), k, bar_seen, length)
    return {"ranked": ranked, "figures": figures}


def _train(
    model: Any, data: Interactions, seconds: float, seed: int, bar_seen: bool, length: int
) -> dict[str, Any]:
    import torch

    generator, started = np.random.default_rng(seed), time.monotonic()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    users = generator.permutation(len(data.users))[:LOOKED_AT]
    targets = [data.valid[user] for user in users]
    best, best_epoch, kept, epoch, looks, ended = -1.0, 0, {}, 0, 0, ""

    def look() -> float:
        nonlocal best, best_epoch, kept, looks
        ranked = _rank(model, data, "valid", users, 10, bar_seen, length)
        found = float(gains(places(ranked, targets), 10)["ndcg@10"].mean())
        looks += 1
        if found > best:
            best, best_epoch, looks = found, epoch, 0
            kept = {name: value.detach().clone() for name, value in model.state_dict().items()}
        return found

    with console.progress("s") as bars:
        task = bars.add_task("SASRec", total=round(seconds), note="")
        while not ended:
            epoch += 1
            model.train()
            for rows in _batches(data.histories, length, generator):
                batch = torch.from_numpy(rows)
                seen, wanted = batch[:, :-1], batch[:, 1:]
                real = wanted != 0
                states = model.forward(seen, real.sum(1))
                loss = model.loss_fct(states[real] @ model.item_embedding.weight.T, wanted[real])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                bars.update(task, completed=min(time.monotonic() - started, seconds))
                if time.monotonic() - started > seconds:
                    ended = "time"
                    break
            if ended or epoch % EVERY == 0:
                bars.update(task, note=f"epoch {epoch}, validation NDCG@10 {look():.4f}, best {best:.4f}")
            if looks >= PATIENCE:
                ended = ended or "patience"
    model.load_state_dict(kept)
    return {
        "epochs": epoch,
        "best_epoch": best_epoch,
        "seconds": round(time.monotonic() - started, 1),
        "valid_ndcg@10": best,
        "ended": ended,
        "parameters": sum(weight.numel() for weight in model.parameters()),
    }


def _batches(
    histories: Sequence[Sequence[int]], length: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """Pieces of histories as (batch, width + 1) item numbers from 1, padded with 0 on the right.

    Each place of a history is predicted once an epoch. Long histories are cut into pieces of ``length``, at other
    places each time, so that what stands at a beginning now has something before it later. Pieces of like lengths
    come together, and a batch has no more padding than its longest needs.
    """
    pieces = []
    for history in histories:
        rows = np.asarray(history, np.int64) + 1
        first = int(generator.integers(1, length + 1)) if len(rows) > length + 1 else length
        starts = [0, *range(first, len(rows) - 1, length)]
        ends = [*starts[1:], len(rows) - 1]
        pieces += [rows[start : end + 1] for start, end in zip(starts, ends) if end > start]
    # lengths are blurred, or the same pieces would be together in each epoch
    order = np.argsort([len(piece) * generator.uniform(0.9, 1.1) for piece in pieces])
    groups, group, widest = [], list[np.ndarray](), 0
    for number in order:
        piece = pieces[number]
        widest = max(widest, len(piece))
        if group and widest * (len(group) + 1) > BATCH_ITEMS:
            groups.append(group)
            group, widest = [], len(piece)
        group.append(piece)
    groups += [group] if group else []
    for number in generator.permutation(len(groups)):
        yield _padded(groups[number])


def _padded(pieces: Sequence[np.ndarray]) -> np.ndarray:
    out = np.zeros((len(pieces), max(map(len, pieces))), np.int64)
    for line, piece in zip(out, pieces):
        line[: len(piece)] = piece
    return out


def _rank(
    model: Any,
    data: Interactions,
    part: Part,
    users: Sequence[int] | np.ndarray | range,
    k: int,
    bar_seen: bool,
    length: int,
) -> np.ndarray:
    """(users, k) the best items after the last ``length`` ones of each context."""
    import torch

    contexts = data.contexts(part)
    chosen = [contexts[user] for user in users]
    out = np.empty((len(chosen), k), np.int64)
    order = np.argsort([min(len(context), length) for context in chosen], kind="stable")
    model.eval()
    with torch.no_grad():
        for at in range(0, len(order), 256):
            these = order[at : at + 256]
            rows = torch.from_numpy(_padded([np.asarray(chosen[n][-length:], np.int64) + 1 for n in these]))
            last = (rows != 0).sum(1) - 1
            states = model.forward(rows, last + 1)[torch.arange(len(rows)), last]
            scores = (states @ model.item_embedding.weight[1:].T).numpy()
            out[these] = top(scores, k, [set(chosen[n]) for n in these] if bar_seen else None)
    return out
