"""Rows trained at the cost of rows: the gradients of the full matrix, and old rows that never move."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from fastvocab.errors import ModelError
from fastvocab.model import checkpoint, chunked_loss, load, new_rows, reference
from fastvocab.train.optimizer import Groups
from tests.conftest import make_llama

NEW = range(600, 690)


def _opened(base: Path, mode: Any, *, seed: int = 1, new_ids: range = NEW) -> Any:
    model, _ = load.base_model(reference.resolve(str(base)), load_in_4bit=False, block=64, seed=seed)
    return load.add_lora(
        model, r=4, alpha=8, dropout=0.0, targets=load.LINEAR, embeddings=mode, new_ids=new_ids,
        block=64, seed=seed, gradient_checkpointing=False,
    ).train()  # fmt: skip


def _batch() -> dict[str, Any]:
    ids = torch.randint(500, 700, (2, 40), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[0, :9] = -100
    return {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("chunk", [16 * 700, chunked_loss.CHUNK], ids=["chunks", "whole"])
@pytest.mark.parametrize("kind", ["tied_llama", "untied_llama", "padded_llama"])
def test_gradients_are_those_of_the_full_matrix_on_the_same_rows(
    kind: str, chunk: int, request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_loss, "CHUNK", chunk)
    monkeypatch.setattr(chunked_loss, "SLICE", chunk // 3)
    base = request.getfixturevalue(kind)
    full, ours = _opened(base, "full"), _opened(base, "new_rows")
    losses = [model(**_batch()).loss for model in (full, ours)]
    for value in losses:
        value.backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), abs=2e-6)
    trained = load.trained_rows(ours)
    assert trained.keys() == load.embedding_weights(full).keys()
    for part, weight in load.embedding_weights(full).items():
        torch.testing.assert_close(
            trained[part].grad, weight.grad[NEW.start : NEW.stop], rtol=1e-5, atol=1e-7
        )
    adapters = [{n: p.grad for n, p in m.named_parameters() if "lora_" in n} for m in (full, ours)]
    for name, gradient in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["tied_llama", "untied_llama"])
def test_full_matrices_of_a_16_bit_base_train_in_float32(kind: str, dtype: Any, request: Any) -> None:
    """As on a GPU: PEFT leaves its copies in the base's dtype, where a step of 5e-5 is rounded away."""
    model, _ = load.base_model(
        reference.resolve(str(request.getfixturevalue(kind))), load_in_4bit=False, block=64, seed=1
    )
    model.to(dtype)
    before = {part: weight.detach().clone() for part, weight in load.embedding_weights(model).items()}
    opened = load.add_lora(
        model, r=4, alpha=8, dropout=0.0, targets=load.LINEAR, embeddings="full", new_ids=NEW, block=64, seed=1,
        gradient_checkpointing=False,
    ).train()  # fmt: skip
    assert load.precision(opened) == str(dtype).removeprefix("torch.")
    weights = load.embedding_weights(opened)
    assert weights.keys() == before.keys()
    groups = Groups(opened, NEW)
    optimizer = torch.optim.SGD([*groups.old_rows, *groups.new_rows], lr=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        opened(**_batch()).loss.backward()
    for parameter in (*groups.old_rows, *groups.new_rows):
        assert parameter.grad is not None and parameter.grad.dtype == torch.float32
        parameter.grad.fill_(5e-5)
    optimizer.step()
    for part, weight in weights.items():
        torch.testing.assert_close(weight, before[part].float() - 5e-5, rtol=0, atol=1e-8)


def test_the_head_alone_gives_the_same_gradients_where_the_model_takes_its_own_loss(
    tied_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_loss, "_PLAIN", set())  # as for a model with a soft cap on its logits
    monkeypatch.setenv("UNSLOTH_RETURN_LOGITS", "0")
    full, ours = _opened(tied_llama, "full"), _opened(tied_llama, "new_rows")
    for model in (full, ours):
        model(**_batch()).loss.backward()
    (rows,) = load.trained_rows(ours).values()
    (weight,) = load.embedding_weights(full).values()
    torch.testing.assert_close(rows.grad, weight.grad[NEW.start : NEW.stop], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["tied_llama", "untied_llama"])
def test_a_head_that_is_kept_cast_follows_its_rows(kind: str, request) -> None:
    found = []
    for context in (lambda _: nullcontext(), chunked_loss.kept_lowered):
        model = _opened(request.getfixturevalue(kind), "new_rows")
        trained = load.trained_rows(model)
        with context(model):
            for _ in range(3):
                with torch.autocast("cpu", torch.bfloat16):
                    value = model(**_batch()).loss
                value.backward()
                gradients = {part: rows.grad.clone() for part, rows in trained.items()}
                found.append((value.item(), gradients))
                for rows in trained.values():
                    rows.data -= 0.1 * rows.grad.sign()
                    rows.grad = None
        assert not hasattr(model.get_output_embeddings(), "lowered")
    for (loss, gradients), (kept_loss, kept) in zip(found[:3], found[3:]):
        assert loss == kept_loss
        assert all(torch.equal(gradients[part], kept[part]) for part in gradients)
    assert found[0][0] != found[2][0], "the rows moved"


def test_the_rows_are_the_matrix_s_own_memory_and_nothing_else_trains(untied_llama: Path) -> None:
    model = _opened(untied_llama, "new_rows")
    weights, trained = load.embedding_weights(model), load.trained_rows(model)
    for part, rows in trained.items():
        assert rows.data_ptr() == weights[part][NEW.start].data_ptr()
        assert not weights[part].requires_grad
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    assert sum("new_rows" in n for n in trainable) == 2
    assert all("lora_" in n or "new_rows" in n for n in trainable)
    before = {part: weight.clone() for part, weight in weights.items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        model(**_batch()).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for part, weight in weights.items():
        moved = (weight != before[part]).any(1).nonzero().flatten()
        assert set(moved.tolist()) <= set(NEW) and len(moved) > 50


def test_a_16_bit_matrix_has_float32_rows_beside_it_and_follows_them(tied_llama: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tied_llama, dtype=torch.bfloat16)
    model.requires_grad_(False)
    new_rows.open_rows(model, NEW)
    (rows,) = load.trained_rows(model).values()
    assert rows.dtype == torch.float32 and set(load.embedding_weights(model)) == {"embed_tokens"}
    model(**_batch()).loss.backward()
    assert rows.grad.dtype == torch.float32 and rows.grad.abs().max() > 0
    with torch.no_grad():
        rows += 1e-3
    model(**_batch())
    weight = model.get_input_embeddings().weight
    assert torch.equal(weight[NEW.start : NEW.stop], rows.detach().to(torch.bfloat16))


def test_a_model_that_scales_its_embeddings_keeps_doing_so(tied_llama: Path) -> None:
    class Scaled(torch.nn.Embedding):
        def forward(self, input_ids: Any) -> Any:
            return super().forward(input_ids) * 3.0

    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tied_llama)
    model.get_input_embeddings().__class__ = Scaled
    ids = _batch()["input_ids"]
    before = model.get_input_embeddings()(ids)
    model.requires_grad_(False)
    new_rows.open_rows(model, NEW)
    out = model.get_input_embeddings()(ids)
    assert torch.equal(out, before)
    out.sum().backward()
    counts = torch.bincount(ids.flatten(), minlength=700)[NEW.start : NEW.stop]
    (rows,) = load.trained_rows(model).values()
    assert torch.equal(rows.grad[:, 0], 3.0 * counts)


def test_what_cannot_be_done_is_said(tied_llama: Path) -> None:
    with pytest.raises(ModelError, match="no added tokens"):
        _opened(tied_llama, "new_rows", new_ids=range(700, 700))


def test_new_rows_can_be_followed_by_full(make, untied_llama: Path) -> None:
    made = make(untied_llama, "new_rows")
    rows_only, _ = checkpoint.load(made.pretrain, trainable=True)
    everything, _ = checkpoint.load(made.pretrain, trainable=True, embeddings="full")
    assert load.trained_rows(rows_only) and not load.trained_rows(everything)
    ids = torch.arange(0, 60)[None]
    with torch.inference_mode():
        assert torch.equal(rows_only.eval()(input_ids=ids).logits, everything.eval()(input_ids=ids).logits)
    assert all(w.requires_grad for w in load.embedding_weights(everything).values())


def test_a_base_without_the_matrices_rows_in_float_is_refused(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(make_llama(tmp_path / "base"))
    model.lm_head.weight = torch.nn.Parameter(torch.zeros(700, 64, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ModelError, match="int8"):
        new_rows.open_rows(model, NEW)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_losses_have_gradients_at_the_scale_of_a_gradient_scaler(dtype: torch.dtype) -> None:
    """Against float32; 65536 is where torch's GradScaler starts, and more than float16 holds."""
    torch.manual_seed(0)
    head = torch.nn.Linear(64, 500, bias=False)
    torch.nn.init.normal_(head.weight, std=0.1)
    head = head.to(dtype)
    new_rows._install(
        head, new_rows._RowsLinear, new_rows._parameter(head.weight, range(440, 500)), range(440, 500)
    )
    hidden = torch.randn(2, 30, 64).to(dtype).requires_grad_()
    labels = torch.randint(0, 500, (2, 30))
    (chunked_loss.loss(hidden, head, labels) * 65536.0).backward()
    weight = head.weight.detach().float().requires_grad_()
    exact = hidden.detach().float().requires_grad_()
    logits = (exact @ weight.T)[:, :-1].flatten(0, 1)
    torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten()).backward()
    assert torch.isfinite(hidden.grad).all()
    rows = weight.grad[440:]
    assert (head.new_rows.grad / 65536 - rows).norm() < 0.02 * rows.norm()
    scaled = hidden.grad.float() / 65536
    assert (scaled - exact.grad).norm() < 0.02 * exact.grad.norm()


def test_a_model_with_open_rows_is_saved_and_merged_as_if_it_had_none(
    make, untied_llama: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    model, _ = checkpoint.load(make(untied_llama, "new_rows").pretrain, trainable=True)
    assert not any("new_rows" in name for name in model.state_dict())
    with torch.no_grad():
        for rows in load.trained_rows(model).values():
            rows += 0.5
    merged = model.merge_and_unload().eval()
    merged.save_pretrained(tmp_path)
    ids = torch.arange(0, 60)[None]
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.inference_mode():
        assert torch.equal(again(input_ids=ids).logits, merged(input_ids=ids).logits)


def test_what_is_asked_of_a_forward_pass_is_given(tied_llama: Path) -> None:
    model = _opened(tied_llama, "new_rows")
    assert model(**_batch()).logits is None  # training: never made
    assert len(model(**_batch(), output_hidden_states=True).hidden_states) == 3
    assert model(**_batch(), return_dict=False)[0].requires_grad
    out = model.eval()(**_batch())
    assert out.logits.shape == (2, 40, 700) and out.loss.requires_grad
