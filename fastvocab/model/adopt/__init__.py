"""Folders that other tools left behind (PEFT, TRL, Unsloth, LLaMA-Factory, Axolotl) become checkpoints of ours.

What is adopted gives the logits of the live model that was saved. Where something is in no file, that is said, with
the ids, and nothing is written. Pickles and a trainer's state are never opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastvocab.errors import CheckpointError, FastvocabError
from fastvocab.model.adopt import find
from fastvocab.model.adopt.build import Missing
from fastvocab.model.adopt.find import Source
from fastvocab.model.reference import Base

__all__ = ["adopt", "lines"]


def adopt(
    path: Path | str, out: Path | str, *, base: str | None = None, missing: Missing = "error"
) -> dict[str, Any]:
    """Make a checkpoint in ``out`` from the folder ``path`` of another tool.

    Args:
        path: a PEFT adapter (LoRA, trained embedding matrices, trained token rows), or a merged model; a trainer's
            ``checkpoint-N`` is either. Nothing in it is changed.
        out: a folder that is not there yet.
        base: the base model, instead of the one that adapter_config.json names; needed for a merged model.
        missing: what to do where rows of tokens are in no file: ``error``, or begin them anew, by ``subtokens``
            (mean of what the base read in their place) or by ``mean`` (of all rows).

    Returns:
        ``kind``, ``tool``, ``base``, ``tokens``, ``rows``, ``base_rows``, ``new_tokens``, ``found`` (tensors that the
        matrices come from), ``tied``, ``lora``, ``ignored`` (tensors left aside, and why), ``unopened``,
        ``initialised`` (ids of rows begun anew, and how), ``notes``, and ``difference``: the largest logit difference
        from the folder as PEFT or transformers load it (``compared_with``), None where they cannot. The lineage of the
        checkpoint keeps the part of it that names no path.

    Raises:
        CheckpointError: what cannot be known or represented, all of it at once; or logits that are not those of the
            folder as its library loads it.
        ModelError: the base is not to be found, or its config.json is none.
    """
    from fastvocab import files
    from fastvocab.model.adopt import work

    folder, out = Path(path), Path(out)
    if missing not in ("error", "subtokens", "mean"):
        raise CheckpointError(f"missing={missing!r}", rule="error, subtokens or mean")
    if out.is_symlink() or out.resolve().exists():
        raise CheckpointError(f"{out} is there already", fix="choose another folder, or remove it")
    _outside(out, folder)
    try:
        source = find.examine(folder)
    except OSError as error:
        raise find.unreadable(folder, error) from error
    found = _base(source, base)
    _outside(out, found.folder)
    with files.atomic_folder(out) as new:
        return work.write(source, found, new, missing)


def _outside(out: Path, folder: Path) -> None:
    if out.resolve().is_relative_to(folder.resolve()):
        raise CheckpointError(
            f"{out} lies inside {folder}",
            rule="nothing is written into a folder that is read",
            fix="choose a folder beside it",
        )


def _base(source: Source, name: str | None) -> Base:
    from fastvocab.model import reference

    if source.kind == "adapter":
        faults = find.config_faults(source.config)
        find.raise_all(
            str(source.folder / "adapter_config.json"), faults,
            rule="a checkpoint holds LoRA (r, alpha, targets) and rows of embed_tokens and lm_head",
            fix="merge it with PEFT (merge_and_unload) where it was trained, and use the result as model.base",
        )  # fmt: skip
    named = name or (find.base_name(source) if source.kind == "adapter" else str(source.folder))
    find.check_base(named)
    try:
        found = reference.resolve(named)
    except (FastvocabError, OSError) as error:
        if name is not None or source.kind == "model":
            if isinstance(error, OSError):
                raise find.unreadable(named, error) from error
            raise
        raise CheckpointError(
            f"{source.folder}: adapter_config.json names the base {named!r}, which is not found: "
            f"{find.reads(error)}",
            fix="give it with --base",
        ) from error
    if source.kind == "model" and name is None:
        return found
    if found.checkpoint is not None:
        raise CheckpointError(f"the base {named} is a fastvocab checkpoint", rule="a plain model is needed")
    if quantized := found.config.get("quantization_config"):
        raise CheckpointError(
            f"the base {named} is quantized ({dict(quantized).get('quant_method')})",
            rule="rows and adapters are laid over 16-bit weights",
            fix="give the model that it was made from with --base",
        )
    return found


def lines(report: dict[str, Any]) -> list[str]:
    """The report of `adopt` for people."""
    settings, anew = report["lora"], report["initialised"]
    lora = f"LoRA, rank {settings['r']}, on {', '.join(settings['targets'])}" if settings else "none"
    out = [
        f"found       {report['kind']} of {report['tool']}",
        f"base        {report['base']}",
        f"vocabulary  {report['tokens']:,} tokens, {report['new_tokens']:,} of them new; "
        f"{report['rows']:,} rows, the base {report['base_rows']:,}",
        *(f"{part:11} {where}" for part, where in report["found"].items()),
        f"head        {'tied to the input embedding' if report['tied'] else 'rows of its own'}",
        f"adapter     {lora}",
    ]
    if report["ignored"]:
        out.append(f"left aside  {len(report['ignored'])} tensors: {report['ignored'][0]['tensor']}, ...")
    if report["unopened"]:
        out.append(f"not opened  {', '.join(report['unopened'])}")
    if anew:
        out.append(f"begun anew  {anew['tokens']:,} rows by {anew['how']}: ids {anew['ids']}")
    out += [f"note        {note}" for note in report["notes"]]
    if report["difference"] is None:
        return [*out, f"difference  not known: {report['compared_with']}"]
    return [
        *out,
        f"difference  {report['difference']:.3g} at most, in logits, from {report['compared_with']}",
    ]
