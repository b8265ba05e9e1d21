"""Counts from config.json against transformers' own models."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from fastvocab.architecture import FAMILIES, Architecture, causal_types
from fastvocab.errors import ModelError

SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
#: Llama-3-8B, as its config.json has it.
LLAMA = {
    "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False,
}  # fmt: skip


def real(config: dict[str, Any]) -> Any:
    """The model on the meta device."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    own = {key: value for key, value in config.items() if key != "model_type"}
    ids = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(CONFIG_MAPPING[config["model_type"]](**own, **ids))


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize(
    "more",
    [{}, {"attention_bias": True}, {"mlp_bias": True}, {"tie_word_embeddings": True}, {"tie_word_embeddings": False},
     {"head_dim": 24}],
    ids=str,
)  # fmt: skip
def test_every_family_is_counted_exactly(kind: str, more: dict[str, Any]) -> None:
    draw = random.Random(f"{kind}{more}")
    sizes = {
        "vocab_size": draw.randrange(500, 2000), "hidden_size": 96, "intermediate_size": 160,
        "num_hidden_layers": draw.randint(1, 4), "num_attention_heads": 8,
        "num_key_value_heads": draw.choice([2, 4, 8]),
    }  # fmt: skip
    config = {"model_type": kind, **sizes, **more}
    model = real(config)
    for given in (config, model.config.to_dict(), {"text_config": config, "model_type": "any"}):
        found = Architecture.read(given)
        assert found.known
        assert found.parameters == sum(p.numel() for p in model.parameters())
        assert found.matrices == (1 if model.config.tie_word_embeddings else 2)


def test_types_that_can_be_loaded_are_read_from_transformers_as_it_has_them() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert causal_types() == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) > set(FAMILIES)


@pytest.mark.parametrize("kind", FAMILIES)
def test_adapters_are_counted_as_peft_makes_them(kind: str) -> None:
    from peft import LoraConfig, get_peft_model

    config = {
        "model_type": kind, "vocab_size": 500, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    found = Architecture.read(config)
    for targets in (tuple(found.linears), ("o_proj", "down_proj")):
        model = get_peft_model(real(config), LoraConfig(r=6, target_modules=list(targets)))
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert found.lora(6, targets) == trained


def test_published_sizes() -> None:
    """Llama-3-8B has 8,030,261,248 parameters (its model card's safetensors count)."""
    found = Architecture.read(LLAMA)
    assert found.parameters == 8_030_261_248
    assert found.lora(8, SEVEN) == 20_971_520


def test_headers_of_weights_decide_where_a_family_is_not_known(tmp_path: Path) -> None:
    from tests.conftest import make_llama

    folder = make_llama(tmp_path / "model", tied=False)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    expected = Architecture.read(config)
    other = config | {"model_type": "somenewllama"}
    alone, seen = Architecture.read(other), Architecture.read(other, folder)
    assert not alone.known and not alone.exact
    assert seen.exact and seen.parameters == expected.parameters
    assert seen.lora(4, SEVEN) == expected.lora(4, SEVEN)
    assert seen.linear_parameters == expected.linear_parameters
    # the file has more than the family's rule says: the file is right
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors") | {"model.layers.0.extra.weight": torch.zeros(3, 5)}
    save_file(weights, folder / "model.safetensors")
    assert Architecture.read(config, folder).parameters == expected.parameters + 15


def test_headers_of_quantized_weights_are_not_taken_for_shapes(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file(
        {"model.layers.0.mlp.up_proj.weight": torch.zeros(7, 1, dtype=torch.uint8)},
        tmp_path / "a.safetensors",
    )
    found = Architecture.read(LLAMA, tmp_path)
    assert found.parameters == 8_030_261_248


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x05\x00\x00\x00\x00\x00\x00\x00[1,2]")
    with pytest.raises(ModelError, match=r"model\.safetensors has no readable safetensors header"):
        Architecture.read(LLAMA, tmp_path)


def test_all_missing_sizes_are_named_at_once() -> None:
    with pytest.raises(ModelError) as caught:
        Architecture.read(
            {"model_type": "mistral", "hidden_size": "4096", "num_hidden_layers": 0, "vocab_size": None}
        )
    for part in (
        "vocab_size is missing", "intermediate_size is missing", "num_attention_heads is missing",
        "num_key_value_heads is missing", "hidden_size is '4096'", "num_hidden_layers is 0",
    ):  # fmt: skip
        assert part in str(caught.value)
