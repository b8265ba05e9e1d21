"""SASRec of recbole learns what can be learnt, within its time, and leaves the process as it was."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastvocab.errors import ConfigError, DependencyError
from fastvocab.items import sasrec
from fastvocab.items.baselines import popularity
from fastvocab.items.interactions import Interactions
from fastvocab.items.ranking import measure

missing = sasrec.available()
pytestmark = pytest.mark.skipif(missing is not None, reason=str(missing))
ITEMS = 12


def cycles(users: int = 120, longest: int = 20) -> Interactions:
    """Each user walks through the items by steps of one from anywhere: the last item says the next."""
    generator = np.random.default_rng(0)
    walks = [
        [(int(start) + step) % ITEMS for step in range(int(size))]
        for start, size in zip(generator.integers(0, ITEMS, users), generator.integers(4, longest, users))
    ]
    names = tuple(map(str, range(ITEMS)))
    return Interactions(
        tuple(map(str, range(users))),
        names,
        names,
        [walk[:-2] for walk in walks],
        [walk[-2] for walk in walks],
        [walk[-1] for walk in walks],
    )


def test_it_learns_that_the_last_item_says_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sasrec, "LEARNING_RATE", 1e-2)
    monkeypatch.setattr(sasrec, "PATIENCE", 3)
    data, state = cycles(), torch.get_rng_state()
    found = sasrec.train_and_rank(data, minutes=0.5, seed=1, k=3, bar_seen=False, length=8)
    popular = popularity(data.histories, ITEMS, data.contexts("test"), k=1, bar_seen=False)
    assert measure(popular, data.test, ks=(1,))["recall@1"]["value"] < 0.3
    assert measure(found["ranked"], data.test, ks=(1,))["recall@1"]["value"] > 0.95
    assert found["figures"]["ended"] == "patience" and found["figures"]["valid_ndcg@10"] > 0.95
    assert found["figures"]["best_epoch"] <= found["figures"]["epochs"]
    assert not list(tmp_path.iterdir()), "recbole likes to leave log and saved behind"
    assert torch.equal(state, torch.get_rng_state()), "the caller's random numbers go on as they were"
    assert not torch.is_anomaly_enabled(), "recbole's import turns it on"


def test_seen_items_are_barred_and_the_time_ends_what_patience_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sasrec, "PATIENCE", 10**9)
    data = cycles(longest=10)
    found = sasrec.train_and_rank(data, minutes=0.02, seed=1, k=ITEMS, bar_seen=True, length=8)
    assert found["figures"]["ended"] == "time"
    for ranked, context in zip(found["ranked"].tolist(), data.contexts("test")):
        assert sorted(row for row in ranked if row >= 0) == sorted(set(range(ITEMS)) - set(context))


def test_a_pass_over_a_history_is_a_pass_over_each_of_its_beginnings() -> None:
    """The one liberty taken: the state at a place is what recbole's own `forward` gives for the history up to it."""
    import torch

    torch.manual_seed(0)
    ours = sasrec._build(ITEMS, 8).eval()
    reference = type(ours).__mro__[1]
    rows = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    with torch.no_grad():
        states = ours.forward(rows, torch.tensor([8]))[0]
        type(ours).gather_indexes = reference.gather_indexes
        for size in range(1, 9):
            beginning = torch.zeros_like(rows)
            beginning[0, :size] = rows[0, :size]
            alone = ours.forward(beginning, torch.tensor([size]))[0]
            assert torch.allclose(states[size - 1], alone, atol=1e-5)


def test_each_place_is_predicted_once_an_epoch() -> None:
    histories = [list(range(size)) for size in (1, 2, 5, 9, 30, 31)]
    generator = np.random.default_rng(0)
    for _ in range(20):
        wanted = []
        for batch in sasrec._batches(histories, 8, generator):
            assert batch.shape[1] <= 9
            wanted += [int(row) - 1 for line in batch[:, 1:] for row in line if row]
        # the item at place n is n: each but the first of a history
        assert sorted(wanted) == sorted(row for history in histories for row in history[1:])


def test_no_time_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 minutes"):
        sasrec.train_and_rank(cycles(), minutes=0, seed=0, k=3, bar_seen=False)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("recbole")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "colorlog", None)
    with pytest.raises(DependencyError, match=r"colorlog[\s\S]*--no-deps recbole"):
        sasrec.train_and_rank(cycles(), minutes=1, seed=0, k=3, bar_seen=False)


def test_the_module_is_light_to_import() -> None:
    code = "import fastvocab.items.sasrec, sys; print([m for m in ('torch', 'scipy', 'recbole') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
