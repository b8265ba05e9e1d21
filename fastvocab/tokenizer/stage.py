"""The tokenizer stage: find new tokens, merge them, write, prove, measure."""

from __future__ import annotations

import json
import resource
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fastvocab import files
from fastvocab.config.models import NamedToken
from fastvocab.console import say, warn
from fastvocab.errors import DataError
from fastvocab.tokenizer import base as bases
from fastvocab.tokenizer import folder, named_stage, summary, verify
from fastvocab.tokenizer.base import Base
from fastvocab.tokenizer.find import Method, Request, find
from fastvocab.tokenizer.guard import Guard, protectable
from fastvocab.tokenizer.measure import lines_of, measure
from fastvocab.tokenizer.merge import Merged, assemble
from fastvocab.tokenizer.pretokenizer import repair
from fastvocab.tokenizer.shown import shown
from fastvocab.tokenizer.size import Cost
from fastvocab.tokenizer.text import collector_paused, read_texts
from fastvocab.tokenizer.train import Algorithm, fresh
from fastvocab.tokenizer.words import count_target_words, draw
from fastvocab.unicode import dominant_scripts, letter_scripts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_DETECT_DOCUMENTS = 2000


@collector_paused()
def build(
    base: Path,
    train: Path,
    out: Path,
    *,
    heldout: Path,
    replay: Path | None = None,
    new_tokens: int | Literal["auto"],
    method: Method | Literal["auto"] = "auto",
    sentencepiece: Algorithm = "bpe",
    pretokenizer: Literal["auto", "repair", "keep"] = "auto",
    scripts: frozenset[str] | None = None,
    config: dict[str, Any] | None = None,
    training_tokens: int | None = None,
    seed: int = 0,
    threads: int = 2,
    max_bytes: int = 20_000_000,
    tokens: Sequence[NamedToken] = (),
    reuse_reserved: bool = False,
) -> dict[str, Any]:
    """Extend a base tokenizer with tokens learnt from a text, prove it, and measure it.

    Writes into ``out``: the Hugging Face tokenizer files, ``sentencepiece.model`` (as trained, where that
    method was tried), ``new_tokens.jsonl`` (a line for each new row, in id order: ``id``, ``token``, ``text``
    or null for a byte fragment, ``base_ids``), and ``merge.json`` with what is returned.

    Args:
        base: folder of the base tokenizer.
        train: jsonl file with ``{"text"}`` on each line.
        out: an empty folder.
        heldout: jsonl file with text of the same language that was not trained on.
        replay: jsonl file with text of the base's own languages, which must keep its ids.
        new_tokens: rows to add; fewer if the text supports fewer, with the reason in the figures; "auto" for
            as many as pay (`size.choose`).
        method: how new tokens are found; "auto" tries both and takes the better on held-out text.
        sentencepiece: algorithm of that method.
        pretokenizer: whether the base's regex may be repaired where it cuts the target's words.
        scripts: ISO 15924 codes of the target scripts; found from the training text if None.
        config: config.json of the base model, from which "auto" knows what a row costs.
        training_tokens: the training budget, where one is set, for "auto".
        seed: draws the training sample.
        threads: threads for training.
        max_bytes: size of the training sample, UTF-8.
        tokens, reuse_reserved: tokens to add by name beside those that are learnt (`named_stage`).

    Returns:
        The figures, as in ``merge.json``.

    Raises:
        ModelError: if the base cannot be extended, or a proof fails.
        DataError: if the text supports no new tokens or a file is not as it should be.
    """
    started = time.perf_counter()
    if new_tokens != "auto" and new_tokens < 1:
        raise DataError(f"new_tokens is {new_tokens}", rule="at least 1 new token", fix="ask for 1 or more")
    source = bases.read(base)
    say(f"base tokenizer: {source.kind}, {source.next_id:,} ids")
    if source.disagreement:
        warn(f"{source.disagreement}; tokenizer.json leads, no tokenizer.model is written")
    scripts = _detect(train, scripts)
    own = lines_of(islice(read_texts(replay), verify.MOST_LINES))[: verify.MOST_LINES] if replay else []
    held = lines_of(islice(read_texts(heldout), verify.MOST_LINES))[: verify.MOST_LINES]

    words = draw(read_texts(train), scripts=scripts, max_bytes=max_bytes, seed=seed)
    repaired = repair(source, words, pretokenizer)
    summary.say_repair(repaired)
    guard = Guard(scripts, own if protectable(own, scripts) else (), words.chars, source.added)
    held_words = count_target_words(held, guard)
    if not held_words:
        warn("the held-out text has no words in the target script: methods are compared on the training text")
    request = Request(
        words,
        held_words or words.counts,
        guard,
        new_tokens=None if new_tokens == "auto" else new_tokens,
        method=None if method == "auto" else method,
        algorithm=sentencepiece,
        cost=Cost.read(config) if config else None,
        training_tokens=training_tokens,
        threads=threads,
    )
    drawn = time.perf_counter()
    found = find(repaired.base, request, out)
    best = found[0]
    merged = assemble(source, repaired.base, best.grown)
    if not merged.tokens:
        raise DataError(
            f"no new token can be added: {summary.reasons(best)}",
            rule="a new token is learnt from the target script and leaves other text alone",
            fix="give more text in the target language",
        )
    reason = summary.shortfall(len(merged.tokens), new_tokens, words, best)
    if reason:
        warn(reason)
    summary.say_found(found, request, words.unit)

    proving = time.perf_counter()
    beside = ThreadPoolExecutor(1)  # SentencePiece trains without holding Python's lock: 3 s gained
    yardstick = beside.submit(fresh, words, len(merged.tokens), threads)
    beside.shutdown(wait=False)
    loaded = folder.load_auto(source.folder)
    _write(source, merged, loaded, out)
    extended = bases.read(out)
    proofs = verify.verify(source, extended, scripts, verify.Texts(own, held), loaded)
    verify.require(proofs)
    measuring = time.perf_counter()
    new_ids = frozenset(token.id for token in merged.tokens)
    before, after = measure(source.tokenizer, held), measure(extended.tokenizer, held, new_ids=new_ids)
    model = yardstick.result()
    alone = measure(model, held) | {"pieces": model.get_piece_size() - 257}  # without bytes and unknown
    summary.say_gain(before, after, alone)
    texts = {token.id: token.text for token in merged.tokens}
    looked_at = shown(source.tokenizer, extended.tokenizer, held, texts)
    done = time.perf_counter()
    detail = {proof.name: proof.detail for proof in proofs}
    figures = {
        "kind": str(source.kind),
        "scripts": sorted(scripts),
        "old_size": source.next_id,
        "new_size": source.next_id + len(merged.tokens),
        "new_tokens": len(merged.tokens),
        "new_tokens_asked": new_tokens,
        "fewer_because": reason,
        "method": best.method,
        "methods": [summary.method(one, len(merged.tokens), words.unit) for one in found],
        "pretokenizer": {
            "changed": repaired.changed,
            "reason": repaired.reason,
            "floor_before": asdict(repaired.before),
            "floor_after": asdict(repaired.after),
        },
        "cost": request.cost and request.cost.describe(len(merged.tokens)),
        "intermediates": len(merged.grown.intermediates),
        "byte_fragments": sum(token.text is None for token in merged.tokens),
        "never_fired": {
            "in_training_text": sum(not best.fires[token.token] for token in merged.tokens),
            "in_heldout_text": len(new_ids) - after["new_tokens_seen"],
        },
        "unreachable": detail["new_tokens_reachable"]["unreachable"],
        "changed_lines": detail["other_text_identical"]["lines_changed"],
        "characters_one_step_shorter": detail["other_text_identical"]
        .get("shared", {})
        .get("characters_one_step_shorter", 0),
        "round_trip": {key: detail["round_trip_exact"][key] for key in ("heldout_lines", "heldout_exact")},
        "merges": len(merged.grown.merges),
        "passed_over": dict(merged.grown.rejected)
        | {"no target-script character": best.ascii_only, "never fire": best.pruned.dropped},
        "trained": {
            "pieces": best.pieces,
            "documents": words.documents,
            "words": len(words.counts),
            "bytes": words.bytes,
            "corpus_bytes": words.total_bytes,
        },
        "heldout": {"base": before, "extended": after, "fresh": alone},
        **looked_at,
        "proofs": [asdict(proof) for proof in proofs],
        "seconds": {
            "read": round(drawn - started, 2),
            "find": round(proving - drawn, 2),
            "write_and_prove": round(measuring - proving, 2),
            "measure": round(done - measuring, 2),
            "total": round(done - started, 2),
        },
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if tokens:
        added = named_stage.add_to(source, out, tokens, loaded, reuse=reuse_reserved)
        figures["proofs"] += [
            proof for proof in added["proofs"] if proof["name"].endswith(("found", "identical"))
        ]
        figures |= {"named": added["named"], "new_size": figures["new_size"] + added["new_tokens"]}
    files.write_json(out / "merge.json", figures)
    return figures


def _detect(train: Path, wanted: frozenset[str] | None) -> frozenset[str]:
    """The scripts of a text; of those named, the ones that occur (Korean is named with Hanja, mostly without)."""
    counts: Counter[str] = Counter()
    for text in islice(read_texts(train), _DETECT_DOCUMENTS):
        counts.update(letter_scripts(text))
    if wanted:
        total = sum(counts[name] for name in wanted)
        return frozenset(name for name in wanted if counts[name] * 100 > total) or wanted
    scripts = dominant_scripts(counts)
    if not scripts:
        raise DataError(
            f"{train} holds no letters in its first {_DETECT_DOCUMENTS:,} documents",
            rule="the target script is found from the text",
            fix="check the corpus, or set its language or script",
        )
    return scripts


def _write(source: Base, merged: Merged, loaded: PreTrainedTokenizerFast, out: Path) -> None:
    folder.copy_settings(source.folder, out, loaded, merged.spec)
    # on one line: with an indent Python's encoder takes 2 s longer
    files.write_text(out / "tokenizer.json", json.dumps(merged.spec, ensure_ascii=False) + "\n")
    if merged.proto is not None:
        (out / "tokenizer.model").write_bytes(merged.proto)
    rows: Iterable[str] = (json.dumps(asdict(token), ensure_ascii=False) + "\n" for token in merged.tokens)
    files.write_text(out / "new_tokens.jsonl", "".join(rows))
