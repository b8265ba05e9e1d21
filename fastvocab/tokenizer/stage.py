"""The tokenizer stage: train, merge, write, prove, measure."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from fastvocab import files
from fastvocab.console import say, warn
from fastvocab.errors import DataError
from fastvocab.tokenizer import base as bases
from fastvocab.tokenizer import folder, verify
from fastvocab.tokenizer.base import Base
from fastvocab.tokenizer.guard import Guard, protectable
from fastvocab.tokenizer.measure import lines_of, measure
from fastvocab.tokenizer.merge import Merged, candidates, cutter, merge
from fastvocab.tokenizer.text import read_texts
from fastvocab.tokenizer.train import Trained, train_sentencepiece
from fastvocab.tokenizer.verify import check
from fastvocab.unicode import dominant_scripts, letter_scripts

__all__ = ["build", "check"]

#: Pieces trained for each new token wanted. Some exist in the base, and with a Latin-script target most
#: learnt pieces are all-ASCII and dropped, so that case trains more: the trainer takes little longer.
_SPARE, _SPARE_LATIN, _SPARE_AT_LEAST = 1.5, 4.0, 500

#: Replay and held-out text is read up to this many lines; the proofs compare each of them.
_MOST_LINES = 20_000

_DETECT_DOCUMENTS = 2000


def build(
    base: Path,
    train: Path,
    out: Path,
    *,
    heldout: Path,
    replay: Path | None = None,
    new_tokens: int,
    scripts: frozenset[str] | None = None,
    seed: int = 0,
    threads: int = 2,
    max_bytes: int = 20_000_000,
) -> dict[str, Any]:
    """Extend a base tokenizer with pieces learnt from a text, prove it, and measure it.

    Writes into ``out``: the Hugging Face tokenizer files, ``sentencepiece.model`` (as trained),
    ``new_tokens.jsonl`` (a line for each new row, in id order: ``id``, ``token``, ``text`` or null for a byte
    fragment, ``base_ids``), and ``merge.json`` with what is returned.

    Args:
        base: folder of the base tokenizer.
        train: jsonl file with ``{"text"}`` on each line.
        out: an empty folder.
        heldout: jsonl file with text of the same language that was not trained on.
        replay: jsonl file with text of the base's own languages, which must keep its ids.
        new_tokens: rows to add; fewer if the text supports fewer, with the reason in the figures.
        scripts: ISO 15924 codes of the target scripts; found from the training text if None.
        seed: draws the training sample.
        threads: threads for training.
        max_bytes: size of the training sample, UTF-8.

    Returns:
        The figures, as in ``merge.json``.

    Raises:
        ModelError: if the base cannot be extended, or a proof fails.
        DataError: if the text supports no new tokens or a file is not as it should be.
    """
    started = time.perf_counter()
    if new_tokens < 1:
        raise DataError(f"new_tokens is {new_tokens}", rule="at least 1 new token", fix="ask for 1 or more")
    source = bases.read(base)
    say(f"base tokenizer: {source.kind}, {source.next_id:,} ids")
    scripts = scripts or _detect(train)
    own = lines_of(islice(read_texts(replay), _MOST_LINES))[:_MOST_LINES] if replay else []
    held = lines_of(islice(read_texts(heldout), _MOST_LINES))[:_MOST_LINES]

    spare = _SPARE_LATIN if "Latn" in scripts else _SPARE
    trained = train_sentencepiece(
        read_texts(train),
        out / "sentencepiece.model",
        pieces=int(new_tokens * spare) + _SPARE_AT_LEAST,
        scripts=scripts,
        seed=seed,
        threads=threads,
        max_bytes=max_bytes,
        cut=cutter(source),
    )
    say(
        f"trained SentencePiece: {len(trained.pieces):,} pieces from {trained.words:,} words, "
        f"{trained.seconds} s"
    )

    merging = time.perf_counter()
    guard = Guard(scripts, own if protectable(own, scripts) else (), trained.chars)
    wanted, ascii_only = candidates(trained.pieces, trained.chars, guard)
    merged = merge(source, wanted, new_tokens=new_tokens, guard=guard)
    if not merged.tokens:
        raise DataError(
            f"no new token can be added: {_reasons(merged.grown.rejected, ascii_only)}",
            rule="a new token is learnt from the target script and leaves other text alone",
            fix="give more text in the target language",
        )
    merge_seconds = round(time.perf_counter() - merging, 2)
    reason = _shortfall(len(merged.tokens), new_tokens, trained, merged, ascii_only)
    if reason:
        warn(reason)
    _write(source, merged, out)
    say(f"merged {len(merged.tokens):,} new tokens, {merge_seconds} s")

    proving = time.perf_counter()
    extended = bases.read(out)
    proofs = verify.verify(source, extended, scripts, verify.Texts(own, held))
    verify.require(proofs)
    new_ids = frozenset(token.id for token in merged.tokens)
    before, after = measure(source.tokenizer, held), measure(extended.tokenizer, held, new_ids=new_ids)
    _say_gain(before, after)
    figures = {
        "kind": str(source.kind),
        "scripts": sorted(scripts),
        "old_size": source.next_id,
        "new_size": source.next_id + len(merged.tokens),
        "new_tokens": len(merged.tokens),
        "new_tokens_asked": new_tokens,
        "fewer_because": reason,
        "intermediates": len(merged.grown.intermediates),
        "byte_fragments": sum(token.text is None for token in merged.tokens),
        "merges": len(merged.grown.merges),
        "passed_over": dict(merged.grown.rejected) | {"no target-script character": ascii_only},
        "trained": {
            "pieces": len(trained.pieces),
            "pieces_asked": trained.asked,
            "documents": trained.documents,
            "words": trained.words,
            "bytes": trained.bytes,
        },
        "heldout": {"base": before, "extended": after},
        "proofs": [asdict(proof) for proof in proofs],
        "seconds": {
            "train": trained.seconds,
            "merge": merge_seconds,
            "prove_and_measure": round(time.perf_counter() - proving, 2),
            "total": round(time.perf_counter() - started, 2),
        },
    }
    files.write_json(out / "merge.json", figures)
    return figures


def _detect(train: Path) -> frozenset[str]:
    counts: Counter[str] = Counter()
    for text in islice(read_texts(train), _DETECT_DOCUMENTS):
        counts.update(letter_scripts(text))
    scripts = dominant_scripts(counts)
    if not scripts:
        raise DataError(
            f"{train} holds no letters in its first {_DETECT_DOCUMENTS:,} documents",
            rule="the target script is found from the text",
            fix="check the corpus, or set its language or script",
        )
    return scripts


def _reasons(rejected: Counter[str], ascii_only: int) -> str:
    counts = Counter(rejected) + Counter({"no target-script character": ascii_only})
    return "; ".join(f"{number:,} {name}" for name, number in counts.most_common()) or "no candidates"


def _shortfall(given: int, asked: int, trained: Trained, merged: Merged, ascii_only: int) -> str | None:
    if given >= asked:
        return None
    return (
        f"{given:,} new tokens instead of {asked:,}: the text ({trained.bytes:,} bytes, {trained.words:,} "
        f"distinct words) supports {len(trained.pieces):,} pieces; passed over: "
        f"{_reasons(merged.grown.rejected, ascii_only)}"
    )


def _write(source: Base, merged: Merged, out: Path) -> None:
    loaded = folder.load_auto(source.folder)
    folder.copy_settings(source.folder, out, loaded)
    files.write_text(out / "tokenizer.json", json.dumps(merged.spec, ensure_ascii=False, indent=1) + "\n")
    if merged.proto is not None:
        (out / "tokenizer.model").write_bytes(merged.proto)
    rows: Iterable[str] = (json.dumps(asdict(token), ensure_ascii=False) + "\n" for token in merged.tokens)
    files.write_text(out / "new_tokens.jsonl", "".join(rows))


def _say_gain(before: dict[str, Any], after: dict[str, Any]) -> None:
    key = f"tokens_per_{before['unit']}"
    if before[key] and after[key]:
        say(f"tokens per {before['unit']} on held-out text: {before[key]:.2f} -> {after[key]:.2f}")
