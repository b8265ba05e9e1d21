"""The ``extend`` stage: a base model gets rows for its new tokens, and becomes checkpoint 0."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastvocab import console, files
from fastvocab.errors import ModelError
from fastvocab.model import backend, checkpoint, initialise, load, manifest, reference, text
from fastvocab.model.initialise import named, unsloth_own
from fastvocab.model.initialise.task import TEXT_BYTES, Task
from fastvocab.model.new_tokens import NewTokens
from fastvocab.model.reference import Base
from fastvocab.sampling import sample


def resize(model: Any, rows: int) -> None:
    """Make both matrices ``rows`` long; what is new in them is noise, to be set by the caller."""
    if model.get_input_embeddings().weight.shape[0] < rows:
        with console.quiet():
            model.resize_token_embeddings(rows, mean_resizing=False)


def grow(
    model: Any,
    tokenizer: Any,
    ids: range,
    names: list[str],
    *,
    rows: int | None = None,
    way: unsloth_own.Way = "mean",
) -> None:
    """Give the model rows up to ``ids.stop`` through unsloth's ``add_new_tokens``.

    Args:
        model: the base model, no adapter on it yet; changed in place.
        tokenizer: its own tokenizer; it is used up (``add_new_tokens`` puts AddedTokens into it, and the merged
            tokenizer takes its place).
        ids: ids of the new tokens; a padded base already has rows for some or all of them.
        names: their spellings in the merged vocabulary, or what `unsloth_own.names` calls them.
        rows: of the matrix in the end, where it is to have more than tokens.
        way: how ``add_new_tokens`` starts the rows.
    """
    import torch
    from unsloth_zoo.tokenizer_utils import add_new_tokens

    old_rows = model.get_input_embeddings().weight.shape[0]
    needed = max(old_rows, ids.stop, rows or 0)
    # add_new_tokens counts from len(tokenizer); past a gap in the base's own ids the rows from there on are live
    first = len(tokenizer)
    live = {part: w[first : ids.start].detach().clone() for part, w in load.embedding_weights(model).items()}
    with console.quiet():
        if ids:
            add_new_tokens(model, tokenizer, new_tokens=list(names), method=way)
        resize(model, needed)
    found = model.get_input_embeddings().weight.shape[0]
    if found < needed or model.get_output_embeddings().weight.shape[0] != found:
        raise ModelError(
            f"the model has {found} rows after add_new_tokens and needs {needed}",
            rule="input and output embeddings must have a row for each token",
        )
    if ids and first < ids.start:
        with torch.no_grad():
            for part, weight in load.embedding_weights(model).items():
                weight[ids.start : ids.stop] = weight[first : first + len(ids)].clone()
                weight[first : first + len(live[part])] = live[part]


def extend(
    folder: Path,
    base: Base,
    tokenizer_folder: Path,
    *,
    init: str,
    seed: int,
    load_in_4bit: bool = False,
    block: int = 2048,
    target_text: Path | Iterable[str] | None = None,
    original_text: Path | Iterable[str] | None = None,
    descriptions: Path | str | None = None,
    calibration_bytes: int = 40_000,
    pad_to_multiple_of: int | None = None,
    rows: Callable[[Any, Task], Any] | None = None,
) -> dict[str, Any]:
    """Extend ``base`` by the new tokens of ``tokenizer_folder`` and save checkpoint 0 into ``folder``.

    A base that is a checkpoint keeps its rows, its adapter and its lineage; the new one stands on the same plain model.

    Args:
        init: as ``extend.init`` has it: a method of `initialise`, ``clone:TOKEN``, or ``auto``.
        target_text, original_text: jsonl or documents that ``counted``, ``calibrated``, ``distilled`` and ``auto``
            read; without original text only the target counts.
        descriptions: JSON that ``description`` and ``auto`` read.
        pad_to_multiple_of: rows without a token are added until the matrix is so long (`initialise.silence`).
        rows: gives the new tokens' rows, for ``item_text`` and ``item_centroid``.

    Returns:
        Figures: rows before and after, the method that was taken with its notes, norms, device; after ``auto`` the
        table of its probe; where the base is a checkpoint, ``before``: the plain model under it, ``root``, and the
        ``tokens`` that it had been trained on.

    Raises:
        ModelError: a tokenizer of another base, or an ``init`` that cannot be done with what is given.
    """
    import torch

    new, extended = NewTokens.read(tokenizer_folder), text.tokenizer(tokenizer_folder)
    # not the tokenizer that comes with the model: unsloth may have given that one a padding token
    own = text.tokenizer(base.tokenizer_folder)
    new.check(own.get_vocab(), extended.get_vocab())
    method, _, token = init.partition(":")
    task = Task(
        new,
        own,
        extended,
        seed=seed,
        target=_pieces(target_text, seed),
        original=_pieces(original_text, seed),
        calibration_bytes=calibration_bytes,
        reference=token,
        descriptions=named.read_descriptions(descriptions) if descriptions else {},
        rows=rows,
    )
    initialise.check(method, task)
    model, _ = checkpoint.on_base(base, load_in_4bit=load_in_4bit, block=block, seed=seed)
    earlier: dict[str, Any] = {}
    parent: dict[str, Any] = {}
    if base.checkpoint:
        earlier = manifest.read(base.checkpoint)
        parent = {"stage": earlier["stage"], "checkpoint": checkpoint.digest(base.checkpoint)}
    old_rows = model.get_input_embeddings().weight.shape[0]
    torch.manual_seed(seed)
    if not new.ids:  # all of them were there already
        new = replace(new, ids=range(old_rows, old_rows))
        task = replace(task, new=new)
    multiple = pad_to_multiple_of or 1
    needed = max(old_rows, new.ids.stop)
    causal = model.get_base_model() if earlier.get("lora") else model
    way = unsloth_own.WAYS.get(method, "mean")
    names = new.spellings if way == "mean" else unsloth_own.names(new, own.get_vocab())
    used_up = copy.deepcopy(own)
    added = range(0) if new.reuses else new.ids
    grow(causal, used_up, added, names, rows=-(-needed // multiple) * multiple, way=way)
    figures: dict[str, Any] = {
        "device": backend.device(),
        "tied": load.is_tied(model),
        "base_tokens": len(own),
        "tokens": len(extended),
        "base_rows": old_rows,
        "rows": model.get_input_embeddings().weight.shape[0],
        "width": model.get_input_embeddings().weight.shape[1],
        "parameters": sum(p.numel() for p in model.parameters()),
        **initialise.start(method, model, task),
    }
    if figures["rows"] > needed:
        figures["padding"] = initialise.silence(
            model, range(needed, figures["rows"]), len(extended), seed=seed
        )
    if new.ids:
        figures["norms"] = initialise.spread(model.get_output_embeddings().weight, new.ids)
    root = reference.recorded(earlier["base"]) if earlier else base
    checkpoint.save(
        folder,
        model,
        extended,
        base=root,
        stage="extend",
        new_ids=new.ids,
        init=figures["init"],
        load_in_4bit=backend.is_quantized(causal),
        lora=earlier.get("lora"),
        lineage=[*earlier["lineage"], parent] if earlier else [],
        extensions=[*earlier.get("extensions", []), checkpoint.extension(new.ids, figures["init"])],
    )
    if earlier:
        trained = sum(entry.get("tokens_after", 0) for entry in earlier["lineage"])
        figures["before"] = {"root": root.public(), "tokens": trained}
    figures["bytes"] = sum(f["bytes"] for f in files.describe(folder))
    return figures


def _pieces(source: Path | Iterable[str] | None, seed: int) -> list[str]:
    """`TEXT_BYTES` of documents, or of a jsonl file of them, drawn evenly, in pieces of at most 2 kB."""
    if source is None:
        return []
    documents = text.documents(source) if isinstance(source, Path) else source
    return text.byte_pieces(sample(documents, TEXT_BYTES, seed)[0], size=text.PIECE_BYTES, limit=TEXT_BYTES)
