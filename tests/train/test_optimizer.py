"""Three learning rates, and the phase in which the added rows train alone."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from fastvocab.config import load as configure
from fastvocab.model import checkpoint, load, manifest
from fastvocab.train.optimizer import Groups, warn_of_rates
from tests.train.conftest import Material, same

RATES = ["learning_rate=2e-3", "embedding_learning_rate=5e-4", "new_rows_learning_rate=7e-3"]


def _section(*settings: str) -> Any:
    return configure(None, [f"pretrain.{s}" for s in (*RATES, "weight_decay=0.1", *settings)]).pretrain


def _opened(folder: Path, mode: str) -> tuple[Any, range]:
    from typing import cast

    lora = {"r": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj", "v_proj"]}
    model, _ = checkpoint.load(folder, trainable=True, lora=lora, embeddings=cast(Any, mode), seed=3)
    return model, manifest.new_ids(manifest.read(folder))


def _batch(rows: int) -> dict[str, Any]:
    torch.manual_seed(1)
    ids = torch.randint(0, rows, (2, 40))
    return {"input_ids": ids, "labels": ids}


@pytest.mark.parametrize("base", ["tied", "untied"])
def test_slices_of_a_matrix_train_as_separate_tensors_under_plain_adamw(
    base: str, material: Material
) -> None:
    model, new = _opened(material.extend[base], "full")
    section, plain = _section(), copy.deepcopy(model)
    groups = Groups(model, new)
    optimizer = groups.optimizer(torch.optim.AdamW, {"lr": 1.0}, section)
    ours, theirs = load.embedding_weights(model), load.embedding_weights(plain)
    rows = len(ours["embed_tokens"])
    assert 0 < new.start < new.stop < rows, "rows before and padding after the added ones"
    # the reference: every part a tensor of its own, with an AdamW of its own, copied into the matrix after each step
    parts = {
        (name, first, stop): torch.nn.Parameter(weight.detach()[first:stop].clone())
        for name, weight in theirs.items()
        for first, stop in ((0, new.start), (new.start, new.stop), (new.stop, rows))
    }
    adapters = [p for n, p in plain.named_parameters() if "lora_" in n]
    each = [torch.optim.AdamW(adapters, lr=2e-3, weight_decay=0.1)]
    for (_, first, _), part in parts.items():
        each.append(torch.optim.AdamW([part], lr=7e-3 if first == new.start else 5e-4, weight_decay=0.0))
    batch = _batch(rows)
    for _ in range(3):
        for some in (model, plain):
            some.train()
            # two backward passes a step, as with accumulation
            for _ in range(2):
                some(**batch).loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(some.parameters(), 0.5)
            assert norm > 0.5, "clipping has something to do"
        optimizer.step()
        model.zero_grad()
        for (name, first, stop), part in parts.items():
            part.grad = theirs[name].grad[first:stop].clone()
        for one in each:
            one.step()
        with torch.no_grad():
            for (name, first, stop), part in parts.items():
                theirs[name][first:stop] = part
        plain.zero_grad()
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], rtol=0, atol=1e-7)
    mine = [p for n, p in model.named_parameters() if "lora_" in n]
    assert all(torch.allclose(a, b, rtol=0, atol=1e-7) for a, b in zip(mine, adapters))
    assert all(p.grad is None for p in [*groups.old_rows, *groups.new_rows, *groups.matrices])


def test_eight_bit_adam_moves_the_slices_and_keeps_exact_moments_of_the_added_rows(
    material: Material,
) -> None:
    """The real library, on the CPU: what a GPU trains with."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    exact, eight = (_opened(material.extend["tied"], "full") for _ in range(2))
    section, new = _section("new_rows_learning_rate=1e-3"), exact[1]
    options = {"lr": 1.0, "betas": (0.9, 0.999), "eps": 1e-8}
    moved = []
    for (model, _), kind, more in (
        (exact, torch.optim.AdamW, {}),
        (eight, bitsandbytes.optim.AdamW, {"optim_bits": 8}),
    ):
        groups = Groups(model, new)
        matrix = groups.matrices[0]
        before, optimizer = matrix.detach().clone(), groups.optimizer(kind, options | more, section)
        for _ in range(5):
            model.train()
            model(**_batch(len(matrix))).loss.backward()
            optimizer.step()
            model.zero_grad()
        moved.append(matrix.detach() - before)
    bits = {
        group["name"]: [optimizer.state[p]["state1"].dtype for p in group["params"]]
        for group in optimizer.param_groups
    }
    assert set(bits["new_rows"]) == {torch.float32}
    assert torch.uint8 in bits["old_rows"], "a slice of 4,096 weights and more"
    apart = (moved[1] - moved[0]).abs()
    rows, old = (
        float(apart[part].mean() / moved[0][part].abs().mean())
        for part in (slice(new.start, new.stop), slice(new.start))
    )
    assert 0 < old < 0.1, "old rows go the same way, less exactly"
    assert rows < 0.01 and rows < old / 3, (
        f"{rows} {old}: added rows differ by what the others' error does to the gradient"
    )


@pytest.mark.parametrize(
    ("base", "mode", "counts"),
    [("tied", "full", (28, 2, 1)), ("untied", "full", (28, 4, 2)), ("tied", "new_rows", (28, 0, 1)),
     ("untied", "new_rows", (28, 0, 2)), ("tied", "frozen", (28, 0, 0)), ("plain", "full", (28, 1, 0))],
)  # fmt: skip
def test_every_mode_has_its_groups_and_rows_have_no_decay(
    base: str, mode: str, counts: tuple[int, int, int], train: Any
) -> None:
    done = train(
        base, *RATES, "weight_decay=0.1", f"embeddings={mode}", "steps=2", "save_steps=1", "warmup=0"
    )
    state = torch.load(done.save(1) / "optimizer.pt", weights_only=True)["param_groups"]
    found = {g["name"]: (len(g["params"]), g["initial_lr"], g["weight_decay"]) for g in state}
    rates = {"adapters": (2e-3, 0.1), "old_rows": (5e-4, 0.0), "new_rows": (7e-3, 0.0)}
    of_each = (*counts[:2], 2 * counts[2])  # beside the rows, what they share
    assert found == {n: (c, *rates[n]) for n, c in zip(rates, of_each) if c}
    logged = {key for key in done.steps[0] if key.endswith("learning_rate")}
    keys = ("learning_rate", "embedding_learning_rate", "new_rows_learning_rate")
    assert logged == {key for key, count in zip(keys, counts) if count}
    assert done.steps[0]["learning_rate"] == 2e-3 and done.steps[0]["grad_norm"] > 0


def test_without_a_rate_of_their_own_added_rows_move_in_proportion_to_the_base_s_rows(
    material: Material, train: Any
) -> None:
    done = train("tied", "steps=2", "save_steps=1", "warmup=0", "embeddings=new_rows", name="own")
    model, new = _opened_as_trained(material, "tied", "new_rows")
    own = model.get_input_embeddings().weight[: new.start].detach().square().mean().sqrt().item()
    state = torch.load(done.save(1) / "optimizer.pt", weights_only=True)["param_groups"]
    (rate,) = [group["initial_lr"] for group in state if group["name"] == "new_rows"]
    assert rate == pytest.approx(0.025 * own, rel=1e-5)
    assert done.figures["settings"]["new_rows_learning_rate"] == rate


def test_a_gradient_is_clipped_to_the_norm_that_is_set_and_0_is_off(train: Any) -> None:
    settings = ["steps=1", "warmup=0", "embeddings=full"]
    off, tight = (
        train("tied", *settings, f"max_grad_norm={norm}", "save_steps=1", name=f"norm{norm}")
        for norm in ("0", "1e-12")
    )
    # Adam's eps of 1e-8 drowns a gradient of norm 1e-12: nothing moves by more than a fraction of the rate
    start = train("tied", *settings, "learning_rate=0", "embedding_learning_rate=0",
                  "new_rows_learning_rate=0", name="start")  # fmt: skip
    untouched = {k: v for k, v in start.tensors().items() if "lora_" in k}
    moved = {
        name: max(float((run.tensors()[k] - v).abs().max()) for k, v in untouched.items())
        for name, run in {"off": off, "tight": tight}.items()
    }
    assert moved["tight"] < 1e-6 < 1e-4 < moved["off"]
    assert off.steps[0]["grad_norm"] == tight.steps[0]["grad_norm"] > 0.1


@pytest.mark.parametrize(("base", "mode"), [("tied", "full"), ("untied", "full"), ("untied", "new_rows")])
def test_in_the_first_phase_the_added_rows_alone_move_and_the_rest_starts_fresh(
    base: str, mode: str, material: Material, train: Any
) -> None:
    done = train(
        base, f"embeddings={mode}", "steps=6", "rows_first=0.5", "save_steps=1", "keep_saves=9", "warmup=0.3",
        "new_rows_learning_rate=1e-3",
    )  # fmt: skip
    model, new = _opened_as_trained(material, base, mode)
    untouched = {n: p.detach() for n, p in model.named_parameters() if "lora_" in n}
    start = load.embedding_weights(model)
    before = done.tensors(1)
    for step in (1, 2, 3):
        found = done.tensors(step)
        adapters = {k: v for k, v in found.items() if "lora_" in k}
        for name, value in untouched.items():
            assert adapters[name.replace(".default", "")].equal(value), (step, name)
        for part, weight in start.items():
            index, rows = found[f"{part}.index"], found[f"{part}.rows"]
            mine = (index >= new.start) & (index < new.stop)
            assert rows[~mine].equal(weight.detach()[index[~mine]]), (step, part)
            assert not rows[mine].equal(weight.detach()[new.start : new.stop]), (step, part)
        assert step == 1 or not same(found, before)
        before = found
        assert _moments(done, step) == {"new_rows": step}, "nothing else has moments"
    after = done.tensors(4)
    assert any(not after[k].equal(before[k]) for k in after if "lora_" in k)
    fresh = {"adapters": 1, "new_rows": 4} | ({"old_rows": 1} if mode == "full" else {})
    assert _moments(done, 4) == fresh
    rates = [(entry["learning_rate"], entry["new_rows_learning_rate"]) for entry in done.steps]
    assert [rate for rate, _ in rates[:3]] == [0, 0, 0] < [rate for rate, _ in rates[3:]]
    assert rates[3][0] == pytest.approx(0.02 * 2e-4) and rates[4][0] > 20 * rates[3][0], (
        "a warm-up of its own"
    )
    assert rates[3][1] > 3e-4, "the added rows' rate goes on"


def _opened_as_trained(material: Material, base: str, mode: str) -> tuple[Any, range]:
    from fastvocab.config.models import LoraSection

    lora = LoraSection(r=4).model_dump(mode="json")
    folder = material.extend[base]
    model, _ = checkpoint.load(folder, trainable=True, lora=lora, embeddings=mode, block=48, seed=3)  # type: ignore[arg-type]
    return model, manifest.new_ids(manifest.read(folder))


def _moments(done: Any, step: int) -> dict[str, int]:
    """Steps that Adam has taken, by group; groups without moments are left out."""
    state = torch.load(done.save(step) / "optimizer.pt", weights_only=True)
    found = {}
    for group in state["param_groups"]:
        steps = {int(state["state"][p]["step"]) for p in group["params"] if p in state["state"]}
        if steps:
            (found[group["name"]],) = steps
    return found


@pytest.mark.parametrize(("base", "mode"), [("tied", "full"), ("untied", "new_rows")])
@pytest.mark.parametrize("at", [2, 5])
def test_a_training_broken_in_either_phase_goes_on_bit_by_bit(
    base: str, mode: str, at: int, train: Any
) -> None:
    settings = (f"embeddings={mode}", "steps=8", "rows_first=0.5", "save_steps=1", "keep_saves=99",
                "lora.dropout=0.1", "accumulate=2")  # fmt: skip
    whole = train(base, *settings)
    kept = whole.save(7)
    other = whole.saves.with_name("kept")
    shutil.copytree(kept, other / kept.name)
    for step in range(at + 1, 9):
        shutil.rmtree(whole.save(step), ignore_errors=True)
    again = train(base, *settings)
    assert same(whole.tensors(), again.tensors())
    first, second = (
        torch.load(f / "optimizer.pt", weights_only=True) for f in (other / kept.name, again.save(7))
    )
    assert first["param_groups"] == second["param_groups"]
    for key, moments in first["state"].items():
        assert all(torch.equal(moments[k], second["state"][key][k]) for k in moments)


def test_a_plain_base_trains_and_a_phase_for_rows_that_it_lacks_is_said_to_be_none(
    train: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    done = train("plain", "embeddings=full", "steps=2", "rows_first=0.5", "warmup=0")
    assert "no added rows" in " ".join(capsys.readouterr().err.split())
    assert done.steps[0]["learning_rate"] == 2e-4, "from the first step on"
    assert train("plain", "embeddings=frozen", "steps=2", name="frozen").figures["steps"] == 2


def test_rates_beyond_all_use_are_said_with_the_usual_ones(
    material: Material, capsys: pytest.CaptureFixture[str]
) -> None:
    model, new = _opened(material.extend["tied"], "full")
    groups = Groups(model, new)
    settings = ["learning_rate=0.006", "embedding_learning_rate=0.5", "new_rows_learning_rate=0.001"]
    warn_of_rates(configure(None, [f"pretrain.{s}" for s in settings]).pretrain, "pretrain", groups)
    said = " ".join(capsys.readouterr().err.split())
    assert "pretrain.learning_rate is 0.006" in said and "1e-5 to 1e-3" in said
    assert "pretrain.embedding_learning_rate is 0.5" in said and "new_rows_learning_rate" not in said
    warn_of_rates(configure(None, []).pretrain, "pretrain", groups)
    assert capsys.readouterr().err == ""
