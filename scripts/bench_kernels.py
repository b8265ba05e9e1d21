"""What `fastvocab.train.cpu_kernels` make of a step on a CPU, and what of its gradients.

    python -m fastvocab.recipes.new_language
    python scripts/bench_kernels.py runs/smollm2-ukrainian

Forward and backward pass of a pretrained checkpoint on its own corpus, added rows and adapters training, with and
without the kernels in turn; the shortest of ``--rounds`` counts. The error is that of the gradient of everything that
trains, relative to the same in float32. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from bench_harness import machine, markdown, progress


def batch(tokenizer: Any, corpus: Path, blocks: int, length: int) -> dict[str, Any]:
    """Blocks of documents that do not see each other, as the stage makes them."""
    import numpy as np
    import torch

    from fastvocab.model import text
    from fastvocab.train.blocks import positions

    start = text.bos_id(tokenizer)
    documents = list(islice(text.documents(corpus / "train.jsonl"), 2000))
    ids = [i for document in text.encode(tokenizer, documents) for i in (start, *document)]
    rows = np.asarray(ids[: blocks * length], np.int64).reshape(blocks, length)
    return {
        "input_ids": torch.from_numpy(rows),
        "labels": torch.from_numpy(rows),
        "position_ids": torch.from_numpy(positions(rows, start)),
    }


def step(model: Any, given: dict[str, Any], *, autocast: bool = True) -> tuple[float, Any]:
    """(seconds, gradient of all that trains)."""
    import torch

    from fastvocab.model import backend

    model.zero_grad()
    started = time.perf_counter()
    with backend.autocast() if autocast else nullcontext():
        loss = model(**given, use_cache=False).loss
    loss.backward()
    seconds = time.perf_counter() - started
    return seconds, torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


def measure(model: Any, given: dict[str, Any], rounds: int) -> dict[str, str]:
    """One line of the table."""
    import torch

    from fastvocab.train import cpu_kernels

    def with_kernels() -> tuple[float, Any]:
        with cpu_kernels.installed(model) as taken:
            assert taken["linear"] and taken["attention"], "this CPU or this model does without kernels"
            step(model, given)  # casts of the weights are made once in a training
            return step(model, given)

    ways: dict[str, Callable[[], tuple[float, Any]]] = {
        "without": lambda: step(model, given),
        "with": with_kernels,
    }
    exact = step(model, given, autocast=False)[1]
    best: dict[str, float] = {}
    error: dict[str, float] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds, gradient = way()
            best[name] = min(seconds, best.get(name, seconds))
            error[name] = float(torch.linalg.norm(gradient - exact) / torch.linalg.norm(exact))
    blocks, length = given["input_ids"].shape
    return {
        "tokens a step": f"{blocks} x {length}",
        "without, s": f"{best['without']:.2f}",
        "with, s": f"{best['with']:.2f}",
        "times faster": f"{best['without'] / best['with']:.2f}",
        "error without": f"{error['without']:.4f}",
        "error with": f"{error['with']:.4f}",
    }


def main() -> None:
    """Measure a run's checkpoint."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--rounds", type=int, default=5, help="(default 5)")
    options, started = parser.parse_args(), time.perf_counter()

    from fastvocab.model import checkpoint

    model, tokenizer = checkpoint.load(options.run / "40-pretrain", trainable=True, embeddings="new_rows")
    model.train()
    lines = []
    for blocks, length in ((1, 256), (1, 512), (2, 512)):
        given = batch(tokenizer, options.run / "10-corpus", blocks, length)
        lines.append(measure(model, given, options.rounds))
        progress(f"{blocks} x {length}: {lines[-1]['times faster']} times faster")
    print(markdown(lines))
    print(", ".join(f"{key} {value}" for key, value in machine(started).items()))


if __name__ == "__main__":
    main()
