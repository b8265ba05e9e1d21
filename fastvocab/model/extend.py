"""The ``extend`` stage: a base model gets rows for its new tokens, and becomes checkpoint 0."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastvocab import console, files
from fastvocab.errors import ModelError
from fastvocab.model import checkpoint, initialise, load, manifest, reference, text
from fastvocab.model.reference import Base

Init = Literal["calibrated", "subtokens", "mean"]

#: Text whose tokens are counted for `initialise.calibrate`: tokenizing it takes 2 s.
_COUNTED_BYTES = 4_000_000


@dataclass(frozen=True)
class NewTokens:
    """The tokens that a tokenizer gained: ids, spellings, and what the base reads in their place."""

    ids: range
    spellings: list[str]
    base_ids: list[list[int]]

    @classmethod
    def read(cls, tokenizer_folder: Path) -> NewTokens:
        """From ``new_tokens.jsonl`` of the tokenizer stage (ids in order, without a gap).

        Raises:
            ModelError: not there, or not what that stage writes.
        """
        path = tokenizer_folder / "new_tokens.jsonl"
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            ids = [row["id"] for row in rows]
            found = cls(range(ids[0], ids[-1] + 1), [r["token"] for r in rows], [r["base_ids"] for r in rows])
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise ModelError(
                f"{path} is no list of new tokens: {type(error).__name__}: {error}",
                rule="one JSON object a line with id, token, base_ids",
                fix="make it with fastvocab tokenizer merge",
            ) from error
        if ids != list(found.ids):
            raise ModelError(f"{path}: the ids of the new tokens do not follow one another")
        return found

    def check(self, before: dict[str, int], after: dict[str, int]) -> None:
        """Refuse a tokenizer that was made for another base: its rows would be laid over live ones.

        Args:
            before, after: vocabularies (token to id) of the base and of the extended tokenizer.

        Raises:
            ModelError: an old id is among the new ones, has another token, or is gone.
        """
        old, kept = set(before.values()), set(after.values()) - set(self.ids)
        taken, moved = old & set(self.ids), [t for t, i in before.items() if after.get(t, i) != i]
        if taken or moved or old != kept:
            example = f"id {min(taken or old ^ kept)}" if taken or not moved else repr(moved[0])
            raise ModelError(
                f"the tokenizer was made for another base: {len(taken)} of its new ids are the base's own, "
                f"{len(moved)} tokens have other ids, {len(old ^ kept)} ids are in one of the two alone, "
                f"such as {example}",
                rule="an extended tokenizer keeps every id of its base, and its new ids are beyond them",
                fix="merge again with this base: fastvocab tokenizer merge --base BASE ...",
            )


def resize(model: Any, rows: int) -> None:
    """Make both matrices ``rows`` long; what is new in them is noise, to be set by the caller."""
    if model.get_input_embeddings().weight.shape[0] < rows:
        with console.quiet():
            model.resize_token_embeddings(rows, mean_resizing=False)


def grow(model: Any, tokenizer: Any, ids: range, spellings: list[str], *, rows: int | None = None) -> None:
    """Give the model rows up to ``ids.stop`` through unsloth's ``add_new_tokens``.

    Args:
        model: the base model, no adapter on it yet; changed in place.
        tokenizer: its own tokenizer; it is used up (``add_new_tokens`` puts AddedTokens into it, and the merged
            tokenizer takes its place).
        ids: ids of the new tokens; a padded base already has rows for some or all of them.
        spellings: their spellings in the merged vocabulary.
        rows: of the matrix in the end, where it is to have more than tokens.
    """
    from unsloth_zoo.tokenizer_utils import add_new_tokens

    old_rows = model.get_input_embeddings().weight.shape[0]
    needed = max(old_rows, ids.stop, rows or 0)
    with console.quiet():
        if ids:
            add_new_tokens(model, tokenizer, new_tokens=list(spellings))
        # add_new_tokens counts from len(tokenizer); ids beyond a gap in the base's own ids need more rows
        resize(model, needed)
    found = model.get_input_embeddings().weight.shape[0]
    if found < needed or model.get_output_embeddings().weight.shape[0] != found:
        raise ModelError(
            f"the model has {found} rows after add_new_tokens and needs {needed}",
            rule="input and output embeddings must have a row for each token",
        )


def extend(
    folder: Path,
    base: Base,
    tokenizer_folder: Path,
    *,
    init: Init,
    seed: int,
    load_in_4bit: bool = False,
    block: int = 2048,
    target_text: Path | None = None,
    original_text: Path | None = None,
    calibration_bytes: int = 40_000,
    pad_to_multiple_of: int | None = None,
) -> dict[str, Any]:
    """Extend ``base`` by the new tokens of ``tokenizer_folder`` and save checkpoint 0 into ``folder``.

    A base that is a checkpoint keeps its rows, its adapter and its lineage; the new one stands on the same plain model.

    Args:
        init: see `initialise`.
        target_text, original_text: jsonl that ``calibrated`` reads; without original text only the target counts.
        pad_to_multiple_of: rows without a token are added until the matrix is so long (`initialise.silence`).

    Returns:
        Figures: rows before and after, trained norms, calibration shares, device.
    """
    import torch

    new, extended = NewTokens.read(tokenizer_folder), text.tokenizer(tokenizer_folder)
    # not the tokenizer that comes with the model: unsloth may have given that one a padding token
    new.check(text.tokenizer(base.tokenizer_folder).get_vocab(), extended.get_vocab())
    model, tokenizer = checkpoint.on_base(base, load_in_4bit=load_in_4bit, block=block, seed=seed)
    earlier: dict[str, Any] = {}
    parent: dict[str, Any] = {}
    if base.checkpoint:
        earlier = manifest.read(base.checkpoint)
        parent = {"stage": earlier["stage"], "checkpoint": checkpoint.digest(base.checkpoint)}
    old_rows = model.get_input_embeddings().weight.shape[0]
    used = len(tokenizer)
    torch.manual_seed(seed)
    multiple = pad_to_multiple_of or 1
    needed = max(old_rows, new.ids.stop)
    causal = model.get_base_model() if earlier.get("lora") else model
    grow(causal, tokenizer, new.ids, new.spellings, rows=-(-needed // multiple) * multiple)
    figures: dict[str, Any] = {
        "device": load.device(),
        "init": init,
        "tied": load.is_tied(model),
        "base_tokens": used,
        "tokens": len(extended),
        "base_rows": old_rows,
        "rows": model.get_input_embeddings().weight.shape[0],
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    if init != "mean":  # add_new_tokens has left the mean
        for weight in load.embedding_weights(model).values():
            initialise.subtoken_mean(weight, new.ids.start, new.base_ids)
    if init == "calibrated":
        assert target_text is not None, "calibrated reads text of the new language"
        pieces = [
            list(text.pieces(extended, text.documents(path), limit=calibration_bytes)) if path else []
            for path in (target_text, original_text)
        ]
        everything = text.pieces(extended, text.documents(target_text), limit=_COUNTED_BYTES)
        counts = initialise.count(everything, figures["rows"])
        figures["calibration"] = initialise.calibrate(model, pieces[0], pieces[1], new.ids, counts)
    if figures["rows"] > needed:
        figures["padding"] = initialise.silence(
            model, range(needed, figures["rows"]), len(extended), seed=seed
        )
    figures["norms"] = initialise.spread(model.get_output_embeddings().weight, new.ids)
    root = reference.recorded(earlier["base"]) if earlier else base
    checkpoint.save(
        folder,
        model,
        extended,
        base=root,
        stage="extend",
        new_ids=new.ids,
        init=init,
        load_in_4bit=load.is_quantized(causal),
        lora=earlier.get("lora"),
        lineage=[*earlier["lineage"], parent] if earlier else [],
        extensions=[*earlier.get("extensions", []), checkpoint.extension(new.ids, init)],
    )
    figures["bytes"] = sum(f["bytes"] for f in files.describe(folder))
    return figures
