"""Which models a GGUF file can hold as they are, and what its header says of them.

llama.cpp has the structure of each architecture in its code and reads only numbers from the file: what a config.json
asks for beyond that (another activation, layers in another order, a scaling that it does not know) would be lost
without a word, so it is refused here. Keys and rules as of llama-cpp-python 0.3.36 (``src/models/*.cpp``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastvocab.architecture import Architecture
from fastvocab.errors import ModelError

_SILU, _GELU = ("silu", "swish"), ("gelu_pytorch_tanh",)


@dataclass(frozen=True)
class Family:
    """How a model type of transformers goes into a file.

    Attributes:
        arch: llama.cpp's name of it.
        interleaved: whether llama.cpp turns neighbouring pairs of a head's values instead of its two halves, so that
            rows of q and k change places.
        norm_offset: added to the weights of normalisations (Gemma's are stored less 1).
        activations: names of the one that the code has.
        head: whether there may be a head apart from the embedding: ``maybe``, ``never``, or ``always`` (then a tied
            one is written out).
        window: layer ``n`` has a sliding window unless ``n + 1`` is a multiple of this; 0 for none.
    """

    arch: str
    interleaved: bool = False
    norm_offset: float = 0.0
    activations: tuple[str, ...] = _SILU
    head: str = "maybe"
    window: int = 0


FAMILIES = {
    "llama": Family("llama", interleaved=True),
    "mistral": Family("llama", interleaved=True),
    "qwen2": Family("qwen2"),
    "qwen3": Family("qwen3"),
    "gemma": Family("gemma", norm_offset=1.0, activations=(*_GELU, "gelu"), head="never"),
    "gemma2": Family("gemma2", norm_offset=1.0, activations=_GELU, head="never", window=2),
    "gemma3_text": Family("gemma3", norm_offset=1.0, activations=_GELU, window=6),
    "phi3": Family("phi3"),
    "olmo2": Family("olmo2", head="always"),
    "granite": Family("granite", interleaved=True),
    "smollm3": Family("smollm3", interleaved=True),
}

#: Where llama.cpp takes the scale of attention from the width instead of the size of a head: layers of the 27B ones.
_SCALED_BY_WIDTH = {"gemma2": 46, "gemma3_text": 62}


@dataclass(frozen=True)
class Shape:
    """A model as far as its header is concerned.

    Attributes:
        family: how it goes into a file.
        kind: its model type.
        sizes: layers, heads and so on.
        config: config.json with the defaults of transformers.
        rope: what turns queries and keys; of layers with full attention where there are two.
        rope_window: of layers with a sliding window; None where there is one for all.
        context: tokens that it can attend to.
    """

    family: Family
    kind: str
    sizes: Architecture
    config: dict[str, Any]
    rope: dict[str, Any]
    rope_window: dict[str, Any] | None
    context: int


def read(config: dict[str, Any], source: Path) -> Shape:
    """What a config.json (with transformers' defaults) is in a GGUF file.

    Raises:
        ModelError: of another family, or with something that the file could not say; all of it in one error.
    """
    kind = str(config.get("model_type"))
    family = FAMILIES.get(kind)
    if family is None:
        raise ModelError(
            f"{source}: a {kind} model cannot be written as GGUF here",
            rule=f"supported are {', '.join(FAMILIES)}",
            fix="export it as a Hugging Face folder; llama.cpp's own converter knows more architectures",
        )
    sizes = Architecture.read(config)
    rope, window = _rope(config)
    wrong = [*_odd(config, family, kind, sizes), *_odd_rope(rope, kind), *(_odd_rope(window or {}, kind))]
    if wrong:
        raise ModelError(
            f"{source}: this {kind} model cannot be written as GGUF: {'; '.join(wrong)}",
            rule="llama.cpp would run it otherwise than it was trained",
            fix="export it as a Hugging Face folder",
        )
    context = int(config["max_position_embeddings"])
    if kind == "mistral" and config.get("sliding_window"):  # llama.cpp's llama has none
        context = min(context, int(config["sliding_window"]))
    return Shape(family, kind, sizes, config, rope, window, context)


def _rope(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    given = config.get("rope_parameters") or {}
    if "full_attention" in given:
        return given["full_attention"], given.get("sliding_attention")
    return given, None


def _odd_rope(rope: dict[str, Any], kind: str) -> list[str]:
    name = rope.get("rope_type", "default")
    known = ("default", "linear", "llama3", "yarn", *(["longrope"] if kind == "phi3" else []))
    wrong = [] if name in known else [f"rope_type {name!r} (known: {', '.join(known)})"]
    if rope.get("partial_rotary_factor", 1.0) != 1.0 and kind != "phi3":
        wrong.append(f"partial_rotary_factor {rope['partial_rotary_factor']}")
    return wrong


def _odd(config: dict[str, Any], family: Family, kind: str, sizes: Architecture) -> list[str]:
    """What the file could not say of a model."""
    wrong = []
    activation = config.get("hidden_activation") or config.get("hidden_act")
    if activation not in family.activations:
        wrong.append(f"activation {activation!r} (known: {family.activations[0]})")
    if config.get("use_sliding_window"):
        wrong.append("use_sliding_window")
    if family.head == "never" and sizes.matrices == 2:
        wrong.append("a head that is not tied to the embedding")
    if kind in ("phi3", "olmo2", "granite") and sizes.head * sizes.heads != sizes.width:
        wrong.append(f"heads of {sizes.head} values, {sizes.heads} of them in a width of {sizes.width}")
    if (layers := config.get("layer_types")) and family.window:
        expected = [
            "full_attention" if (n + 1) % family.window == 0 else "sliding_attention"
            for n in range(sizes.layers)
        ]
        if layers != expected:
            wrong.append(f"layer_types (known: every {family.window}. with full attention)")
    elif layers and any(layer != "full_attention" for layer in layers):
        wrong.append("layer_types with other than full attention")
    if kind == "smollm3":
        expected_rope = [int((n + 1) % 4 != 0) for n in range(sizes.layers)]
        if config.get("no_rope_layers") != expected_rope:
            wrong.append("no_rope_layers (known: every fourth)")
    if (scalar := config.get("query_pre_attn_scalar")) is not None:
        by_width = sizes.layers == _SCALED_BY_WIDTH.get(kind)
        if scalar != (sizes.width // sizes.heads if by_width else sizes.head):
            wrong.append(f"query_pre_attn_scalar {scalar}")
    if kind == "gemma3_text" and config.get("attn_logit_softcapping"):
        wrong.append("attn_logit_softcapping")
    if config.get("use_bidirectional_attention"):
        wrong.append("use_bidirectional_attention")
    if kind in ("gemma", "gemma2", "gemma3_text", "olmo2") and config.get("attention_bias"):
        wrong.append("attention_bias")
    return wrong


def put(writer: Any, shape: Shape) -> None:
    """Write what `read` found into a `gguf.GGUFWriter`."""
    sizes, config, kind = shape.sizes, shape.config, shape.kind
    writer.add_vocab_size(sizes.rows)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(sizes.width)
    writer.add_block_count(sizes.layers)
    writer.add_feed_forward_length(sizes.intermediate)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.groups)
    writer.add_key_length(sizes.head)
    writer.add_value_length(sizes.head)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    _put_rope(writer, shape)
    if shape.family.window:
        writer.add_sliding_window(config["sliding_window"])
    elif kind == "phi3":  # 0 tells Phi-4 from Phi-3
        writer.add_sliding_window(config.get("sliding_window") or 0)
    if kind == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    if config.get("final_logit_softcapping"):
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if kind == "granite":
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])


def _put_rope(writer: Any, shape: Shape) -> None:
    import math

    import gguf

    rope, sizes = shape.rope, shape.sizes
    writer.add_rope_dimension_count(int(sizes.head * rope.get("partial_rotary_factor", 1.0)))
    writer.add_rope_freq_base(rope["rope_theta"])
    if shape.rope_window is not None:
        writer.add_rope_freq_base_swa(shape.rope_window["rope_theta"])
    kind = rope.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        for key, add in (
            ("attention_factor", writer.add_rope_scaling_yarn_attn_factor),
            ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
            ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
        ):
            if rope.get(key) is not None:
                add(rope[key])
    if shape.kind == "phi3":
        original = (
            rope.get("original_max_position_embeddings") or shape.config["original_max_position_embeddings"]
        )
        writer.add_rope_scaling_orig_ctx_len(original)
        if kind == "longrope":
            ratio = shape.context / original
            grown = math.sqrt(1 + math.log(ratio) / math.log(original)) if ratio > 1 else 1.0
            writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
            writer.add_rope_scaling_attn_factors(rope.get("attention_factor") or grown)
