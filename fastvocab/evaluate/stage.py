"""The ``evaluate`` stage: the same text and the same prompts at every point of the line."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from fastvocab import console, files
from fastvocab.config.models import EvaluateSection
from fastvocab.evaluate import bits, decoding, intervals, tasks
from fastvocab.evaluate.bits import Pieces
from fastvocab.model import backend, checkpoint, generation, heldout, manifest, text
from fastvocab.model.reference import Base

#: Both parts of what is scored: where the text lies in the corpus folder, and which setting limits it.
_PARTS = {"target": ("heldout.jsonl", "heldout_bytes"), "original": ("replay_heldout.jsonl", "replay_bytes")}
_LANGUAGES = {"target": "new", "original": "original"}


def evaluate(
    folder: Path,
    *,
    base: Base,
    points: dict[str, Path],
    corpus: Path,
    section: EvaluateSection,
    questions: Sequence[str] = (),
    watched: Sequence[str] = (),
    load_in_4bit: bool = False,
    seed: int = 3407,
) -> dict[str, Any]:
    """Measure the base and each checkpoint; write ``evaluation.json`` into ``folder``.

    Args:
        points: checkpoint folders by stage, in order; ``base`` comes first by itself.
        corpus: folder of the corpus stage (heldout.jsonl, replay_heldout.jsonl).
        questions: for the samples of chat models, where the configuration gives no prompts.
        watched: pieces that were scored during training; with any, each point has its ``watched_bits_per_byte``.

    Returns:
        ``{"points": {name: point}, "prompts", "tasks", "device"}``; ``evaluation.json`` has the nats of each
        document as well. A point has ``target`` and ``original`` (`bits.score`), ``change`` of both (their ratio to
        the base's, with its paired interval), ``forgetting_percent`` (the change of the original language, with
        ``low`` and ``high``), ``decoding`` (`decoding.measure`), ``samples``, ``generation`` (how many of the
        samples' tokens are new ones) and ``seconds``.
    """
    pieces = {part: _pieces(corpus / name, section, getattr(section, limit), seed)
              for part, (name, limit) in _PARTS.items()}  # fmt: skip
    asked = [(p, True) for p in section.prompts]
    if not asked:
        asked = [(opening(document), False) for document in _first(corpus / "heldout.jsonl", 2)]
        asked += [(question, True) for question in list(questions)[:2]]
    _say_what_is_too_small(pieces)
    out: dict[str, Any] = {"points": {}, "prompts": [prompt for prompt, _ in asked]}
    nats: dict[str, dict[str, list[float]]] = {part: {} for part in pieces}
    longest = max(2048, section.piece_bytes + 1)  # unsloth's GPU classes cut at what they were loaded for
    with console.progress() as display:
        task = display.add_task("evaluate", total=len(points) + 1, note="")
        for name, path in {"base": None, **points}.items():
            started = time.monotonic()
            display.update(task, note=name)
            if path is None:
                model, tok = checkpoint.on_base(base, load_in_4bit=load_in_4bit, block=longest, seed=seed)
            else:
                model, tok = checkpoint.load(path, block=longest, seed=seed)
            new_ids = range(0) if path is None else manifest.new_ids(manifest.peek(path))
            point: dict[str, Any] = {"target": None, "original": None, "change": {}}
            with backend.reading(model) as model:
                for part, text_of in pieces.items():
                    if text_of.texts or part == "target":  # without any the target's own error
                        scored = bits.score(model, tok, text_of, new_ids=new_ids, seed=seed)
                        nats[part][name], point[part] = scored.nats, scored.figures
                        point["change"][part] = intervals.compared(scored.nats, nats[part]["base"], seed=seed)
                if watched:
                    alone = Pieces(list(watched), [0] * len(watched))
                    point["watched_bits_per_byte"] = bits.score(model, tok, alone).figures["bits_per_byte"]
                point["forgetting_percent"] = _in_percent(point["change"].get("original"))
                point["samples"], point["generation"] = _samples(
                    model, tok, asked, section.sample_tokens, new_ids
                )
                point["decoding"] = decoding.measure(
                    model, tok, pieces["target"].texts[0], point["target"]["tokens"]
                )
            point["seconds"] = round(time.monotonic() - started, 2)
            out["points"][name] = point
            console.say(f"  {name}: {_in_words(point['target'])}")
            display.advance(task)
            del model
            gc.collect()
    if section.tasks:
        line = [name for name in points if name not in ("control", "plain")]
        out["tasks"] = tasks.measure(section.tasks, base, {line[-1]: points[line[-1]]}, seed=seed)
    files.write_json(folder / "evaluation.json", {**out, "nats_of_documents": nats})
    return {**out, "device": backend.device()}


def _say_what_is_too_small(pieces: dict[str, Pieces]) -> None:
    for part, text_of in pieces.items():
        count = len(set(text_of.documents))
        if text_of.texts and not intervals.is_meaningful(count):
            console.warn(
                f"the held-out text of the {_LANGUAGES[part]} language comes from {count} documents: intervals over "
                f"fewer than {intervals.LEAST_DOCUMENTS} are too narrow to be trusted; give more text, raise "
                f"corpus.heldout or evaluate.{_PARTS[part][1]}"
            )


def _in_percent(change: dict[str, float] | None) -> dict[str, float] | None:
    if change is None:
        return None
    return {"percent" if k == "ratio" else k: 100 * (value - 1) for k, value in change.items()}


def _in_words(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['bits_per_byte']:.3f} bits per byte (95%: {low:.3f} to {high:.3f})"


def _samples(
    model: Any, tok: Any, asked: list[tuple[str, bool]], length: int, new_ids: range
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The samples, and how many of their tokens are new ones (None where there are no new tokens or no samples)."""
    if not length:
        return [], None
    rows = [generation.prompt_ids(tok, prompt, chat=chat) for prompt, chat in asked]
    written = generation.continuations(model, tok, rows, max_new_tokens=length)
    texts = generation.decode(tok, written)
    shown = [{"prompt": prompt, "text": said, "chat": chat} for (prompt, chat), said in zip(asked, texts)]
    if not new_ids:
        return shown, None
    tokens = sum(map(len, written))
    new = sum(i in new_ids for ids in written for i in ids)
    return shown, {"tokens": tokens, "new_tokens": new, "new_share": new / tokens if tokens else 0.0}


def _pieces(path: Path, section: EvaluateSection, limit: int, seed: int) -> Pieces:
    if not path.is_file():
        return Pieces([], [])
    # what training looked at on its way is not what its result is judged by
    documents = islice(text.documents(path), heldout.first_watched(path))
    return bits.choose(documents, size=section.piece_bytes, limit=limit, seed=seed)


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
