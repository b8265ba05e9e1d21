"""The ``evaluate`` stage: the same text and the same prompts at every point of the line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from fastvocab import console, files
from fastvocab.config.models import EvaluateSection
from fastvocab.evaluate import bits, decoding, intervals, rows_view, tasks
from fastvocab.evaluate.bits import Pieces
from fastvocab.evaluate.points import Point, each
from fastvocab.evaluate.replies import Questions
from fastvocab.evaluate.replies import measure as measure_replies
from fastvocab.evaluate.tags import Probabilities
from fastvocab.layout import Layout
from fastvocab.model import backend, generation, heldout, text
from fastvocab.model.reference import Base

#: Both parts of what is scored: where the text lies in the corpus folder, and which setting limits it.
_PARTS = {"target": ("heldout.jsonl", "heldout_bytes"), "original": ("replay_heldout.jsonl", "replay_bytes")}
_LANGUAGES = {"target": "new", "original": "original"}


def evaluate(
    folder: Path,
    *,
    base: Base,
    points: dict[str, Path],
    section: EvaluateSection,
    corpus: Path | None = None,
    questions: Sequence[str] = (),
    watched: Sequence[str] = (),
    replies: Questions | None = None,
    tags: Probabilities | None = None,
    untagged: Layout | None = None,
    load_in_4bit: bool = False,
    seed: int = 3407,
) -> dict[str, Any]:
    """Measure the base and each checkpoint; write ``evaluation.json`` into ``folder``.

    Args:
        points: checkpoint folders by stage, in order; ``base`` comes first by itself.
        corpus: folder of the corpus stage (heldout.jsonl, replay_heldout.jsonl); None where there is no text.
        questions: for the samples of chat models, where the configuration gives no prompts.
        watched: pieces that were scored during training; with any, each point has its ``watched_bits_per_byte``.
        replies: held-out questions whose replies are to be laid out in a certain way.
        tags: named tokens, whose probabilities are measured.
        untagged: how replies are laid out at the point ``control``, which was taught them without tags.

    Returns:
        ``{"points": {name: point}, "prompts", "tasks", "rows_view" (`rows_view.view`), "device"}``; ``evaluation.json``
        has the nats of each document as well, and no rows. A point has ``target`` and ``original`` (`bits.score`),
        ``change`` of both (their ratio to the base's, with its paired interval), ``forgetting_percent`` (the change of
        the original language, with ``low`` and ``high``), ``decoding`` (`decoding.measure`), ``samples``,
        ``generation`` (how many of the samples' tokens are new ones) and ``seconds``; where they are asked for,
        ``replies`` (`replies.measure`) but for checkpoints without training, and ``tags`` (`Probabilities.measure`).
    """
    texts = _Texts(corpus, section, questions, watched, seed) if corpus is not None else None
    prompts = texts.prompts if texts else []
    out: dict[str, Any] = {"points": {}, "prompts": prompts}
    longest = max(2048, section.piece_bytes + 1)
    for at in each(base, points, block=longest, load_in_4bit=load_in_4bit, seed=seed):
        point: dict[str, Any] = {}
        if texts is not None:
            point |= texts.measure(at)
        extended = at.name != "base" and len(at.new_ids) > 0
        if tags is not None and (at.name == "base" or extended):
            point["tags"] = tags.measure(at.model, at.tokenizer, extended=extended)
        if replies is not None and replies.conversations and at.name not in ("extend", "pretrain"):
            own = untagged if at.name == "control" else None
            point["replies"] = measure_replies(at.model, at.tokenizer, replies, layout=own)
            shown = [
                {"prompt": one["prompt"], "text": one["text"], "chat": True}
                for one in point["replies"]["examples"]
            ]
            point["samples"] = [*point.get("samples", []), *shown[:2]]
        point["seconds"] = at.seconds()
        out["points"][at.name] = point
        console.say(f"  {at.name}: {_in_words(point)}")
    if section.tasks:
        line = [name for name in points if name not in ("control", "plain")]
        out["tasks"] = tasks.measure(section.tasks, base, {line[-1]: points[line[-1]]}, seed=seed)
    files.write_json(folder / "evaluation.json", {**out, "nats_of_documents": texts.nats if texts else {}})
    return {**out, "rows_view": rows_view.view(base, points), "device": backend.device()}


class _Texts:
    """Held-out text of both languages, and the prompts of the samples, the same for each point.

    Attributes:
        prompts: of the samples.
        nats: of each document, by part and point.
    """

    def __init__(
        self,
        corpus: Path,
        section: EvaluateSection,
        questions: Sequence[str],
        watched: Sequence[str],
        seed: int,
    ) -> None:
        self._section, self._watched, self._seed = section, watched, seed
        self._pieces = {part: _pieces(corpus / name, section, getattr(section, limit), seed)
                        for part, (name, limit) in _PARTS.items()}  # fmt: skip
        self._asked = [(p, True) for p in section.prompts]
        if not self._asked:
            self._asked = [(opening(document), False) for document in _first(corpus / "heldout.jsonl", 2)]
            self._asked += [(question, True) for question in list(questions)[:2]]
        _say_what_is_too_small(self._pieces)
        self.prompts = [prompt for prompt, _ in self._asked]
        self.nats: dict[str, dict[str, list[float]]] = {part: {} for part in self._pieces}

    def measure(self, at: Point) -> dict[str, Any]:
        """What `evaluate` says of one point, as far as it comes from text."""
        model, tok, seed = at.model, at.tokenizer, self._seed
        point: dict[str, Any] = {"target": None, "original": None, "change": {}}
        for part, text_of in self._pieces.items():
            if text_of.texts or part == "target":  # without any the target's own error
                scored = bits.score(model, tok, text_of, new_ids=at.new_ids, seed=seed)
                self.nats[part][at.name], point[part] = scored.nats, scored.figures
                point["change"][part] = intervals.compared(scored.nats, self.nats[part]["base"], seed=seed)
        if self._watched:
            alone = Pieces(list(self._watched), [0] * len(self._watched))
            point["watched_bits_per_byte"] = bits.score(model, tok, alone).figures["bits_per_byte"]
        point["forgetting_percent"] = _in_percent(point["change"].get("original"))
        point["samples"], point["generation"] = _samples(
            model, tok, self._asked, self._section.sample_tokens, at.new_ids
        )
        point["decoding"] = decoding.measure(
            model, tok, self._pieces["target"].texts[0], point["target"]["tokens"]
        )
        return point


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


def _in_words(point: dict[str, Any]) -> str:
    said = []
    if found := point.get("target"):
        low, high = found["interval"]
        said.append(f"{found['bits_per_byte']:.3f} bits per byte (95%: {low:.3f} to {high:.3f})")
    if found := point.get("replies"):
        said.append(
            f"{found['well_formed']:.0%} of {found['questions']} replies are well-formed, {found['right']:.0%} right"
        )
    if not said and (found := point.get("tags")):
        said.append(", ".join(f"p({tag}) {p:.2g}" for tag, p in list(found["at_reply"].items())[:4]))
    return "; ".join(said) or "measured"


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
