"""What in a folder does not fit its base, or could not be used: found before any model is loaded."""

from __future__ import annotations

from typing import Any

from fastvocab.errors import CheckpointError
from fastvocab.model.adopt import find
from fastvocab.model.adopt.lora import Lora
from fastvocab.model.adopt.tensors import Entry, Findings, Matrix

#: Tensors without weight: what a module knows by itself.
_BOOKKEEPING = ("rotary_emb.inv_freq", "token_indices", "trainable_tokens_original")


def strangers(entries: list[Entry], base: list[Entry], said: Findings) -> None:
    """Tensors of an adapter that are neither LoRA nor embedding rows: the base's own are ignored, others a fault."""
    own = {e.module: e for e in base if e.role == "weight"}
    for entry in entries:
        if entry.name.endswith(_BOOKKEEPING):
            continue
        if entry.role == "other":
            said.faults.append(f"{entry.name} cannot be represented")
        elif find.last(entry.module) in find.PARTS or entry.role in ("lora_A", "lora_B"):
            continue
        elif entry.module in own and _equal(entry, own[entry.module]) == "equal":
            said.ignore(entry, "the base's own, unchanged")
        else:
            said.faults.append(f"{entry.name} is not the base's: only LoRA and embedding rows have a place")


def configs(here: dict[str, Any], there: dict[str, Any], said: Findings) -> None:
    """A plain model's config must be its base's, which is the one that a checkpoint uses.

    Args:
        here: of the folder; both as `find.settings` gives them.
        there: of the base.
    """
    for key in sorted(here.keys() | there.keys()):
        if here.get(key) != there.get(key):
            said.faults.append(f"config.json: {key}={here.get(key)!r}, in the base {there.get(key)!r}")


def body(entries: list[Entry], base: list[Entry], said: Findings) -> None:
    """All but the embedding matrices of a plain model must be the base's: rows are all that a checkpoint adds."""
    here = _body(entries)
    there = _body(base)
    if odd := sorted(here.keys() ^ there.keys()):
        said.faults.append(f"{len(odd)} tensors are in the one and not in the other, such as {odd[0]}")
        return
    found = {name: _equal(here[name], there[name]) for name in here}
    changed = sorted(name for name, how in found.items() if how == "other")
    if changed:
        said.faults.append(
            f"{len(changed)} of {len(found)} tensors besides the embedding rows differ from the base, such as "
            f"{changed[0]}: LoRA that was merged in cannot be taken out again"
        )
    elif rounded := sum(how == "rounded" for how in found.values()):
        said.notes.append(f"{rounded} tensors are the base's, rounded to another dtype: the base's are used")


def _body(entries: list[Entry]) -> dict[str, Entry]:
    return {
        e.name: e
        for e in entries
        if find.last(e.module) not in find.PARTS and not e.name.endswith(_BOOKKEEPING)
    }


def _equal(one: Entry, other: Entry) -> str:
    import torch

    if one.shape != other.shape:
        return "other"
    a, b = one.read(), other.read()
    if torch.equal(a.to(torch.float32), b.to(torch.float32)):
        return "equal"
    return "rounded" if torch.equal(a, b.to(a.dtype)) else "other"


def finite(matrices: dict[str, Matrix], lora: Lora, said: Findings) -> None:
    """NaN and infinity, by row and by module."""
    import torch

    for name, part in {id(m): (name, m) for name, m in reversed(matrices.items())}.values():
        if odd := (~torch.isfinite(part.rows).all(dim=1)).nonzero().flatten().tolist():
            said.faults.append(f"{len(odd)} rows of {name} hold NaN or infinity: ids {find.spans(odd)}")
    bad = [m for m, pair in lora.pairs.items() if not all(torch.isfinite(t).all() for t in pair)]
    if bad:
        said.faults.append(f"LoRA of {len(bad)} modules holds NaN or infinity, such as {bad[0]}")


def lost_rows(matrices: dict[str, Matrix], rows: int, stop: int) -> dict[str, list[int]]:
    """Ids of tokens (below ``stop``) whose row is in no file, by part."""
    found: dict[str, list[int]] = {}
    for name, part in {id(m): (name, m) for name, m in reversed(matrices.items())}.values():
        if ids := [i for i in sorted(part.lost | set(range(len(part.rows), rows))) if i < stop]:
            found[name] = ids
    return found


def statement(
    folder: Any, lost: dict[str, list[int]], matrices: dict[str, Matrix], stop: int
) -> CheckpointError:
    """Which rows are in no file."""
    said = [
        f"the rows of {len(ids):,} tokens of {name} are in no file: ids {find.spans(ids)} "
        f"(the tokenizer has {stop:,} ids; {name} is {matrices[name].where}, {len(matrices[name].rows):,} rows)"
        for name, ids in lost.items()
    ]
    return CheckpointError(
        f"{folder}: " + "; ".join(said),
        rule="rows that were never saved cannot be found again",
        fix="look for a save that has them (save_embedding_layers=True, an earlier checkpoint-N, the merged model); "
        "or begin them anew with --missing subtokens",
    )
