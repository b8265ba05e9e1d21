"""`cpu_kernels`: as near to float32 as autocast's own passes are, for every part, and gone afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    Gemma2Config,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto import AutoModelForCausalLM

from fastvocab.model import backend, load
from fastvocab.train import cpu_kernels

SHAPE = {
    "vocab_size": 200,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
SHAPES = {
    "llama": LlamaConfig(**SHAPE),
    "llama without groups": LlamaConfig(**SHAPE | {"num_key_value_heads": 4}),
    "qwen2 with biases": Qwen2Config(**SHAPE),
    "qwen3 with norms of heads": Qwen3Config(**SHAPE, head_dim=16),
    "mistral with a window": MistralConfig(**SHAPE, sliding_window=8),
    "gemma": GemmaConfig(**SHAPE, head_dim=16),
    "gemma2 with caps": Gemma2Config(**SHAPE, head_dim=16),
}


@pytest.fixture(autouse=True)
def _needs_bfloat16() -> None:
    with backend.autocast():
        if not torch.is_autocast_enabled("cpu"):
            pytest.skip("this CPU trains in float32")


def _model(config: Any, **lora: Any) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    settings = {"r": 8, "lora_alpha": 16, "target_modules": list(load.LINEAR)} | lora
    model = get_peft_model(model, LoraConfig(**settings))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.2)
    return model.train()


def _batch(kind: str) -> dict[str, Any]:
    ids = torch.randint(0, 200, (2, 40), generator=torch.Generator().manual_seed(1))
    if kind == "documents":  # two in the first block, one in the second
        positions = torch.arange(40).repeat(2, 1)
        positions[0, 17:] -= 17
        return {"input_ids": ids, "labels": ids, "position_ids": positions}
    mask = torch.ones_like(ids)
    mask[1, 25:] = 0
    return {"input_ids": ids, "labels": ids.masked_fill(mask == 0, -100), "attention_mask": mask}


def _gradients(model: Any, batch: dict[str, Any], *, autocast: bool) -> tuple[float, Any]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = model(**batch, use_cache=False).loss
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize("kind", ["documents", "padding"])
@pytest.mark.parametrize("shape", SHAPES)
def test_loss_and_gradients_are_as_near_to_float32_as_autocasts(shape: str, kind: str) -> None:
    model, batch = _model(SHAPES[shape]), _batch(kind)
    exact_loss, exact = _gradients(model, batch, autocast=False)
    loss, own = _gradients(model, batch, autocast=True)
    with cpu_kernels.installed(model) as taken:
        kernel_loss, found = _gradients(model, batch, autocast=True)
    assert taken["linear"] == 21 and taken["attention"] == 3
    assert taken["norm"] == (0 if "gemma" in shape else 7)
    error, mine = (torch.linalg.norm(g - exact) / torch.linalg.norm(exact) for g in (own, found))
    assert mine < 1.3 * error + 1e-3, (float(mine), float(error))
    assert abs(kernel_loss - exact_loss) < 2 * abs(loss - exact_loss) + 2e-3
    assert not torch.equal(found, own), "other passes were taken"


def test_afterwards_the_model_is_as_it_was() -> None:
    model, batch = _model(SHAPES["llama"]), _batch("documents")
    before = _gradients(model, batch, autocast=True)
    names = [name for name, module in model.named_modules() if "forward" in module.__dict__]
    with cpu_kernels.installed(model):
        pass
    after = _gradients(model, batch, autocast=True)
    assert before[0] == after[0] and torch.equal(before[1], after[1])
    assert names == [name for name, module in model.named_modules() if "forward" in module.__dict__]


@pytest.mark.parametrize("kind", ["documents", "padding"])
def test_reading_without_training_is_the_models_own(kind: str) -> None:
    model, batch = _model(SHAPES["llama"]), _batch(kind)
    with torch.no_grad(), backend.autocast():
        own = model(**batch, use_cache=False).logits
        with cpu_kernels.installed(model):
            assert torch.equal(model(**batch, use_cache=False).logits, own)


@pytest.mark.parametrize("lora", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_other_kinds_of_adapters_stay_as_they_are(lora: dict[str, Any]) -> None:
    with cpu_kernels.installed(_model(SHAPES["llama"], **lora)) as taken:
        assert taken["linear"] == 0 and taken["norm"] == 7


def test_long_blocks_go_through_torchs_own_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = _model(SHAPES["llama"]), _batch("documents")
    exact = _gradients(model, batch, autocast=False)[1]
    found = []
    for most in (cpu_kernels._MOST_SCORES, 0):
        monkeypatch.setattr(cpu_kernels, "_MOST_SCORES", most)
        with cpu_kernels.installed(model):
            found.append(_gradients(model, batch, autocast=True)[1])
    assert not torch.equal(*found)
    assert all(torch.linalg.norm(g - exact) < 0.05 * torch.linalg.norm(exact) for g in found)


def test_a_window_and_documents_are_in_the_mask() -> None:
    """A token outside the window, or in another document, has no influence on a loss; inside it has."""
    model = _model(SHAPES["mistral with a window"])
    batch = _batch("documents")
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][0, 16] += 1  # the last token of the first document
    labels = torch.full_like(batch["labels"], -100)
    labels[0, 18:] = batch["labels"][0, 18:]
    with cpu_kernels.installed(model):
        losses = [_gradients(model, {**b, "labels": labels}, autocast=True)[0] for b in (batch, changed)]
    assert losses[0] == losses[1]
