"""Rows of embedding matrices that differ from the base's, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastvocab.errors import CheckpointError, ModelError


def base_matrix(folder: Path, part: str) -> Any:
    """``embed_tokens`` or ``lm_head`` of a base model as it lies on disk, (rows, width); None where it is tied away.

    Read from the safetensors files, so that the base need not be loaded a second time to compare with it.
    """
    from safetensors import safe_open

    for name, file in index(folder).items():
        if name.endswith(f"{part}.weight"):
            with safe_open(file, "pt") as tensors:
                return tensors.get_tensor(name)
    if part == "lm_head":
        return None
    raise ModelError(f"{folder} has no {part}.weight", rule="Llama-style names are needed")


def index(folder: Path) -> dict[str, Path]:
    """The file of each tensor of a model, by the tensor's name."""
    from safetensors import safe_open

    listing = folder / "model.safetensors.index.json"
    if listing.is_file():
        weights = json.loads(listing.read_text(encoding="utf-8"))["weight_map"]
        # no folder in a name; a link is followed, since in the Hub's cache every file is one
        if strange := sorted({str(f) for f in weights.values() if Path(f).name != f}):
            raise ModelError(f"{listing} names {strange[0]!r}", rule="shards lie beside it")
        return {name: folder / file for name, file in weights.items()}
    found: dict[str, Path] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            found.update(dict.fromkeys(tensors.keys(), file))
    return found


def changed(live: Any, base: Any) -> Any:
    """Indices of the rows of ``live`` (rows, width) that are not in ``base`` bit by bit, with all beyond its end."""
    import torch

    same = min(len(live), len(base))
    # compared in the live dtype: a base stored in bfloat16 and loaded as float32 is unchanged
    different = (live[:same] != base[:same].to(live.device, live.dtype)).any(dim=1)
    beyond = torch.arange(same, len(live), device=live.device)
    return torch.cat([different.nonzero().flatten(), beyond]).cpu()


def save(
    path: Path,
    weights: dict[str, Any],
    base_folder: Path,
    trained: dict[str, Any],
    new_ids: range,
    added: range,
) -> dict[str, int]:
    """Write ``PART.index`` (n,) int64 and ``PART.rows`` (n, width) for each matrix; returns n by part.

    Args:
        weights: the live matrices by part.
        base_folder: whose rows are left out.
        trained: rows ``new_ids`` in the precision that they are trained in, where that is not the matrix's.
        added: ids of all extensions, always written: `extend.grow` gives them other rows at a reload, also where they
            are still those of a padded base.

    Raises:
        CheckpointError: a row is not finite.
    """
    import torch
    from safetensors.torch import save_file

    tensors: dict[str, Any] = {}
    for part, weight in weights.items():
        weight = weight.detach()
        base = base_matrix(base_folder, part)
        if base is None:  # a head that the base did not have apart
            base = weight[:0]
        index = torch.unique(torch.cat([changed(weight, base), torch.arange(added.start, added.stop)]))
        found = weight[index.to(weight.device)].cpu()
        if part in trained:
            found = found.to(trained[part].dtype)
            mine = (index >= new_ids.start) & (index < new_ids.stop)
            found[mine] = trained[part].detach().cpu()[index[mine] - new_ids.start]
        if not torch.isfinite(found).all():
            odd = index[~torch.isfinite(found).all(dim=1)]
            raise CheckpointError(
                f"{len(odd)} rows of {part} hold NaN or infinity, such as row {int(odd[0])}",
                rule="a checkpoint that could not be used is not written; earlier saves are kept",
                fix="go on from an earlier save with lower learning rates",
            )
        tensors[f"{part}.index"], tensors[f"{part}.rows"] = index, found.contiguous()
    save_file(tensors, path, metadata={"format": "pt"})
    return {part: len(tensors[f"{part}.index"]) for part in weights}


def lay(
    path: Path,
    weights: dict[str, Any],
    trained: dict[str, Any] | None = None,
    new_ids: range = range(0),
) -> None:
    """Copy saved rows over the matrices of an extended model, in place.

    Args:
        weights: the live matrices by part.
        trained: rows ``new_ids`` that train beside the matrix, to be set as well.

    Raises:
        CheckpointError: if the file's matrices or shapes are not the model's.
    """
    import torch
    from safetensors.torch import load_file

    tensors = load_file(path)
    parts = {name.rpartition(".")[0] for name in tensors}
    if parts != set(weights):
        raise CheckpointError(
            f"{path} holds rows of {', '.join(sorted(parts))}, the model has {', '.join(sorted(weights))}",
            rule="tied models have one matrix, others two; both sides must agree",
        )
    for part, weight in weights.items():
        index, saved = tensors[f"{part}.index"], tensors[f"{part}.rows"]
        ordered = bool((index[1:] > index[:-1]).all())
        outside = len(index) and not 0 <= int(index[0]) <= int(index[-1]) < len(weight)
        if saved.shape != (len(index), weight.shape[1]) or outside or not ordered:
            raise CheckpointError(
                f"{path}: rows of {part} have shape {tuple(saved.shape)}, the matrix {tuple(weight.shape)}",
                rule="as many columns as the model, ids in order, no row beyond its end",
            )
        with torch.no_grad():
            weight[index.to(weight.device)] = saved.to(weight.device, weight.dtype)
            if trained and part in trained:
                own = trained[part]
                mine = (index >= new_ids.start) & (index < new_ids.stop)
                places = (index[mine] - new_ids.start).to(own.device)
                own[places] = saved[mine].to(own.device, own.dtype)
