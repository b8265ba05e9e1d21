"""The LoRA part of a checkpoint, as plain PEFT files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from fastvocab import files
from fastvocab.errors import CheckpointError
from fastvocab.model.manifest import ADAPTER
from fastvocab.model.reference import Base


def save(folder: Path, model: Any, base: Base) -> None:
    """Write the adapter of a PEFT model without the embedding rows, which `rows` has."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    lora = {name: tensor.contiguous().cpu() for name, tensor in state.items() if "lora_" in name}
    save_file(lora, folder / ADAPTER[0], metadata={"format": "pt"})
    config = model.peft_config["default"]
    kept = config.modules_to_save, config.inference_mode, config.base_model_name_or_path
    # the rows are in rows.safetensors: an adapter_config that promised them here would be a lie to PEFT
    config.modules_to_save, config.inference_mode, config.base_model_name_or_path = None, True, base.name
    tying, config.ensure_weight_tying = getattr(config, "ensure_weight_tying", False), False
    try:
        config.save_pretrained(folder)
    finally:
        config.modules_to_save, config.inference_mode, config.base_model_name_or_path = kept
        config.ensure_weight_tying = tying


def copy(source: Path, folder: Path, base: Base) -> None:
    """Copy a saved adapter from one checkpoint folder to another, to stand on ``base`` there."""
    shutil.copyfile(source / ADAPTER[0], folder / ADAPTER[0])
    config = files.read_json(source / ADAPTER[1])
    files.write_json(folder / ADAPTER[1], {**config, "base_model_name_or_path": base.name})


def lay(folder: Path, model: Any) -> None:
    """Copy the saved LoRA tensors into a PEFT model, each one exactly once.

    PEFT's own ``set_peft_model_state_dict`` asks for the opened embedding matrices too, which are not in there.

    Raises:
        CheckpointError: names or shapes are not the model's.
    """
    import torch
    from safetensors.torch import load_file

    tensors = load_file(folder / ADAPTER[0])
    places = {name.replace(".default.", "."): p for name, p in model.named_parameters() if "lora_" in name}
    wrong = [n for n in tensors.keys() & places.keys() if tensors[n].shape != places[n].shape]
    if wrong or tensors.keys() != places.keys():
        odd = sorted(wrong) or sorted(tensors.keys() ^ places.keys())
        raise CheckpointError(
            f"{folder}: the adapter does not fit the model, {len(odd)} tensors, such as {odd[0]}"
        )
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(tensors[name])
