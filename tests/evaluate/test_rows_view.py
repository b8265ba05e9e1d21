"""The view of new rows among old ones, against numpy's own eigenvectors on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fastvocab.evaluate import rows_view
from fastvocab.model.reference import Base

WIDTH, OLD, NEW, PADDING = 16, 900, 500, 4


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Base, torch.Tensor]:
    """A base whose rows spread along three directions of their own, stored as bfloat16 as most are."""
    folder = tmp_path_factory.mktemp("base")
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(OLD, WIDTH, generator=draw) * torch.logspace(0.5, -1, WIDTH) + 0.3
    weight = weight.to(torch.bfloat16)
    save_file({"model.embed_tokens.weight": weight}, folder / "model.safetensors")
    return Base(str(folder), folder, None, "f" * 64), weight.float()


def checkpoint(
    folder: Path, rows: dict[int, torch.Tensor], *, stage: str, new: range, stands_on: str = "f" * 64
) -> Path:
    """What `rows_view` reads of a checkpoint: its manifest, and rows of its own."""
    folder.mkdir()
    index = torch.tensor(sorted(rows))
    own = {"embed_tokens.index": index, "embed_tokens.rows": torch.stack([rows[int(i)] for i in index])}
    save_file(own, folder / "rows.safetensors")
    total = OLD + NEW + PADDING
    vocabulary = {"new_first": new.start, "new_stop": new.stop, "rows": total,
                  "unused": [[total - PADDING, total]]}  # fmt: skip
    manifest = {"schema": 1, "stage": stage, "tied": False, "vocabulary": vocabulary,
                "base": {"fingerprint": stands_on}}  # fmt: skip
    (folder / "fastvocab.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, base: Any) -> dict[str, Any]:
    """Checkpoints before and after a training that turned half of the new rows, and three old ones."""
    root, (_, weight) = tmp_path_factory.mktemp("run"), base
    draw = torch.Generator().manual_seed(1)
    beyond = range(OLD, OLD + NEW + PADDING)
    before = {i: torch.randn(WIDTH, generator=draw) for i in beyond}
    after = before | {i: before[i] + torch.randn(WIDTH, generator=draw) for i in range(OLD, OLD + NEW // 2)}
    after |= {i: weight[i] * 2 for i in (3, 5, 700)}
    new = range(OLD, OLD + NEW)
    points = {
        "extend": checkpoint(root / "30-extend", before, stage="extend", new=new),
        "pretrain": checkpoint(root / "40-pretrain", after, stage="pretrain", new=new),
    }
    stacked = {
        name: torch.stack([rows[i] for i in new]).double().numpy()
        for name, rows in (("extend", before), ("pretrain", after))
    }
    return {"points": points, "new": stacked}


def test_axes_are_the_principal_components_of_the_old_rows(base: Any, line: dict[str, Any]) -> None:
    found = rows_view.view(base[0], line["points"])
    assert found is not None
    old = base[1].double().numpy()
    values, vectors = np.linalg.eigh(np.cov(old.T))
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.sign(axes[abs(axes).argmax(axis=0), range(2)])
    shown = np.linspace(0, OLD - 1, rows_view.OLD_SHOWN).round().astype(int)
    for name, rows in (("before", line["new"]["extend"]), ("after", line["new"]["pretrain"])):
        some = np.linspace(0, NEW - 1, rows_view.NEW_SHOWN).round().astype(int)
        expected = (rows[some] - old.mean(axis=0)) @ axes
        assert np.allclose(found["new"][name], expected, rtol=6e-3, atol=1e-3)
    apart = old[shown] - old.mean(axis=0)
    assert np.allclose(found["old"]["before"], apart @ axes, rtol=6e-3, atol=1e-3)
    # of all rows the share is that of the eigenvalues; those that are drawn come near it
    assert found["old"]["variance"][0] == pytest.approx(values[-2:].sum() / values.sum(), abs=0.03)
    own = ((apart @ axes) ** 2).sum() / (apart**2).sum()
    assert found["old"]["variance"][0] == pytest.approx(own, rel=6e-3)


def test_lengths_and_turns_are_those_of_all_rows(base: Any, line: dict[str, Any]) -> None:
    found = rows_view.view(base[0], line["points"])
    assert found is not None
    old, before, after = base[1].double().numpy(), line["new"]["extend"], line["new"]["pretrain"]
    longer = old.copy()
    longer[[3, 5, 700]] *= 2
    for group, pair in (("old", (old, longer)), ("new", (before, after))):
        lengths = [np.linalg.norm(rows, axis=1) for rows in pair]
        assert found[group]["norm"] == pytest.approx([length.mean() for length in lengths], rel=6e-3)
        cosines = (pair[0] * pair[1]).sum(axis=1) / (lengths[0] * lengths[1])
        assert found[group]["cosine"] == pytest.approx(cosines.mean(), rel=1e-3)
    assert found["old"]["changed"] == 3 and found["new"]["changed"] == NEW // 2
    assert found["old"]["rows"] == OLD and found["new"]["rows"] == NEW, "padding is neither"
    assert (found["first"], found["last"], found["tied"], found["width"]) == (
        "extend", "pretrain", False, WIDTH,
    )  # fmt: skip
    assert len(json.dumps(found)) < 60_000


def test_an_untrained_line_has_no_after(base: Any, line: dict[str, Any]) -> None:
    found = rows_view.view(base[0], {"extend": line["points"]["extend"]})
    assert found is not None and found["last"] is None
    for group in ("old", "new"):
        assert found[group]["after"] is None and found[group]["cosine"] is None
        assert len(found[group]["norm"]) == len(found[group]["variance"]) == 1


def test_old_rows_that_stayed_are_not_written_twice(base: Any, line: dict[str, Any], tmp_path: Path) -> None:
    same = checkpoint(
        tmp_path / "same",
        {i: torch.ones(WIDTH) for i in range(OLD, OLD + NEW + PADDING)},
        stage="pretrain", new=range(OLD, OLD + NEW),
    )  # fmt: skip
    found = rows_view.view(base[0], {"extend": line["points"]["extend"], "pretrain": same})
    assert found is not None
    assert found["old"]["after"] is None and found["old"]["changed"] == 0 and found["old"]["cosine"] == 1
    assert found["new"]["after"] and found["new"]["changed"] == NEW


def test_there_is_nothing_to_see_without_new_rows_or_a_beginning(
    base: Any, line: dict[str, Any], tmp_path: Path
) -> None:
    rows = {OLD: torch.ones(WIDTH)}
    none = checkpoint(tmp_path / "none", rows, stage="extend", new=range(OLD, OLD))
    assert rows_view.view(base[0], {"extend": none}) is None
    assert rows_view.view(base[0], {"pretrain": line["points"]["pretrain"]}) is None
    assert rows_view.view(base[0], {"control": line["points"]["extend"]}) is None


def test_rows_on_another_base_are_not_taken_for_trained(
    base: Any, line: dict[str, Any], tmp_path: Path
) -> None:
    """After a chat vector the rows that are not written are the chat model's, which is not read here."""
    beyond = {i: torch.ones(WIDTH) for i in range(OLD, OLD + NEW + PADDING)}
    chat = checkpoint(
        tmp_path / "chat", beyond, stage="instruct", new=range(OLD, OLD + NEW), stands_on="c" * 64
    )
    assert rows_view.view(base[0], line["points"] | {"instruct": chat}) == rows_view.view(
        base[0], line["points"]
    )


def test_named_rows_in_the_middle_of_the_matrix_are_the_new_ones(base: Any, tmp_path: Path) -> None:
    """Tokens in the place of reserved ones: old rows are on both sides of them."""
    beyond = {i: torch.ones(WIDTH) for i in range(OLD, OLD + NEW + PADDING)}
    start = checkpoint(tmp_path / "start", beyond, stage="extend", new=range(100, 103))
    end = checkpoint(
        tmp_path / "end", beyond | {101: torch.full((WIDTH,), 2.0)}, stage="instruct", new=range(100, 103)
    )
    found = rows_view.view(base[0], {"extend": start, "instruct": end})
    assert found is not None
    assert found["new"]["rows"] == 3 and found["old"]["rows"] == OLD + NEW - 3
    assert found["new"]["changed"] == 1 and found["old"]["changed"] == 0
