"""Tiny models of every family that a GGUF file is written of, in bfloat16, with weights that matter."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

_COMMON: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 72, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    "rms_norm_eps": 1e-5,
}  # fmt: skip
_GEMMA = _COMMON | {"head_dim": 32, "num_hidden_layers": 6}
_LLAMA_3 = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip

#: Configuration by the name of the family; the class is that of ``model_type``.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _COMMON | {"model_type": "llama", "tie_word_embeddings": True, "attention_bias": True},
    "llama3": _COMMON
    | {"model_type": "llama", "head_dim": 32, "tie_word_embeddings": True, "rope_parameters": _LLAMA_3},
    "mistral": _COMMON
    | {"model_type": "mistral", "head_dim": 32, "tie_word_embeddings": False, "sliding_window": None},
    "qwen2": _COMMON | {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": _COMMON | {"model_type": "qwen3", "head_dim": 32, "tie_word_embeddings": False},
    "gemma": _GEMMA | {"model_type": "gemma"},
    "gemma2": _GEMMA | {"model_type": "gemma2", "query_pre_attn_scalar": 32, "sliding_window": 16},
    "gemma3_text": _GEMMA | {"model_type": "gemma3_text", "query_pre_attn_scalar": 32, "sliding_window": 16},
    "phi3": _COMMON | {"model_type": "phi3", "tie_word_embeddings": False},
    "olmo2": _COMMON | {"model_type": "olmo2", "tie_word_embeddings": True},
    "granite": _COMMON
    | {
        "model_type": "granite", "tie_word_embeddings": True, "embedding_multiplier": 12.0, "logits_scaling": 8.0,
        "residual_multiplier": 0.22, "attention_multiplier": 0.0625,
    },
    "smollm3": _COMMON | {"model_type": "smollm3", "tie_word_embeddings": True},
}  # fmt: skip


def make_model(family: str, tokenizer: Path, folder: Path, *, pad_rows: int = 7) -> Path:
    """A model with the tokenizer of a folder (700 tokens) and rows to spare; norms and biases are no ones or zeros."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(**FAMILIES[family], vocab_size=700 + pad_rows)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for name, weight in model.named_parameters():
        size = 0.5 if "embed" in name else 0.1 if weight.ndim == 1 else 0.08
        weight.data = size * torch.randn_like(weight) + (weight.data if "norm" in name else 0)
        weight.data = weight.data.to(
            torch.bfloat16
        )  # not model.to: that would round the rotary frequencies too
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
    return folder
