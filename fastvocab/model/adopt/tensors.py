"""Names of tensors as the tools write them, and which copy of a matrix the live model used.

An embedding matrix is found under one or more of these names (PEFT 0.18 to 0.21, ``base_model.model.`` before):

====================================================  =====================================================
``embed_tokens.modules_to_save.weight``               the trained copy
``embed_tokens.weight``                               the same where modules_to_save names it; else the resized base
``embed_tokens.original_module.weight``               what it was before training
``embed_tokens.token_adapter.trainable_tokens_delta`` trained rows of the ids in trainable_token_indices: they
                                                      take the place of the rows beneath (a "delta" in name only)
``embed_tokens.token_adapter.base_layer.weight``      the rows beneath; ``embed_tokens.base_layer.weight`` with LoRA
``embed_tokens.lora_embedding_A``, ``_B``             LoRA on the input embedding; ``lm_head.lora_A``, on the output
====================================================  =====================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastvocab.errors import CheckpointError
from fastvocab.model.adopt import find

#: Wrappers in front of and between the module names.
_WRAPPERS = re.compile(r"^(base_model\.model\.|module\.)+|_fsdp_wrapped_module\.|_orig_mod\.")
_WORD = r"(\.\w+)?"  # the adapter's name, which a state dict that was saved by hand still has
_ROLES = tuple(
    (re.compile(rf"(?P<module>.+?)\.{pattern}"), role)
    for pattern, role in (
        (rf"lora_A{_WORD}\.weight", "lora_A"),
        (rf"lora_B{_WORD}\.weight", "lora_B"),
        (rf"lora_embedding_A{_WORD}", "lora_A"),
        (rf"lora_embedding_B{_WORD}", "lora_B"),
        (rf"modules_to_save{_WORD}\.weight", "trained"),
        (r"original_module\.weight", "original"),
        (rf"(token_adapter\.)?trainable_tokens_delta{_WORD}", "delta"),
        (r"(token_adapter\.)?base_layer\.weight", "beneath"),
        (r"weight", "weight"),
    )
)


@dataclass(frozen=True)
class Entry:
    """A tensor of a file: name, what it belongs to (``module``), what it is for it (``role``), and its shape."""

    name: str
    module: str
    role: str
    shape: tuple[int, ...]
    file: Path

    def read(self) -> Any:
        """The tensor, on the CPU."""
        from safetensors import safe_open

        with safe_open(self.file, "pt") as tensors:
            return tensors.get_tensor(self.name)


def index(weights: Iterable[Path]) -> list[Entry]:
    """Every tensor of the files, by its header alone.

    Raises:
        CheckpointError: a file that is truncated or no safetensors; a name twice.
    """
    from safetensors import SafetensorError, safe_open

    entries: list[Entry] = []
    faults = []
    for file in weights:
        try:
            with file.open("rb"):  # safe_open calls every refusal of the disk "No such file"
                pass
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - no mapping
                    module, role = parse(name)
                    entries.append(
                        Entry(name, module, role, tuple(tensors.get_slice(name).get_shape()), file)
                    )
        except (SafetensorError, OSError) as error:
            why = getattr(error, "strerror", None) or find.reads(error)
            faults.append(f"{file.name} cannot be read ({why})")
    seen: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        other = seen.setdefault((entry.module, entry.role), entry)
        if other is not entry and entry.role != "other":
            faults.append(f"{other.name} and {entry.name} are for the same place")
    if faults:
        where = entries[0].file.parent if entries else next(iter(weights), Path()).parent
        raise CheckpointError(
            f"{where}: " + "; ".join(faults[:8]),
            rule="whole safetensors files that may be read",
            fix="copy or download the folder again",
        )
    return entries


def parse(name: str) -> tuple[str, str]:
    """(module, role) of a tensor's name; role ``other`` where it is none that is known."""
    short = _WRAPPERS.sub("", name)
    for pattern, role in _ROLES:
        if found := pattern.fullmatch(short):
            return found["module"], role
    return short, "other"


@dataclass
class Matrix:
    """One embedding matrix as the live model used it.

    Attributes:
        rows: (n, width), float32 where something was folded in, else as in the file.
        where: the tensors that it is made of.
        beneath: the matrix without what was trained; what a tied head reads where it is not tied to the training.
        lost: ids below n whose row is in no file.
        trained: did it train, and how (``full``, ``new_rows``), or not (``frozen``).
    """

    rows: Any
    where: str
    beneath: Any
    lost: set[int] = field(default_factory=set)
    trained: str = "frozen"


@dataclass
class Findings:
    """What is said in the report: tensors left aside and why, notes, faults.

    Attributes:
        two_copies: a matrix is there twice and not the same, so that PEFT takes another than we do.
    """

    ignored: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    two_copies: bool = False

    def ignore(self, entry: Entry, why: str) -> None:
        self.ignored.append({"tensor": entry.name, "why": why})


def matrix(
    part: str, entries: list[Entry], config: dict[str, Any], base: Any, scaling: float, said: Findings
) -> Matrix:
    """The live matrix of ``part`` out of its copies.

    Args:
        part: embed_tokens or lm_head.
        entries: all tensors of the folder.
        config: adapter_config.json; {} of a plain model.
        base: (rows, width), the base's own matrix.
        scaling: of LoRA on this module.
        said: gets duplicates, notes and faults.
    """
    own = {e.role: e for e in entries if find.last(e.module) == part}
    for entry in own.values():
        if entry.role in ("lora_A", "lora_B"):
            continue
        if len(entry.shape) != 2 or entry.shape[1] != base.shape[1]:
            said.faults.append(f"{entry.name} has shape {entry.shape}, the base {tuple(base.shape)}")
    if said.faults:
        return Matrix(base, "the base", base)
    if part in find.saved_parts(config) or "trained" in own:
        return _trained(part, own, base, said)
    under = own.get("beneath") or own.get("original") or own.get("weight")
    beneath = under.read() if under else base
    where = under.name if under else "the base"
    _duplicates(own, under, beneath, said)
    if "delta" in own:
        return _laid(own["delta"], find.token_indices(config, part), beneath, where, said)
    if part in find.indexed_parts(config):
        ids = find.token_indices(config, part) or []
        said.faults.append(
            f"adapter_config.json says that {len(ids)} rows of {part} trained, and they are in no file: "
            f"ids {find.spans(ids)}"
        )
        return Matrix(base, "the base", base)
    if part in find.lora_parts(config) and not {"lora_A", "lora_B"} & own.keys():
        said.faults.append(
            f"target_modules says that {part} had LoRA, and its tensors are in no file: {_all(base)} are lost"
        )
        return Matrix(base, "the base", base)
    if "lora_A" in own or "lora_B" in own:
        if {"lora_A", "lora_B"} - own.keys():
            said.faults.append(f"{part} has one half of a LoRA pair")
            return Matrix(base, "the base", base)
        first, second = own["lora_A"].read().float(), own["lora_B"].read().float()
        # the input embedding's pair is stored the other way round: A (r, rows), B (width, r)
        change = (second @ first).T if "embedding" in own["lora_A"].name else second @ first
        if change.shape != beneath.shape:
            said.faults.append(
                f"LoRA of {part} is for {tuple(change.shape)}, the matrix {tuple(beneath.shape)}"
            )
            return Matrix(base, "the base", base)
        said.notes.append(f"LoRA on {part} is folded into its rows: exact up to float32 rounding")
        return Matrix(beneath.float() + scaling * change, f"{where} + LoRA", beneath, trained="full")
    return Matrix(beneath, where, beneath)


def _trained(part: str, own: dict[str, Entry], base: Any, said: Findings) -> Matrix:
    import torch

    taken = own.get("trained") or own.get("weight")
    if taken is None:
        said.faults.append(_unsaved(part, base))
        return Matrix(base, "the base", base)
    rows = taken.read()
    if taken.role == "trained" and (plain := own.get("weight")):
        same = torch.equal(rows, plain.read())
        said.ignore(plain, f"the same as {taken.name}" if same else f"{taken.name} is the copy that trained")
        if not same:
            said.two_copies = True
            said.notes.append(
                f"{taken.name} and {plain.name} differ: the first was taken, which is the live parameter's own "
                "name; PEFT would take the second"
            )
    before = own.get("original") or own.get("beneath")
    if before:
        said.ignore(before, "what it was before training")
    return Matrix(rows, taken.name, before.read() if before else base, trained="full")


def _unsaved(part: str, base: Any) -> str:
    return (
        f"modules_to_save says that {part} was trained, and its matrix is in no file: {_all(base)} are lost"
    )


def _all(base: Any) -> str:
    return f"all rows, ids 0 to {len(base) - 1:,} and those of new tokens,"


def _duplicates(own: dict[str, Entry], taken: Entry | None, rows: Any, said: Findings) -> None:
    import torch

    for role in ("original", "weight"):
        other = own.get(role)
        if taken and other and other is not taken:
            same = torch.equal(rows, other.read())
            said.ignore(
                other, f"the same as {taken.name}" if same else f"{taken.name} is what the model read"
            )


def _laid(delta: Entry, ids: list[int] | None, beneath: Any, where: str, said: Findings) -> Matrix:
    """Trained rows in the place of those beneath; they may reach beyond its end."""
    import torch

    if ids is None or len(ids) != delta.shape[0] or len(set(ids)) != len(ids):
        said.faults.append(
            f"{delta.name} has {delta.shape[0]} rows, adapter_config.json "
            f"{'no list of ids' if ids is None else f'{len(ids)} ids'} for them"
        )
        return Matrix(beneath, where, beneath)
    count = max(len(beneath), max(ids, default=-1) + 1)
    if count > len(beneath) + 2_000_000:
        said.faults.append(f"trainable_token_indices has id {count - 1}")
        return Matrix(beneath, where, beneath)
    tensor = delta.read()
    rows = torch.zeros(count, beneath.shape[1], dtype=torch.promote_types(beneath.dtype, tensor.dtype))
    rows[: len(beneath)] = beneath
    rows[torch.tensor(ids, dtype=torch.long)] = tensor.to(rows.dtype)
    lost = set(range(len(beneath), count)) - set(ids)
    return Matrix(rows, f"{where}, {len(ids)} rows of {delta.name} over it", beneath, lost, "new_rows")


def _head_of_its_own(config: dict[str, Any], base: Any, entries: list[Entry], said: Findings) -> None:
    """A head that trained apart from the matrix it was tied to, and of which there is no tensor."""
    if "lm_head" in find.saved_parts(config):
        said.faults.append(_unsaved("lm_head", base))
    elif "lm_head" in find.indexed_parts(config) and not any(e.role == "delta" for e in entries):
        ids = find.token_indices(config, "lm_head") or []
        said.faults.append(
            f"adapter_config.json says that {len(ids)} rows of lm_head trained, and they are in no file: "
            f"ids {find.spans(ids)}"
        )
    elif "lm_head" in find.lora_parts(config):
        said.faults.append(
            f"target_modules says that lm_head had LoRA, and its tensors are in no file: {_all(base)} are lost"
        )


def matrices(
    source: find.Source,
    entries: list[Entry],
    base: dict[str, Any],
    scaling: dict[str, float],
    tied: bool,
    said: Findings,
) -> dict[str, Matrix]:
    """Both live matrices, by part; the very same object twice where the head reads the input's rows.

    Args:
        base: the base's matrices by part; no ``lm_head`` where the base is tied.
        scaling: of LoRA on each part.
        tied: does the config of the model (of an adapter: of its base) tie the head.
    """
    import torch

    config = source.config if source.kind == "adapter" else {}
    embed = matrix("embed_tokens", entries, config, base["embed_tokens"], scaling["embed_tokens"], said)
    own_head = [e for e in entries if find.last(e.module) == "lm_head"]
    if not own_head and source.kind == "model" and not tied:
        said.faults.append(
            "config.json says that the head is apart (tie_word_embeddings=false), and lm_head.weight is in no file: "
            f"the output rows of {len(embed.rows):,} tokens are lost"
        )
        return {"embed_tokens": embed, "lm_head": embed}
    if not own_head and tied:
        if not config.get("ensure_weight_tying"):
            _head_of_its_own(config, base["embed_tokens"], entries, said)
        alone = embed.trained == "full" and not config.get("ensure_weight_tying")
        if not alone:
            return {"embed_tokens": embed, "lm_head": embed}
        said.notes.append("the head is tied to the matrix beneath: only the input embedding trained")
        return {
            "embed_tokens": embed,
            "lm_head": Matrix(embed.beneath, "beneath embed_tokens", embed.beneath),
        }
    head = matrix(
        "lm_head", entries, config, base.get("lm_head", base["embed_tokens"]), scaling["lm_head"], said
    )
    if tied and embed.rows.shape == head.rows.shape and torch.equal(embed.rows.float(), head.rows.float()):
        said.ignored += [
            {"tensor": e.name, "why": "tied: the same rows as embed_tokens"}
            for e in own_head
            if e.name not in {i["tensor"] for i in said.ignored}
        ]
        return {"embed_tokens": embed, "lm_head": embed}
    return {"embed_tokens": embed, "lm_head": head}
