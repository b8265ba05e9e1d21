"""Checkpoints that re-extend themselves: a path is all that `load` needs.

A checkpoint folder holds, beside the tokenizer and its chat template::

    fastvocab.json             the manifest (fields below), written last
    rows.safetensors           PART.index and PART.rows of each embedding row that differs from the base;
                               PART is embed_tokens, and lm_head where the two are not tied
    adapter_model.safetensors  the LoRA part, plain PEFT; with adapter_config.json; absent in checkpoint 0

Manifest, schema 1:

===============  ========================================================================================
``schema``       version of this table; a newer one is refused
``stage``        extend, pretrain or instruct
``base``         name, Hub commit or null, fingerprint (`reference.Base`)
``vocabulary``   new_first and new_stop (ids of the new tokens), tokens (of the tokenizer), rows (of the matrix)
``tied``         do input and output embeddings share a matrix
``init``         how the new rows started
``rows``         rows in rows.safetensors, by part
``lora``         r, alpha, dropout, targets; null without adapter
``embeddings``   what trained: full, new_rows, frozen
``dtype``        of the live weights when saved; ``load_in_4bit`` likewise
``lineage``      earlier checkpoints: stage, digest of the manifest, tokens trained on
``probe``        ids, digest of their logits, and some of the logits, to check a reload
``files``        path, bytes, sha256 of every other file
===============  ========================================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastvocab import console, files
from fastvocab.errors import CheckpointError
from fastvocab.model import load as loader
from fastvocab.model import reference, rows, text
from fastvocab.model.reference import Base

SCHEMA = 1
MANIFEST, ROWS = "fastvocab.json", "rows.safetensors"
#: Largest difference of a probed logit that a reload may show, by the dtype it was loaded in. 16-bit: two units
#: in the last place at |logit| ~ 30 (bfloat16 keeps 8 bits). float32: another BLAS sums in another order.
TOLERANCE = {"float32": 2e-3, "bfloat16": 0.5, "float16": 0.1}


def save(
    folder: Path,
    model: Any,
    tokenizer: Any,
    *,
    base: Base,
    stage: str,
    new_ids: range,
    init: str,
    load_in_4bit: bool,
    lora: dict[str, Any] | None = None,
    embeddings: str = "frozen",
    lineage: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Write a checkpoint into ``folder`` (existing; being atomic is the caller's part) and return its manifest.

    The base is never copied, each changed row is written once.
    """
    import torch

    weights = loader.embedding_weights(model)
    counts = rows.save(folder / ROWS, weights, base.folder)
    if lora is not None:
        _save_adapter(folder, model, base)
    text.save_tokenizer(tokenizer, folder)
    manifest = {
        "schema": SCHEMA,
        "stage": stage,
        "base": base.record(),
        "vocabulary": {
            "new_first": new_ids.start,
            "new_stop": new_ids.stop,
            "tokens": len(tokenizer),
            "rows": len(weights["embed_tokens"]),
        },
        "tied": "lm_head" not in weights,
        "init": init,
        "rows": counts,
        "lora": lora,
        "embeddings": embeddings,
        "dtype": str(weights["embed_tokens"].dtype).removeprefix("torch."),
        "load_in_4bit": load_in_4bit,
        "lineage": lineage or [],
        "probe": _probe(model, _probe_ids(tokenizer, new_ids)),
        "files": files.describe(folder, skip=frozenset({MANIFEST})),
    }
    assert all(torch.isfinite(w).all() for w in weights.values()), "rows are finite"
    files.write_json(folder / MANIFEST, manifest)
    return manifest


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, checked: schema, and every file by its hash.

    Raises:
        CheckpointError: no checkpoint, of a newer version, or damaged (with what is wrong).
    """
    if not (folder / MANIFEST).is_file():
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:6]) if folder.is_dir() else "nothing"
        raise CheckpointError(f"{folder} is no fastvocab checkpoint: there is no {MANIFEST} (found: {found})")
    manifest = files.read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("schema"), int):
        raise CheckpointError(f"{folder / MANIFEST} is no manifest")
    if manifest["schema"] > SCHEMA:
        raise CheckpointError(
            f"{folder} has schema {manifest['schema']}, this version reads up to {SCHEMA}",
            fix="pip install -U fastvocab",
        )
    if faults := files.verify(folder, manifest["files"]):
        raise CheckpointError(f"{folder} is damaged: " + "; ".join(faults), fix="run its stage again")
    return manifest


def load(
    path: Path | str,
    *,
    trainable: bool = False,
    lora: dict[str, Any] | None = None,
    embeddings: loader.Embeddings | None = None,
    load_in_4bit: bool | None = None,
    block: int = 2048,
    seed: int = 3407,
    gradient_checkpointing: bool = False,
) -> tuple[Any, Any]:
    """Rebuild a checkpoint's model: base, new rows, saved rows, tokenizer, LoRA; then check the probe.

    Args:
        path: the checkpoint folder. Nothing else is needed.
        trainable: ready for training, LoRA and (unless frozen) embedding matrices open.
        lora: settings of the adapter to put on, where the checkpoint has none (r, alpha, dropout, targets).
        embeddings: what to train, instead of what the checkpoint was trained with.
        load_in_4bit: instead of how it was saved (a merge needs 16-bit weights).
        block, seed, gradient_checkpointing: for training.

    Returns:
        (model, tokenizer).

    Raises:
        CheckpointError: damaged, made for another base, or the probe's logits are not those that were saved.
    """
    from fastvocab.model.extend import grow

    folder = Path(path)
    manifest = read(folder)
    base = _base(manifest, folder)
    quantized = manifest["load_in_4bit"] if load_in_4bit is None else load_in_4bit
    model, own_tokenizer = loader.base_model(base, load_in_4bit=quantized, block=block, seed=seed)
    tokenizer = text.tokenizer(folder)
    vocabulary = manifest["vocabulary"]
    new_ids = range(vocabulary["new_first"], vocabulary["new_stop"])
    grow(model, own_tokenizer, new_ids, tokenizer.convert_ids_to_tokens(list(new_ids)))
    if (found := model.get_input_embeddings().weight.shape[0]) != vocabulary["rows"]:
        raise CheckpointError(f"{folder}: the model has {found} rows, the checkpoint {vocabulary['rows']}")
    rows.lay(folder / ROWS, loader.embedding_weights(model))
    saved = manifest["lora"]
    if saved or (trainable and lora):
        settings: dict[str, Any] = saved or lora or {}
        model = loader.add_lora(
            model,
            r=settings["r"],
            alpha=settings["alpha"],
            dropout=settings["dropout"],
            targets=tuple(settings["targets"]),
            embeddings=(embeddings or manifest["embeddings"]) if trainable else "frozen",
            block=block,
            seed=seed,
            gradient_checkpointing=gradient_checkpointing,
        )
        if saved:
            _load_adapter(folder, model)
        # again: where weights are float16 the opened copies are float32, and so are the saved rows
        rows.lay(folder / ROWS, loader.embedding_weights(model))
    if not trainable:
        model.eval()
    _check_probe(folder, model, manifest, quantized)
    return model, tokenizer


def merge(path: Path | str, out: Path) -> dict[str, Any]:
    """Write a plain 16-bit Hugging Face folder: LoRA merged in, every row in its matrix.

    Returns:
        ``{"dtype", "rows", "parameters", "rounding"}``, the last the largest logit difference on the probe
        between the live model and the 16-bit one read back with plain transformers.
    """
    import torch

    model, tokenizer = load(path, load_in_4bit=False)
    manifest = files.read_json(Path(path) / MANIFEST)
    ids = manifest["probe"]["ids"]
    live = _logits(model, ids)
    plain = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
    half = torch.bfloat16 if plain.dtype in (torch.float32, torch.bfloat16) else plain.dtype
    for parameter in plain.parameters():  # not .to(half): that would round the rotary frequencies too
        parameter.data = parameter.data.to(half)
    plain.config.use_cache = True
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if getattr(plain.config, name, None) is None:
            setattr(plain.config, name, getattr(tokenizer, name))
    with console.quiet():
        plain.save_pretrained(out)
        text.save_tokenizer(tokenizer, out)
    from transformers import AutoModelForCausalLM

    again = AutoModelForCausalLM.from_pretrained(out, dtype=half).to(plain.device)
    apart = float((_logits(again, ids) - _logits(plain, ids)).abs().max())
    # on a GPU unsloth's kernels stand in one of the two
    if not apart <= (0.0 if loader.device() == "cpu" else TOLERANCE["bfloat16"]):
        raise CheckpointError(
            f"{out} read back by transformers gives other logits than the model that was saved"
        )
    return {
        "dtype": str(half).removeprefix("torch."),
        "rows": len(plain.get_input_embeddings().weight),
        "parameters": sum(p.numel() for p in plain.parameters()),
        "rounding": float((live - _logits(again, ids)).abs().max()),
    }


def digest(folder: Path) -> str:
    """What a lineage calls a checkpoint: sha256 of its manifest, which has the hashes of everything else."""
    return files.sha256_file(folder / MANIFEST)


def _base(manifest: dict[str, Any], folder: Path) -> Base:
    wanted = manifest["base"]
    base = reference.resolve(wanted["name"], commit=wanted["commit"])
    if base.fingerprint != wanted["fingerprint"]:
        raise CheckpointError(
            f"{folder} was made from another {wanted['name']}: fingerprint {wanted['fingerprint'][:16]}, "
            f"here {base.fingerprint[:16]}",
            rule="new rows and adapters are good for the base they were trained on, and no other",
            fix="put the original base model back in its place",
        )
    return base


def _save_adapter(folder: Path, model: Any, base: Base) -> None:
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    lora = {
        k: v.contiguous().cpu()
        for k, v in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    lora = {name: tensor for name, tensor in lora.items() if "lora_" in name}
    save_file(lora, folder / "adapter_model.safetensors", metadata={"format": "pt"})
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


def _load_adapter(folder: Path, model: Any) -> None:
    """Copy the saved LoRA tensors into place, each one exactly once.

    PEFT's own ``set_peft_model_state_dict`` asks for the opened embedding matrices too, which are not in there.
    """
    import torch
    from safetensors.torch import load_file

    tensors = load_file(folder / "adapter_model.safetensors")
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


def _probe_ids(tokenizer: Any, new_ids: range) -> list[int]:
    """Sixteen ids: a BOS, new tokens from everywhere, old ones between them."""
    picks = [new_ids[i * (len(new_ids) - 1) // 7] for i in range(8)]
    old = [i * (new_ids.start - 1) // 7 for i in range(8)]
    mixed = [i for pair in zip(old, picks) for i in pair]
    return [text.bos_id(tokenizer), *mixed[:15]]


def _logits(model: Any, ids: list[int]) -> Any:
    """(len(ids), rows) float32 on the CPU, in inference mode of the model, whatever mode it is in."""
    import torch

    training = model.training
    model.eval()
    # a trainer leaves its autocast wrapped around forward: 0.28 off on SmolLM2 against the float32 reload
    forward = vars(model).get("_original_forward", model)
    with torch.inference_mode():
        device = model.get_input_embeddings().weight.device
        logits = (
            forward(input_ids=torch.tensor([ids], device=device), use_cache=False).logits[0].float().cpu()
        )
    model.train(training)
    return logits


def _probe(model: Any, ids: list[int]) -> dict[str, Any]:
    logits = _logits(model, ids)
    places = [i * (logits.shape[1] - 1) // 63 for i in range(64)]
    return {
        "ids": ids,
        "sha256": hashlib.sha256(logits.numpy().tobytes()).hexdigest(),
        "places": places,
        "logits": [[float(row[p]) for p in places] for row in logits[[0, len(ids) // 2, -1]]],
    }


def _check_probe(folder: Path, model: Any, manifest: dict[str, Any], quantized: bool) -> None:
    saved = manifest["probe"]
    now = _probe(model, saved["ids"])
    if now["sha256"] == saved["sha256"]:
        return
    pairs = zip(saved["logits"], now["logits"])
    difference = max(abs(a - b) for before, after in pairs for a, b in zip(before, after))
    loaded = str(model.get_input_embeddings().weight.dtype).removeprefix("torch.")
    tolerance = max(TOLERANCE.get(d, 0.5) for d in (loaded, manifest["dtype"]))
    if quantized != manifest["load_in_4bit"]:
        console.say(
            f"{folder.name}: loaded in another precision than it was trained in; probe differs by {difference:.3g}"
        )
        return
    if not difference <= tolerance:
        raise CheckpointError(
            f"{folder}: the reloaded model's logits differ by {difference:.3g} from those that were saved",
            rule=f"at most {tolerance:g} in {loaded}",
            fix="compare the package versions in stage.json with those installed",
        )


def inspect(folder: Path) -> dict[str, Any]:
    """What a checkpoint is, without loading a weight: the manifest less the probe, and what is damaged."""
    manifest = files.read_json(folder / MANIFEST)
    faults: list[str] = []
    _collect(lambda: read(folder), faults)
    return {**{k: v for k, v in manifest.items() if k != "probe"}, "faults": faults}


def _collect(check: Callable[[], Any], faults: list[str]) -> None:
    try:
        check()
    except CheckpointError as error:
        faults.append(str(error))
