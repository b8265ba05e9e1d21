"""What a text's counts say on their own, and how the methods of ``extend.init`` start, with nothing trained.

    python -m fastvocab.recipes.new_language
    python scripts/bench_start.py runs/smollm2-ukrainian
    python scripts/bench_start.py runs/smollm2-ukrainian --init subtokens calibrated counted distilled

Held-out bits per byte of the run's corpus: of n-gram counts of its training text (`fastvocab.model.counts`), over the
base's own tokens and over the extended ones; and of its base model with its new tokens, rows started in each way.
Seconds of a method are those of the whole stage in this process, imports not counted.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_harness import machine, markdown, progress


def bits(nats: float, pieces: list[str]) -> float:
    """Bits per byte."""
    return nats / math.log(2) / sum(len(piece.encode("utf-8")) for piece in pieces)


def counted(tokenizer: Any, corpus: Path, held_out: list[str], orders: range) -> Iterator[dict[str, str]]:
    """A line for each length of n-gram."""
    from fastvocab.model import text
    from fastvocab.model.counts import Counts

    start = text.bos_id(tokenizer)
    documents = [
        [start, *ids] for ids in text.encode(tokenizer, list(text.documents(corpus / "train.jsonl")))
    ]
    rows = [[start, *ids] for ids in text.encode(tokenizer, held_out)]
    for order in orders:
        counts = Counts(documents, text.rows(tokenizer), order=order)
        yield {
            "tokens in an n-gram": str(order),
            "rows": f"{text.rows(tokenizer):,}",
            "counted": f"{counts.tokens:,}",
            "bits per byte": f"{bits(counts.nats(rows), held_out):.3f}",
        }
        progress(f"{order} tokens over {text.rows(tokenizer):,} rows")


def started(run: Path, method: str, held_out: list[str], original: list[str]) -> dict[str, str]:
    """A line for a method of ``extend.init``."""
    from fastvocab.model import checkpoint, manifest, reference, text
    from fastvocab.model.extend import extend
    from fastvocab.model.nats import nats

    base = reference.recorded(manifest.read(run / "30-extend")["base"])
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        extend(
            Path(folder), base, run / "20-tokenizer", init=method, seed=3407,
            target_text=run / "10-corpus" / "train.jsonl", original_text=run / "10-corpus" / "replay.jsonl",
        )  # fmt: skip
        seconds = time.perf_counter() - began
        model, tokenizer = checkpoint.load(folder)
    found = []
    for pieces in (held_out, original):
        rows = [[text.bos_id(tokenizer), *ids] for ids in text.encode(tokenizer, pieces)]
        found.append(f"{bits(sum(nats(model, rows)), pieces):.3f}")
    progress(f"{method}: {found[0]}")
    return {"init": method, "bits per byte": found[0], "original language": found[1], "s": f"{seconds:.0f}"}


def main() -> None:
    """Measure on a run's folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run whose extend stage is done")
    parser.add_argument("--init", nargs="*", default=["subtokens", "calibrated", "counted"])
    parser.add_argument("--orders", type=int, nargs=2, default=(2, 5), help="first and last (default 2 5)")
    parser.add_argument("--bytes", type=int, default=30_000, help="held-out text (default 30000)")
    options, began = parser.parse_args(), time.perf_counter()

    from fastvocab.model import backend, manifest, reference, text

    backend.unsloth()
    corpus = options.run / "10-corpus"
    held_out, original = (
        text.byte_pieces(text.documents(corpus / name), size=1024, limit=limit)
        for name, limit in (("heldout.jsonl", options.bytes), ("replay_heldout.jsonl", options.bytes // 2))
    )
    base = reference.recorded(manifest.read(options.run / "30-extend")["base"])
    orders = range(options.orders[0], options.orders[1] + 1)
    lines = [
        line
        for folder in (base.tokenizer_folder, options.run / "20-tokenizer")
        for line in counted(text.tokenizer(folder), corpus, held_out, orders)
    ]
    print(markdown(lines), end="\n\n")
    lines = [started(options.run, method, held_out, original) for method in options.init]
    print(markdown(lines), end="\n\n")
    print(", ".join(f"{key} {value}" for key, value in machine(began).items()))


if __name__ == "__main__":
    main()
