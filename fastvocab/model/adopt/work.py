"""From a foreign folder to a checkpoint, step by step: read, check, complete, build, compare, save, load again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastvocab import files
from fastvocab.errors import CheckpointError
from fastvocab.model import backend, checkpoint, probe
from fastvocab.model.adopt import build, checks, find, lora, tensors
from fastvocab.model.adopt.build import Missing, Vocabulary
from fastvocab.model.adopt.find import Source
from fastvocab.model.adopt.tensors import Findings, Matrix
from fastvocab.model.reference import Base
from fastvocab.model.rows import base_matrix


def write(source: Source, base: Base, new: Path, missing: Missing) -> dict[str, Any]:
    """Write the checkpoint into ``new`` and return the report (`fastvocab.model.adopt.adopt`).

    Raises:
        CheckpointError: all that does not fit, or is in no file.
    """
    said = Findings()
    base_entries = tensors.index(sorted(base.folder.glob("*.safetensors")))
    itself = source.kind == "model" and base.folder == source.folder.resolve()
    base_tied = is_tied(base.folder)
    own = _base_matrices(base, base_tied)
    matrices, part = _read(source, base, base_entries, own, base_tied, said)
    largest = max(len(m.rows) for m in matrices.values())
    words = build.vocabulary(source, base, largest, said)
    if itself and largest >= words.stop:
        raise CheckpointError(
            f"{source.folder} is a plain model already, {largest:,} rows for {words.stop:,} ids: nothing to adopt",
            fix=f"use it as it is: model.base={source.folder}; or name the model that it grew from with --base",
        )
    found = {name: f"{m.where} ({len(m.rows):,} rows)" for name, m in matrices.items()}
    _keep_base_rows(matrices, own, said)
    rows = max(words.stop, *(len(m.rows) for m in matrices.values()))
    lost = checks.lost_rows(matrices, rows, words.stop)
    if lost and missing == "error":
        raise checks.statement(source.folder, lost, matrices, words.stop)
    begun = build.complete(matrices, rows, words, missing)
    begun_tokens = sorted({i for ids in lost.values() for i in ids})
    if padding := [i for i in begun if i >= words.stop]:
        said.notes.append(f"{len(padding)} rows of padding are in no file; they are the mean of the others")
    anew = {"how": missing, "tokens": len(begun_tokens), "ids": find.spans(begun_tokens)} if lost else None
    report: dict[str, Any] = {
        "kind": source.kind, "tool": source.tool, "from": str(source.folder), "base": base.name,
        "tokens": len(words.tokenizer), "new_tokens": len(words.new_ids), "rows": rows,
        "base_rows": len(own["embed_tokens"]), "found": found,
        "tied": base_tied and matrices["embed_tokens"] is matrices["lm_head"], "lora": part.settings,
        "ignored": said.ignored, "unopened": source.unopened,
        "initialised": anew,
        "notes": said.notes, "difference": None, "compared_with": None,
    }  # fmt: skip
    if base_tied and not report["tied"]:
        said.notes.append("the base is tied, and here the head has rows of its own: they are kept apart")
    model = _compare(source, base, words, matrices, part, largest, report)
    _judge(source, report, said)
    checkpoint.save(
        new, model, words.tokenizer, base=base, stage="adopt", new_ids=words.new_ids,
        init=missing if lost else "adopted", load_in_4bit=False, lora=part.settings,
        embeddings=_embeddings(source, matrices, words), lineage=[_kept(source, report)],
    )  # fmt: skip
    del model
    checkpoint.load(new)  # its probe: what was written gives the same logits again
    return report


def _embeddings(source: Source, matrices: dict[str, Matrix], words: Vocabulary) -> str:
    """What trained, as a checkpoint calls it: ``new_rows`` are those of the extension and no others."""
    trained = {m.trained for m in matrices.values()}
    if "full" in trained or "new_rows" not in trained:
        return "full" if "full" in trained else "frozen"
    ids = {i for part in find.PARTS for i in find.token_indices(source.config, part) or []}
    return "new_rows" if words.new_ids and ids <= set(words.new_ids) else "full"


def _kept(source: Source, report: dict[str, Any]) -> dict[str, Any]:
    """What the lineage keeps of the report: no path of this machine, and no list that grows with the folder."""
    same = ("kind", "tool", "found", "initialised", "notes", "difference", "compared_with")
    return {
        "stage": "adopted",
        "from": source.folder.resolve().name,
        "ignored": len(report["ignored"]),
        **{key: report[key] for key in same},
    }


def _judge(source: Source, report: dict[str, Any], said: Findings) -> None:
    """Refuse logits that are not those of the folder as its library loads it.

    Raises:
        CheckpointError: beyond `probe.TOLERANCE`, unless the library takes another copy of a matrix, which a note says.
    """
    apart, dtype = report["difference"], backend.dtype_name()
    if apart is None or said.two_copies or apart <= probe.TOLERANCE[dtype]:
        return
    raise CheckpointError(
        f"{source.folder}: what was made of it differs in logits by {apart:.3g} from the folder as "
        f"{report['compared_with']} loads it",
        rule=f"at most {probe.TOLERANCE[dtype]:g} in {dtype}",
        fix="check that the base is the one it was trained on; a folder that is whole and still refused is a bug",
    )


def is_tied(folder: Path) -> bool:
    """Does config.json of a model tie the head to the input embedding?"""
    config = files.read_json(folder / "config.json")
    said = (config.get("text_config") or config).get("tie_word_embeddings", config.get("tie_word_embeddings"))
    if said is None:  # left out where it is the class's default
        said = find.auto_config(folder).get_text_config().tie_word_embeddings
    return bool(said)


def _base_matrices(base: Base, tied: bool) -> dict[str, Any]:
    own = {"embed_tokens": base_matrix(base.folder, "embed_tokens")}
    if not tied and (head := base_matrix(base.folder, "lm_head")) is not None:
        own["lm_head"] = head
    return own


def _read(
    source: Source,
    base: Base,
    base_entries: list[tensors.Entry],
    own: dict[str, Any],
    base_tied: bool,
    said: Findings,
) -> tuple[dict[str, Matrix], lora.Lora]:
    """Live matrices and LoRA; every fault of names, shapes and values in one error."""
    entries = tensors.index(source.weights)
    part = lora.Lora(None)
    scalings = dict.fromkeys(find.PARTS, 1.0)
    if source.kind == "adapter":
        tied = base_tied
        said.faults += lora.pattern_faults(source.config)
        if not said.faults:
            linear: dict[str, tuple[int, ...]] = {
                e.module: e.shape
                for e in base_entries
                if e.role == "weight" and len(e.shape) == 2 and find.last(e.module) not in find.PARTS
            }
            part = lora.collect(source.config, entries, linear, said)
            scalings = {name: _scaling(source, entries, name) for name in find.PARTS}
        checks.strangers(entries, base_entries, said)
    else:
        tied = is_tied(source.folder)
        if base.folder != source.folder.resolve():
            checks.configs(find.settings(source.folder), find.settings(base.folder), said)
            checks.body(entries, base_entries, said)
    matrices = tensors.matrices(source, entries, own, scalings, tied, said)
    if not said.faults:
        checks.finite(matrices, part, said)
    find.raise_all(
        str(source.folder),
        said.faults,
        fix="check that the folder is whole and the base the one it was trained on",
    )
    return matrices, part


def _scaling(source: Source, entries: list[tensors.Entry], part: str) -> float:
    """Of LoRA on an embedding matrix."""
    pairs = [
        e for e in entries if e.role == "lora_A" and find.last(e.module) == part and e.shape and e.shape[0]
    ]
    return lora.scaling(source.config, pairs[0].module, pairs[0].shape[0]) if pairs else 1.0


def _keep_base_rows(matrices: dict[str, Matrix], own: dict[str, Any], said: Findings) -> None:
    """A padded matrix that was cut down to its tokens gets the base's rows back: a checkpoint never has fewer."""
    import torch

    count = len(own["embed_tokens"])
    short = {id(m): (name, m) for name, m in reversed(matrices.items()) if len(m.rows) < count}
    for name, part in short.values():
        rest = own.get(name, own["embed_tokens"])[len(part.rows) :]
        said.notes.append(
            f"{name} was cut to {len(part.rows):,} rows; the base's own rows from there to {count - 1:,} stay"
        )
        part.rows = torch.cat([part.rows, rest.to(part.rows.dtype)])


def _compare(
    source: Source,
    base: Base,
    words: Vocabulary,
    matrices: dict[str, Matrix],
    part: lora.Lora,
    saved_rows: int,
    report: dict[str, Any],
) -> Any:
    """The live model; the report gets its difference from the folder as its own library loads it.

    One after the other, so that two models never need memory at once.
    """
    ids = build.probe_ids(words, saved_rows)
    theirs, by = None, "nothing: rows were begun anew"
    if not report["initialised"]:
        theirs, by = build.as_its_library(source, base, saved_rows, ids, part)
    model = build.live(base, words, matrices, part)
    report["compared_with"] = by
    if theirs is not None:
        ours = probe.logits(model, ids)
        columns = min(theirs.shape[1], ours.shape[1])
        report["difference"] = float((theirs[:, :columns] - ours[:, :columns]).abs().max())
    return model
