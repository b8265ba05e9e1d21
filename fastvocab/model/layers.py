"""Layers whose own weights train (``layers: full``), in place of adapters: opened, saved, laid over a base again.

What is saved is every weight that is not of an embedding matrix, as it is now: after full training all of them differ
from the base's. Later stages may put an adapter on top; the weights under it stay part of the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastvocab.errors import CheckpointError, ConfigError
from fastvocab.model import backend, load

#: Says of a causal language model that its layers are not the base's.
_OWN = "_fastvocab_own_layers"


def open_layers(model: Any, *, embeddings: load.Embeddings, new_ids: range) -> Any:
    """Let every weight of the layers train, in float32, and the embedding matrices or rows of them as asked.

    Adam moves a weight by the learning rate: 1e-5 is less than half a unit in bfloat16's last place of most weights.

    Args:
        model: a causal language model without an adapter; changed in place.
        embeddings, new_ids: as for `load.add_lora`.

    Raises:
        ConfigError: its linear layers are in 4-bit.
    """
    if backend.is_quantized(model):
        raise ConfigError(
            "layers: full, and model.load_in_4bit",
            rule="4-bit weights do not train",
            fix="model.load_in_4bit=false, or layers lora",
        )
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for _, weight in _named(model):
        weight.data = weight.data.float()
        weight.requires_grad_(True)
    if embeddings == "full":
        for weight in load.embedding_weights(model).values():
            weight.data = weight.data.float()
            weight.requires_grad_(True)
    if embeddings == "new_rows":
        from fastvocab.model import new_rows

        new_rows.open_rows(model, new_ids)
    _mark(model)
    model.train()
    return model


def are_own(model: Any) -> bool:
    """Are the layers under a model's adapters, if it has any, other than the base's?"""
    return bool(getattr(_causal(model), _OWN, False))


def save(path: Path, model: Any) -> None:
    """Write the weights of the layers.

    Raises:
        CheckpointError: one is not finite.
    """
    import torch
    from safetensors.torch import save_file

    state = {name: weight.detach().cpu().contiguous() for name, weight in _named(model)}
    if odd := [name for name, weight in state.items() if not torch.isfinite(weight).all()]:
        raise CheckpointError(
            f"{len(odd)} weights of the layers hold NaN or infinity, such as {odd[0]}",
            rule="a checkpoint that could not be used is not written; earlier saves are kept",
            fix="go on from an earlier save with a lower learning rate",
        )
    save_file(state, path, metadata={"format": "pt"})


def lay(path: Path, model: Any) -> None:
    """Copy saved weights over the layers of a model without an adapter, in place.

    Raises:
        CheckpointError: names or shapes are not the model's, or its layers are in 4-bit.
    """
    import torch
    from safetensors.torch import load_file

    if backend.is_quantized(model):
        raise CheckpointError(
            f"{path}: the layers' own weights cannot be laid over 4-bit ones",
            fix="load it in 16 bits: load_in_4bit=False",
        )
    saved, places = load_file(path), dict(_named(model))
    wrong = [name for name in saved.keys() & places.keys() if saved[name].shape != places[name].shape]
    if wrong or saved.keys() != places.keys():
        odd = sorted(wrong) or sorted(saved.keys() ^ places.keys())
        raise CheckpointError(f"{path} does not fit the model, {len(odd)} tensors, such as {odd[0]}")
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(saved[name])
    _mark(model)


def _named(model: Any) -> Iterator[tuple[str, Any]]:
    """The weights of the layers, by the names that they have without an adapter."""
    for name, weight in _causal(model).named_parameters():
        if "lora_" not in name and "embed_tokens" not in name and "lm_head" not in name:
            yield name.replace(".base_layer.", "."), weight


def _causal(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _mark(model: Any) -> None:
    setattr(_causal(model), _OWN, True)
