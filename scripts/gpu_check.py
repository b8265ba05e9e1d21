"""Does fastvocab work on this machine's GPU: one command, one table.

    python scripts/gpu_check.py                        (half an hour on a T4, most of it the default recipe)
    python scripts/gpu_check.py --quick                (the same checks on a shortened recipe)
    python scripts/gpu_check.py --device cpu --quick   (the same on a CPU, without limits on speed and memory)

- ``recipe``: the default recipe runs to its end; the loss falls.
- ``reload``: every checkpoint of it, in 16-bit and in 4-bit, in a fresh process: the probe that was saved, and text
  that is generated, the same in two processes.
- ``modes``: a few steps of each of ``pretrain.embeddings``, and over a 4-bit base: finite losses, which rows moved,
  a checkpoint that loads.
- ``speed``: tokens a second and peak memory beside a plain Unsloth script with the same model, LoRA, blocks, batch,
  steps and optimizer, whole embedding matrices trained, as ratios; in turns, each arm in a process of its own.
- ``borders``: whether attention of a flattened batch stays within its documents, as ``packed_seq_lengths`` asks for.

A check that fails does not stop the others. Exit codes: 0 all well, 1 a check failed, 6 there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench_harness import machine, markdown, progress

from fastvocab import files
from fastvocab.config.models import PretrainSection

NO_GPU = 6
#: Of the plain script's, on a GPU: tokens a second at least, memory at most.
LEAST_SPEED, MOST_MEMORY = 0.9, 1.1
#: Steps that pay for kernels and memory which later ones find ready.
WARMUP = 3
QUICK = [
    "tokenizer.new_tokens=1000", "extend.init=subtokens", "pretrain.minutes=null", "pretrain.steps=8",
    "pretrain.evaluations=0", "instruct.minutes=null", "instruct.steps=4", "evaluate.heldout_bytes=2000",
    "evaluate.replay_bytes=2000", "evaluate.sample_tokens=4",
]  # fmt: skip
PARTS = ("recipe", "reload", "modes", "speed", "borders")
RUN = "gpu-check"

#: What a check says: (what, result, expected, whether it is well).
Line = tuple[str, str, str, bool]


# --- parts that run in a process of their own: each prints JSON on its last line


def load(folder: str, four_bit: str) -> dict[str, Any]:
    """A checkpoint in this process: its probe against what was saved, and a few tokens after one prompt."""
    from fastvocab.model import backend, checkpoint, generation, probe
    from fastvocab.model import load as loader

    model, tokenizer = checkpoint.load(folder, load_in_4bit=four_bit == "4-bit")
    saved = files.read_json(Path(folder) / "fastvocab.json")["probe"]
    now = probe.take(model, saved["ids"])
    pairs = zip(now["logits"], saved["logits"])
    (made,) = generation.continuations(model, tokenizer, [saved["ids"][:8]], max_new_tokens=8)
    return {
        "apart": max(abs(a - b) for row in pairs for a, b in zip(*row)),
        "bitwise": now["sha256"] == saved["sha256"],
        "quantized": backend.is_quantized(
            model.get_base_model() if hasattr(model, "get_base_model") else model
        ),
        "precision": loader.precision(model),
        "ids": made,
    }


def section_of(run: Path, steps: int, **more: Any) -> PretrainSection:
    """The run's own settings of pretraining, for so many steps."""
    config = files.read_json(run / "40-pretrain" / "stage.json")["config"]
    own = PretrainSection(**{key: config[key] for key in PretrainSection.model_fields if key in config})
    limits = {"steps": steps, "minutes": None, "tokens": None, "evaluations": 0, "patience": None}
    return own.model_copy(update=limits | more)


def train_ours(
    run: Path, out: Path, section: PretrainSection, start: Path
) -> tuple[dict[str, Any], list[float]]:
    """Train from ``start`` as the run does; (figures, seconds of each step)."""
    from fastvocab.train import trainer
    from fastvocab.train.pretrain import pretrain

    clock, build = _clock(), trainer.build

    def clocked(*args: Any) -> Any:
        made = build(*args)
        made.add_callback(clock)
        return made

    trainer.build = clocked
    out.mkdir(parents=True)
    figures = pretrain(out, previous=start, corpus=run / "10-corpus", section=section, key="check",
                       saves_folder=out.parent / f"{out.name}-saves", seed=3407)  # fmt: skip
    return figures, clock.taken


def _clock() -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.taken: list[float] = []

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.began = _now()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.taken.append(_now() - self.began)

    return Clock()


def _now() -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _peak() -> int:
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def mode(run: str, out: str, steps: str, embeddings: str, four_bit: str) -> dict[str, Any]:
    """A few steps of one mode; its checkpoint is loaded again in this process."""
    import torch

    from fastvocab.model import checkpoint, manifest, reference
    from fastvocab.model import load as loader
    from fastvocab.model.extend import extend

    start, folder = Path(run) / "30-extend", Path(out) / f"{embeddings}-{four_bit}"
    facts = manifest.read(start)
    quantized = four_bit == "4-bit"
    if quantized:  # the run's own checkpoint 0 is of a base in 16 bits
        start = Path(out) / "extend-4-bit"
        start.mkdir(parents=True, exist_ok=True)
        extend(start, reference.recorded(facts["base"]), Path(run) / "20-tokenizer", init="subtokens", seed=3407,
               load_in_4bit=True)  # fmt: skip
    figures, _ = train_ours(
        Path(run), folder, section_of(Path(run), int(steps), embeddings=embeddings), start
    )
    new = manifest.new_ids(facts)

    def rows(path: Path) -> list[Any]:
        model, _ = checkpoint.load(path, load_in_4bit=quantized)
        return [weight.detach().float().cpu() for weight in loader.embedding_weights(model).values()]

    moved = [
        (after - before).abs().amax(1) > 0 for before, after in zip(rows(start), rows(folder), strict=True)
    ]
    old = torch.stack([torch.cat([m[: new.start], m[new.stop :]]).sum() for m in moved]).sum()
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    return {
        "losses": [entry["loss"] for entry in log if "loss" in entry],
        "trainable": figures["trainable_parameters"],
        "old": int(old),
        "new": int(sum(m[new.start : new.stop].sum() for m in moved)),
        "of": len(new) * len(moved),
        "quantized": manifest.read(folder)["load_in_4bit"],
    }


def arm(run: str, out: str, steps: str, name: str) -> dict[str, Any]:
    """Whole matrices trained by fastvocab (``ours``) or by a plain script (``plain``); or the run's own settings."""
    from fastvocab.train.budget import batch_size

    plain = {
        "embeddings": "full", "rows_first": 0.0, "count_targets": 0.0, "shared_subwords": False, "replay": 0.0,
    }  # fmt: skip
    section = section_of(Path(run), int(steps) + WARMUP, **({} if name == "default" else plain))
    work = Path(out) / name
    if name == "plain":
        taken, trainable = train_plain(Path(run), work, section)
    else:
        figures, taken = train_ours(Path(run), work, section, Path(run) / "30-extend")
        trainable = figures["trainable_parameters"]
    tokens = section.block * batch_size(section) * section.accumulate
    return {"seconds": taken[WARMUP:], "tokens": tokens, "peak": _peak(), "trainable": trainable}


def train_plain(run: Path, work: Path, section: PretrainSection) -> tuple[list[float], int]:
    """What a notebook does with the extended model, by Unsloth alone."""
    from fastvocab.model import backend, checkpoint, load, manifest, text

    unsloth = backend.unsloth()
    import torch

    from fastvocab.train import blocks
    from fastvocab.train.budget import batch_size, recomputes

    merged = work / "merged"
    checkpoint.merge(run / "30-extend", merged)
    data = blocks.prepare(
        run / "10-corpus", text.tokenizer(merged), block=section.block, replay_share=0.0,
        needed=section.steps * batch_size(section) * section.accumulate if section.steps else None, work=work / "data",
    )  # fmt: skip
    model, tokenizer = unsloth.FastLanguageModel.from_pretrained(
        model_name=str(merged), max_seq_length=section.block, dtype=getattr(torch, backend.dtype_name()),
        load_in_4bit=manifest.read(run / "30-extend")["load_in_4bit"],
    )  # fmt: skip
    tied, lora, on_gpu = load.is_tied(model), section.lora, backend.device() != "cpu"
    model.config._name_or_path = "merged"  # the pickles that unsloth writes go under it
    checkpointing = "unsloth" if recomputes(section) else False
    model = unsloth.FastLanguageModel.get_peft_model(
        model, r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.targets),
        modules_to_save=["embed_tokens"] if tied else ["embed_tokens", "lm_head"], ensure_weight_tying=tied,
        use_gradient_checkpointing=checkpointing, random_state=3407, max_seq_length=section.block,
        temporary_location=str(work / "buffers"),
    )  # fmt: skip
    bf16, clock = bool(unsloth.is_bfloat16_supported()), _clock()
    trainer = unsloth.UnslothTrainer(
        model=model, train_dataset=data.dataset.select_columns(["input_ids"]), processing_class=tokenizer,
        data_collator=_stack, callbacks=[clock],
        args=unsloth.UnslothTrainingArguments(
            output_dir=str(work / "out"), per_device_train_batch_size=batch_size(section),
            gradient_accumulation_steps=section.accumulate, max_steps=section.steps or 1,
            learning_rate=section.learning_rate, embedding_learning_rate=section.embedding_learning_rate,
            max_grad_norm=section.max_grad_norm, optim="adamw_8bit" if on_gpu else "adamw_torch_fused", bf16=bf16,
            fp16=on_gpu and not bf16, gradient_checkpointing=recomputes(section), save_strategy="no", report_to="none",
            remove_unused_columns=False, dataset_kwargs={"skip_prepare_dataset": True}, max_length=None, seed=3407,
            logging_steps=1,
        ),
    )  # fmt: skip
    trainer.train()
    return clock.taken, sum(p.numel() for p in model.parameters() if p.requires_grad)


def _stack(rows: list[dict[str, Any]]) -> dict[str, Any]:
    import torch

    ids = torch.tensor([row["input_ids"] for row in rows])
    return {"input_ids": ids, "labels": ids.clone(), "attention_mask": torch.ones_like(ids)}


def borders(folder: str) -> dict[str, Any]:
    """Last hidden state of a second document: alone, after another one, and after it with the border told."""
    import torch

    from fastvocab.model import backend, checkpoint

    model, tokenizer = checkpoint.load(folder)
    device, length = model.get_input_embeddings().weight.device, 24
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, len(tokenizer) - 1, (2, length), generator=generator).to(device)
    model.train()  # masks are dropped, as in training; there is no dropout
    places = torch.arange(length, device=device)
    told: dict[str, Any] = {"position_ids": torch.cat([places, places])[None]}
    if backend.device() != "cpu":
        told["packed_seq_lengths"] = torch.tensor([length, length], dtype=torch.int32)

    def logits(ids: Any, **more: Any) -> Any:
        with torch.no_grad():
            return model(input_ids=ids, use_cache=False, **more).logits[0, -length:].float()

    alone, row = logits(ids[1:]), ids.reshape(1, -1)
    size = float(alone.std())
    return {
        "behind": float((logits(row) - alone).abs().max()) / size,
        "told": float((logits(row, **told) - alone).abs().max()) / size,
    }


CHILDREN: dict[str, Callable[..., dict[str, Any]]] = {
    "load": load,
    "mode": mode,
    "arm": arm,
    "borders": borders,
}


# --- the checks


class Check:
    """The command line's settings, and what was found."""

    def __init__(self, options: argparse.Namespace, out: Path) -> None:
        self.options, self.out, self.run = options, out, out / RUN
        self.on_gpu = options.device != "cpu"
        self.steps = 3 if options.quick else 10
        self.lines: list[Line] = []
        self.env = os.environ | ({} if self.on_gpu else {"UNSLOTH_FORCE_CPU": "1"})

    def child(self, part: str, *arguments: Any) -> dict[str, Any]:
        """What a part gives in a fresh process.

        Raises:
            RuntimeError: it failed; the end of what it said.
        """
        command = [sys.executable, __file__, "--part", part, *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.env, cwd=self.out, check=False
        )
        if done.returncode:
            (self.out / "errors.txt").open("a", encoding="utf-8").write(f"{command}\n{done.stderr}\n")
            raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def recipe(self) -> Iterator[Line]:
        settings = [*(QUICK if self.options.quick else []), *self.options.set]
        command = [sys.executable, "-m", "fastvocab.recipes.new_language", f"runs={self.out}", f"name={RUN}"]
        done = subprocess.run(
            [*command, *settings], env=self.env, cwd=self.out, check=False, stdout=sys.stderr
        )
        yield "default recipe", f"exit code {done.returncode}", "exit code 0", not done.returncode
        for stage in ("40-pretrain", "50-instruct"):
            if (self.run / stage).exists():
                record = files.read_json(self.run / stage / "stage.json")
                figures, where = record["figures"], record["device"]
                first, last = figures["loss_first"], figures["loss_last"]
                rate = f"{figures['tokens_per_second']:,.0f} tokens/s, {figures['peak_memory_bytes'] / 1e9:.1f} GB"
                # of a few steps, losses of single batches say that they are numbers, no more
                well = last < first or (self.options.quick and first == first and last == last)
                expected = "finite" if self.options.quick else "it falls"
                yield stage[3:], f"loss {first:.3f} to {last:.3f}; {rate}", expected, well
                yield f"{stage[3:]}: device", where, self.options.device, where == self.options.device

    def reload(self) -> Iterator[Line]:
        for folder in sorted(path.parent for path in self.run.glob("*/fastvocab.json")):
            for bits in ("16-bit", "4-bit"):
                yield from self.guarded(f"reload {folder.name[3:]}, {bits}", self._reload, folder, bits)

    def _reload(self, what: str, folder: Path, bits: str) -> Iterator[Line]:
        found, again = (self.child("load", folder, bits) for _ in range(2))
        apart = "bit by bit" if found["bitwise"] else f"logits {found['apart']:.3g} apart"
        if bits == "16-bit":
            yield (
                what,
                f"{apart} ({found['precision']})",
                "loads, within its tolerance",
                not found["quantized"],
            )
        else:
            # other weights than those it was saved with: loading says the difference, and is no error
            well = found["quantized"] and found["apart"] == found["apart"]
            yield what, f"{apart}{'' if found['quantized'] else ', not quantized'}", "quantized, finite", well
        same = found["ids"] == again["ids"]
        yield (
            f"{what}: generation",
            "the same twice" if same else "differs",
            "the same in two processes",
            same,
        )

    def modes(self) -> Iterator[Line]:
        for embeddings, bits in (
            ("full", "16-bit"),
            ("new_rows", "16-bit"),
            ("frozen", "16-bit"),
            ("new_rows", "4-bit"),
        ):
            yield from self.guarded(f"{embeddings}, {bits}", self._mode, embeddings, bits)

    def _mode(self, what: str, embeddings: str, bits: str) -> Iterator[Line]:
        found = self.child("mode", self.run, self.out / "modes", self.steps, embeddings, bits)
        losses = found["losses"]
        finite = len(losses) == self.steps and all(0 <= loss < float("inf") for loss in losses)
        shown = f"{losses[0]:.3f} to {losses[-1]:.3f}, {found['trainable']:,} parameters"
        yield f"{what}: losses", shown, f"{self.steps} that are finite", finite
        moved = f"{found['old']:,} old, {found['new']:,} of {found['of']:,} new"
        expected = {"full": "old and new", "new_rows": "new alone", "frozen": "none"}[embeddings]
        well = (bool(found["old"]), bool(found["new"])) == (embeddings == "full", embeddings != "frozen")
        yield f"{what}: rows that moved", moved, expected, well
        if bits == "4-bit":
            yield f"{what}: base", "4-bit" if found["quantized"] else "16-bit", "4-bit", found["quantized"]

    def speed(self) -> Iterator[Line]:
        arms = {name: self.child("arm", self.run, self.out / "speed", self.steps * 2, name)
                for name in ("plain", "ours", "default")}  # fmt: skip
        plain = arms["plain"]
        for name, found in arms.items():
            rate = found["tokens"] / statistics.median(found["seconds"])
            found["rate"] = rate
            shown = f"{rate:,.0f} tokens/s, {found['peak'] / 1e9:.2f} GB, {found['trainable']:,} parameters"
            yield f"speed of {name}", shown, "", True
        ratio, memory = arms["ours"]["rate"] / plain["rate"], arms["ours"]["peak"] / plain["peak"]
        limits = (
            (f"at least {LEAST_SPEED}", f"at most {MOST_MEMORY}")
            if self.on_gpu
            else ("no limit on a CPU",) * 2
        )
        yield "tokens/s, ours / plain", f"{ratio:.2f}", limits[0], not self.on_gpu or ratio >= LEAST_SPEED
        yield (
            "peak memory, ours / plain",
            f"{memory:.2f}",
            limits[1],
            not self.on_gpu or memory <= MOST_MEMORY,
        )
        same = arms["ours"]["trainable"] == plain["trainable"]
        yield "the same parameters train", "yes" if same else "no", "yes", same

    def borders(self) -> Iterator[Line]:
        found = self.child("borders", self.run / "30-extend")
        shown = f"{found['behind']:.3f} without, {found['told']:.3f} with borders told"
        # training does not rely on it on a GPU: documents of a block see each other there
        yield "a document behind another: logits apart, in their own spread", shown, "known", True

    def guarded(self, what: str, check: Callable[..., Iterator[Line]], *arguments: Any) -> Iterator[Line]:
        """The lines of a check, or one that says how it failed."""
        try:
            yield from check(what, *arguments) if what else check()
        except Exception as error:  # noqa: BLE001 - the other checks are to go on; the table says it
            traceback.print_exc(file=sys.stderr)
            yield what or check.__name__, f"failed: {error}"[:160].replace("|", "/"), "no error", False

    def all(self) -> None:
        """Every part that is asked for, in order."""
        for part in self.options.only:
            progress(part)
            for line in self.guarded("", getattr(self, part)):
                progress("   ".join(line[:2]) + ("" if line[3] else "   NOT OK"))
                self.lines.append(line)


def head(started: float, on_gpu: bool) -> dict[str, Any]:
    """The machine and what it runs with."""
    facts = machine(started)
    for name in ("fastvocab", "unsloth_zoo", "trl", "bitsandbytes", "triton", "xformers"):
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "none"
    if on_gpu:
        import torch

        found = torch.cuda.get_device_properties(0)
        facts = {"gpu": found.name, "gpu_memory_gb": round(found.total_memory / 1e9, 1),
                 "capability": f"{found.major}.{found.minor}", "cuda": torch.version.cuda} | facts  # fmt: skip
    return facts


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a shortened recipe, 3 steps of each mode")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts alone")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="further settings of the recipe"
    )
    parser.add_argument("--out", type=Path, help="folder to work in, kept (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="write what was found here, too")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Check what the command line asks for; returns the exit code."""
    if arguments[:1] == ["--part"]:
        print(json.dumps(CHILDREN[arguments[1]](*arguments[2:])))
        return 0
    options, started = parse(arguments), time.perf_counter()
    if options.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            print(
                "no GPU: torch finds no CUDA device on this machine (--device cpu runs the checks on the CPU)"
            )
            return NO_GPU
    with tempfile.TemporaryDirectory(prefix="fastvocab-", ignore_cleanup_errors=True) as folder:
        check = Check(options, (options.out or Path(folder)).resolve())
        check.out.mkdir(parents=True, exist_ok=True)
        check.all()
    facts, failed = head(started, check.on_gpu), sum(not line[3] for line in check.lines)
    print(", ".join(f"{key} {value}" for key, value in facts.items()), end="\n\n")
    keys = ("what", "result", "expected", "ok")
    print(markdown([dict(zip(keys, (*line[:3], "ok" if line[3] else "NOT OK"))) for line in check.lines]))
    print(f"\n{failed} of {len(check.lines)} failed" if failed else f"\nall {len(check.lines)} are well")
    if options.json:
        files.write_json(
            options.json, {"machine": facts, "checks": [dict(zip(keys, line)) for line in check.lines]}
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
