"""Checkpoints that re-extend themselves: a path is all that `load` needs.

The format is documented field by field in `fastvocab.model.manifest`. The base is never copied; each changed row is
written once, tied matrices once; the adapter is plain PEFT.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from fastvocab import console, files
from fastvocab.errors import CheckpointError, ConfigError
from fastvocab.model import adapter, backend, layers, manifest, probe, reference, rows, text
from fastvocab.model import load as loader
from fastvocab.model.manifest import digest, read
from fastvocab.model.reference import Base
from fastvocab.model.tying import untie

if TYPE_CHECKING:
    from fastvocab.model.adopt.build import Missing

__all__ = ["adopt", "describe", "digest", "inspect", "load", "merge", "on_base", "read", "rebuild", "save"]


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
    extensions: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Write a checkpoint into ``folder`` (existing; being atomic is the caller's part) and return its manifest.

    Args:
        base: the plain model that it stands on.
        new_ids: what the last extension added; empty where nothing was.
        extensions: all extensions, oldest first (`extension`); None: this one alone.

    Raises:
        CheckpointError: a row or an adapter weight is not finite; nothing is written that could not be loaded.
    """
    extensions = [extension(new_ids, init)] if extensions is None else extensions
    added = range(min(e["first"] for e in extensions), new_ids.stop)
    weights = loader.embedding_weights(model)
    counts = rows.save(
        folder / manifest.ROWS, weights, base.folder, loader.trained_rows(model), new_ids, added
    )
    if layers.are_own(model):
        layers.save(folder / manifest.LAYERS, model)
    if lora is not None:
        adapter.save(folder, model, base)
    text.save_tokenizer(tokenizer, folder)
    count = len(weights["embed_tokens"])
    fields = {
        "stage": stage,
        "base": base.record(),
        "vocabulary": {
            "base_rows": (base.config.get("text_config") or base.config)["vocab_size"],
            "new_first": new_ids.start,
            "new_stop": new_ids.stop,
            "tokens": len(tokenizer),
            "rows": count,
            "unused": text.ranges(text.unused_ids(tokenizer, count)),
        },
        "extensions": extensions,
        "tied": "lm_head" not in weights,
        "init": init,
        "rows": counts,
        "layers": layers.are_own(model),
        "lora": lora,
        "embeddings": embeddings,
        "dtype": loader.precision(model),
        "load_in_4bit": load_in_4bit,
        "lineage": lineage or [],
        "probe": probe.take(model, probe.ids(tokenizer, new_ids, count)),
    }
    return manifest.write(folder, fields)


def extension(new_ids: range, init: str) -> dict[str, Any]:
    """What a manifest keeps of one extension."""
    return {"first": new_ids.start, "stop": new_ids.stop, "init": init}


def load(
    path: Path | str,
    *,
    base: str | None = None,
    trainable: bool = False,
    lora: dict[str, Any] | None = None,
    embeddings: loader.Embeddings | None = None,
    full_layers: bool = False,
    load_in_4bit: bool | None = None,
    block: int = 2048,
    seed: int = 3407,
    gradient_checkpointing: bool = False,
) -> tuple[Any, Any]:
    """Rebuild a checkpoint's model: base, new rows, saved rows, tokenizer, LoRA; then check the probe.

    Args:
        path: the checkpoint folder. Nothing else is needed.
        base: where the base model lies, if it is not found where the checkpoint says; the fingerprint must be the same.
        trainable: ready for training, LoRA and (unless frozen) embedding matrices or the new rows of them open.
        lora: settings of the adapter to put on, where the checkpoint has none (r, alpha, dropout, targets); None:
            the defaults of ``pretrain.lora``.
        embeddings: what to train, instead of what the checkpoint was trained with.
        full_layers: train the layers' own weights, without an adapter.
        load_in_4bit: instead of how it was saved (a merge needs 16-bit weights).
        block, seed, gradient_checkpointing: for training.

    Returns:
        (model, tokenizer). Rows that no token has are suppressed in the model's generation settings.

    Raises:
        CheckpointError: damaged, made for another base, or the probe's logits are not those that were saved.
        ModelError: the base is not to be found.
    """
    if embeddings not in (None, *get_args(loader.Embeddings)):
        raise ConfigError(f"embeddings={embeddings!r}", rule="full, new_rows or frozen")
    folder = Path(path)
    facts = read(folder)
    model, tokenizer = rebuild(
        folder,
        facts,
        reference.recorded(facts["base"], base=base),
        trainable=trainable,
        lora=lora,
        embeddings=embeddings or facts["embeddings"],
        full_layers=full_layers,
        load_in_4bit=facts["load_in_4bit"] if load_in_4bit is None else load_in_4bit,
        block=block,
        seed=seed,
        gradient_checkpointing=gradient_checkpointing,
    )
    probe.check(folder, model, facts, quantized=backend.is_quantized(model))
    return model, tokenizer


def rebuild(
    folder: Path,
    facts: dict[str, Any],
    base: Base,
    *,
    load_in_4bit: bool,
    seed: int,
    trainable: bool = False,
    lora: dict[str, Any] | None = None,
    embeddings: loader.Embeddings = "frozen",
    full_layers: bool = False,
    block: int = 2048,
    gradient_checkpointing: bool = False,
) -> tuple[Any, Any]:
    """`load` without its checks: the model and tokenizer that the files in ``folder`` make of ``base``.

    Args:
        facts: of a manifest, its probe and files not looked at.
    """
    from fastvocab.config.models import LoraSection
    from fastvocab.model.extend import resize

    model, _ = loader.base_model(base, load_in_4bit=load_in_4bit, block=block, seed=seed)
    tokenizer = text.tokenizer(folder)
    vocabulary = facts["vocabulary"]
    # not `extend.grow`: add_new_tokens works out a mean row over the whole matrix, half of the time of a load
    # (SmolLM2-135M), and rows.safetensors has all that it would set
    resize(model, vocabulary["rows"])
    if (count := len(model.get_input_embeddings().weight)) != vocabulary["rows"]:
        raise CheckpointError(f"{folder}: the model has {count} rows, the checkpoint {vocabulary['rows']}")
    if not facts["tied"] and loader.is_tied(model):
        untie(model)
    rows.lay(folder / manifest.ROWS, loader.embedding_weights(model))
    if facts.get("layers"):
        layers.lay(folder / manifest.LAYERS, model)
    saved = facts["lora"]
    if trainable and full_layers:
        if saved:
            raise ConfigError(
                f"layers: full, and {folder} has an adapter",
                rule="training goes on with the adapter that is there",
                fix="leave layers out; or export the checkpoint and use that folder as the base",
            )
        model = layers.open_layers(model, embeddings=embeddings, new_ids=manifest.new_ids(facts))
    elif saved or trainable:
        model = loader.add_lora(
            model,
            **(saved or lora or LoraSection().model_dump(mode="json")),
            embeddings=embeddings if trainable else "frozen",
            new_ids=manifest.new_ids(facts),
            block=block,
            seed=seed,
            gradient_checkpointing=gradient_checkpointing,
        )
        if saved:
            adapter.lay(folder, model)
    if trainable:
        # again: what was opened is a copy of the matrix, or float32 rows beside a 16-bit one
        live, opened = loader.embedding_weights(model), loader.trained_rows(model)
        rows.lay(folder / manifest.ROWS, live, opened, manifest.new_ids(facts))
        if full_layers and facts.get("layers"):
            layers.lay(folder / manifest.LAYERS, model)
    else:
        model.eval()
    text.suppress_unused(model, tokenizer)
    return model, tokenizer


def on_base(base: Base, *, load_in_4bit: bool, block: int = 2048, seed: int) -> tuple[Any, Any]:
    """(model, tokenizer) of a base as it is, which may be a checkpoint of ours."""
    if base.checkpoint is None:
        return loader.base_model(base, load_in_4bit=load_in_4bit, block=block, seed=seed)
    return load(base.checkpoint, load_in_4bit=load_in_4bit, block=block, seed=seed)


def merge(path: Path | str, out: Path | str, *, base: str | None = None) -> dict[str, Any]:
    """Write a plain 16-bit Hugging Face folder: LoRA merged in, every row in its matrix.

    Args:
        out: a folder that is not there yet, or an empty one.

    Returns:
        ``{"dtype", "rows", "parameters", "rounding"}``, the last the largest logit difference on the probe
        between the live model and the 16-bit one read back with plain transformers.

    Raises:
        CheckpointError: what is read back is not what was written; or there is something in ``out``.
    """
    out = Path(out)
    if out.is_dir() and not any(out.iterdir()):
        # the caller's own, who sees to it that it is there whole or not at all
        return _merge(path, out, base)
    if out.exists():
        raise CheckpointError(f"{out} is there already", fix="choose another folder, or remove it")
    with files.atomic_folder(out) as folder:
        return _merge(path, folder, base)


def _merge(path: Path | str, out: Path, base: str | None) -> dict[str, Any]:
    import torch

    model, tokenizer = load(path, load_in_4bit=False, base=base)
    ids = manifest.peek(Path(path))["probe"]["ids"]
    live = probe.logits(model, ids)
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
    apart = float((probe.logits(again, ids) - probe.logits(plain, ids)).abs().max())
    # on a GPU unsloth's kernels stand in one of the two
    if not apart <= (0.0 if backend.device() == "cpu" else probe.TOLERANCE["bfloat16"]):
        raise CheckpointError(
            f"{out} read back by transformers gives other logits than the model that was saved"
        )
    return {
        "dtype": str(half).removeprefix("torch."),
        "rows": len(plain.get_input_embeddings().weight),
        "parameters": sum(p.numel() for p in plain.parameters()),
        "rounding": float((live - probe.logits(again, ids)).abs().max()),
    }


def adopt(
    path: Path | str, out: Path | str, *, base: str | None = None, missing: Missing = "error"
) -> dict[str, Any]:
    """Make a checkpoint of a folder that another tool left (`fastvocab.model.adopt.adopt`)."""
    from fastvocab.model.adopt import adopt as work

    return work(path, out, base=base, missing=missing)


def inspect(folder: Path) -> dict[str, Any]:
    """What a checkpoint is, without loading a weight: the manifest, and what is wrong with it (``faults``)."""
    facts = manifest.peek(folder)
    return {**facts, "faults": manifest.faults(folder, facts)}


def describe(folder: Path, facts: dict[str, Any]) -> list[tuple[str, str]]:
    """`inspect`'s facts for people: (name, value) lines; of a manifest with odd values, the folder alone."""
    if not manifest.is_readable(facts):
        return [("checkpoint", str(folder))]
    base, vocabulary, lora = facts["base"], facts["vocabulary"], facts["lora"]
    spare = sum(stop - first for first, stop in vocabulary["unused"])
    lines = [
        ("checkpoint", f"{folder}, schema {facts['schema']}, after {facts['stage']}"),
        (
            "base",
            f"{base['name']}{'@' + base['commit'] if base['commit'] else ''}  {base['fingerprint'][:16]}",
        ),
    ]
    lines += [("comes from", f"{e['stage']}  {str(e.get('checkpoint', ''))[:16]}") for e in facts["lineage"]]
    lines += [
        ("extension", f"ids {e['first']:,} to {e['stop'] - 1:,}, rows started by {e['init']}")
        for e in facts["extensions"]
        if e["stop"] > e["first"]
    ]
    matrices = "one matrix (tied)" if facts["tied"] else "two matrices"
    lines += [
        (
            "vocabulary",
            f"{vocabulary['tokens']:,} tokens, {vocabulary['rows']:,} rows, {spare:,} of them without a token "
            f"(base: {vocabulary['base_rows']:,} rows); {matrices}",
        ),
        ("changed", ", ".join(f"{n:,} rows of {part}" for part, n in facts["rows"].items())),
        ("layers", "their own weights" if facts.get("layers") else "the base's"),
        ("adapter", f"LoRA, rank {lora['r']}, alpha {lora['alpha']}" if lora else "none"),
        ("trained", f"embeddings: {facts['embeddings']}, {facts['dtype']}"),
    ]
    return lines + [("", f"{entry['bytes']:>12,}  {entry['path']}") for entry in facts["files"]]
