"""The ``evaluate`` stage: the same text and the same prompts at every point of the line."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastvocab import console, files
from fastvocab.config.models import EvaluateSection
from fastvocab.evaluate import bits, samples
from fastvocab.model import checkpoint, load, text
from fastvocab.model.reference import Base


def evaluate(
    folder: Path,
    *,
    base: Base,
    points: dict[str, Path],
    corpus: Path,
    section: EvaluateSection,
    questions: Sequence[str] = (),
    load_in_4bit: bool = False,
    seed: int = 3407,
) -> dict[str, Any]:
    """Measure the base and each checkpoint; write ``evaluation.json`` into ``folder``.

    Args:
        points: checkpoint folders by stage, in order; ``base`` comes first by itself.
        corpus: folder of the corpus stage (heldout.jsonl, replay_heldout.jsonl).
        questions: for the samples of chat models, where the configuration gives no prompts.

    Returns:
        ``{"points": {name: {"target", "original", "samples", "seconds"}}, "prompts", "device"}``.
    """
    target = _pieces(corpus / "heldout.jsonl", section, section.heldout_bytes)
    original = _pieces(corpus / "replay_heldout.jsonl", section, section.replay_bytes)
    asked = [(p, True) for p in section.prompts]
    if not asked:
        asked = [(opening(document), False) for document in _first(corpus / "heldout.jsonl", 2)]
        asked += [(question, True) for question in list(questions)[:2]]
    out: dict[str, Any] = {"points": {}, "prompts": [prompt for prompt, _ in asked]}
    with console.progress() as display:
        task = display.add_task("evaluate", total=len(points) + 1, note="")
        for name, path in {"base": None, **points}.items():
            started = time.monotonic()
            display.update(task, note=name)
            if path is None:
                model, tok = checkpoint.on_base(base, load_in_4bit=load_in_4bit, seed=seed)
            else:
                model, tok = checkpoint.load(path, seed=seed)
            point: dict[str, Any] = {
                "target": bits.bits_per_byte(model, tok, target),
                "original": bits.bits_per_byte(model, tok, original) if original else None,
                "samples": _samples(model, tok, asked, section.sample_tokens),
            }
            point["seconds"] = round(time.monotonic() - started, 2)
            out["points"][name] = point
            console.say(f"  {name}: {point['target']['bits_per_byte']:.3f} bits per byte")
            display.advance(task)
            del model
            gc.collect()
    files.write_json(folder / "evaluation.json", out)
    return {**out, "device": load.device()}


def _samples(model: Any, tok: Any, asked: list[tuple[str, bool]], length: int) -> list[dict[str, Any]]:
    if not length:
        return []
    replies: dict[str, str] = {}
    for chat in (False, True):
        prompts = [prompt for prompt, kind in asked if kind == chat]
        if prompts:
            replies |= zip(prompts, samples.generate(model, tok, prompts, max_new_tokens=length, chat=chat))
    return [{"prompt": prompt, "text": replies[prompt], "chat": chat} for prompt, chat in asked]


def _pieces(path: Path, section: EvaluateSection, limit: int) -> list[str]:
    if not path.is_file():
        return []
    return text.byte_pieces(text.documents(path), size=section.piece_bytes, limit=limit)


def _first(path: Path, count: int) -> list[str]:
    found = []
    for document in text.documents(path):
        if len(document) >= 80:
            found.append(document)
        if len(found) == count:
            break
    return found


def opening(document: str, length: int = 50) -> str:
    """The first words of a document, up to about ``length`` characters, on one line, no space at the end."""
    line = " ".join(document[: 2 * length].split())
    cut = line.rfind(" ", 0, length)
    return line[: cut if cut > 10 else length].rstrip()
