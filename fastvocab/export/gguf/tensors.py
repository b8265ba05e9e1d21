"""The weights: each tensor read, turned into llama.cpp's order and precision, and written, one after the other.

In memory is one tensor at a time: its 16 bits as they are on disk, its bytes as they will be, and 64 MB between.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastvocab import console
from fastvocab.errors import ModelError
from fastvocab.export.gguf.metadata import Shape

#: Values that are turned at once, as 32-bit floats.
_AT_ONCE = 16_000_000
#: Values in a block of Q8_0: a row that is no multiple of it stays in 16 bits.
_BLOCK = 32
#: Buffers that some files have beside the weights.
_LEFT_OUT = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")


@dataclass(frozen=True)
class Planned:
    """A tensor to write.

    Attributes:
        name: in the file.
        source: in the folder; None where ``values`` has it.
        shape: rows first, as torch has it.
        type: `gguf.GGMLQuantizationType`.
        bytes: that it takes.
        heads: rows of so many heads change places; 0 for none.
        offset: what is added.
        values: of a tensor that is in no file.
    """

    name: str
    source: str | None
    shape: tuple[int, ...]
    type: Any
    bytes: int
    heads: int = 0
    offset: float = 0.0
    values: np.ndarray | None = None


class Weights:
    """The safetensors files of a folder, open for reading."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        from safetensors import safe_open

        self._files: dict[str, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            file = stack.enter_context(safe_open(path, framework="pt"))
            self._files |= dict.fromkeys(file.keys(), file)
        if not self._files:
            raise ModelError(f"{folder} has no .safetensors weights", fix="export the checkpoint as hf first")

    def names(self) -> list[str]:
        """Names of all tensors, layer by layer."""
        return sorted(self._files, key=lambda name: [int(p) if p.isdigit() else -1 for p in name.split(".")])

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._files[name].get_slice(name).get_shape())

    def read(self, name: str) -> Any:
        """A tensor of torch."""
        return self._files[name].get_tensor(name)


def plan(weights: Weights, shape: Shape, kind: str, folder: Path) -> list[Planned]:
    """What goes into the file, in order.

    Raises:
        ModelError: a tensor whose place in the file is not known, or none of a kind that has to be there.
    """
    import gguf

    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == shape.family.arch)
    places = gguf.get_tensor_name_map(arch, shape.sizes.layers)
    tied = shape.sizes.matrices == 1
    out, unknown = [], []
    for source in weights.names():
        if source.endswith(_LEFT_OUT) or (tied and source == "lm_head.weight"):
            continue
        name = places.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None:
            unknown.append(source)
            continue
        out.append(_planned(name, source, weights.shape(source), shape, kind))
        if name == "token_embd.weight" and tied and shape.family.head == "always":
            out.append(_planned("output.weight", source, weights.shape(source), shape, kind))
    if unknown:
        raise ModelError(
            f"{folder}: {len(unknown)} tensors have no place in a GGUF file of a {shape.family.arch} model, "
            f"such as {', '.join(unknown[:3])}",
            rule="a merged model: no adapter, nothing quantized",
            fix="export the checkpoint as hf, and give that folder",
        )
    rows = next((p.shape[0] for p in out if p.name == "token_embd.weight"), None)
    if rows != shape.sizes.rows:
        raise ModelError(f"{folder}: the embedding has {rows} rows, config.json says {shape.sizes.rows}")
    return [*out, *(_values(name, values) for name, values in _factors(shape))]


def _planned(name: str, source: str, size: tuple[int, ...], shape: Shape, kind: str) -> Planned:
    import gguf

    norm = name.endswith("norm.weight")
    chosen = "F16" if kind == "q8_0" and size[-1] % _BLOCK else kind.upper()
    if len(size) == 1 or norm:
        chosen = "F32"
    type_ = gguf.GGMLQuantizationType[chosen]
    block, block_bytes = gguf.GGML_QUANT_SIZES[type_]
    heads = 0
    if shape.family.interleaved and source.rsplit(".", 2)[-2] in ("q_proj", "k_proj"):
        heads = shape.sizes.heads if ".q_proj." in source else shape.sizes.groups
    offset = shape.family.norm_offset if norm else 0.0
    return Planned(name, source, size, type_, int(np.prod(size)) // block * block_bytes, heads, offset)


def _values(name: str, values: np.ndarray) -> Planned:
    import gguf

    return Planned(name, None, values.shape, gguf.GGMLQuantizationType.F32, values.nbytes, values=values)


def _factors(shape: Shape) -> Iterator[tuple[str, np.ndarray]]:
    """What llama.cpp divides the rotary frequencies by: Llama-3's scaling, and Phi-3's two sets."""
    rope = shape.rope
    if rope.get("rope_type") == "llama3":
        from transformers import AutoConfig
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

        config = AutoConfig.for_model(**shape.config)
        scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, None)
        size = shape.sizes.head
        plain = rope["rope_theta"] ** -(np.arange(0, size, 2, dtype=np.float64) / size)
        yield "rope_freqs.weight", (plain / scaled.double().numpy()).astype(np.float32)
    if rope.get("rope_type") == "longrope":
        for length in ("long", "short"):
            yield f"rope_factors_{length}.weight", np.array(rope[f"{length}_factor"], dtype=np.float32)


def put(writer: Any, weights: Weights, planned: list[Planned], kind: str) -> None:
    """Write header, metadata and all tensors.

    Raises:
        ModelError: a weight that is not finite, or is not in the precision that was asked for.
    """
    for one in planned:
        writer.add_tensor_info(one.name, one.shape, np.dtype(np.float32), one.bytes, raw_dtype=one.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    with console.progress("tensors") as display:
        task = display.add_task(f"  writing {kind}", total=len(planned), note="")
        for one in planned:
            writer.write_tensor_data(_bytes(weights, one, kind))
            display.advance(task)


def _bytes(weights: Weights, one: Planned, kind: str) -> np.ndarray:
    import gguf

    out = np.empty(one.bytes, dtype=np.uint8)
    if one.values is not None:
        out[:] = one.values.reshape(-1).view(np.uint8)
        return out
    assert one.source is not None
    data = weights.read(one.source)
    if not data.is_floating_point():
        raise ModelError(
            f"{one.source} is of {data.dtype}", rule="weights in full precision, nothing quantized"
        )
    if one.heads:
        data = data[_order(one.shape[0], one.heads)]
    matrix = data.reshape(one.shape[0], -1) if len(one.shape) > 1 else data.reshape(1, -1)
    rows, width = matrix.shape
    step = max(1, _AT_ONCE // width)
    done = 0
    for start in range(0, rows, step):
        values = matrix[start : start + step].float().numpy() + np.float32(one.offset)
        if not np.isfinite(values).all():
            raise ModelError(
                f"{one.source} has a weight that is not finite", fix="train from an earlier checkpoint"
            )
        if one.type == gguf.GGMLQuantizationType.F16 and (most := float(np.abs(values).max())) > 65504:
            raise ModelError(
                f"{one.source} has a weight of {most:.3g}",
                rule="float16 ends at 65504",
                fix=f"choose bf16 instead of {kind}",
            )
        piece = gguf.quantize(np.ascontiguousarray(values), one.type).reshape(-1).view(np.uint8)
        out[done : done + piece.size] = piece
        done += piece.size
    assert done == one.bytes
    return out


def _order(rows: int, heads: int) -> Any:
    """Where llama.cpp has the rows of q and k: a value of a head's first half beside that of the second."""
    import torch

    return torch.arange(rows).reshape(heads, 2, rows // heads // 2).transpose(1, 2).reshape(-1)
