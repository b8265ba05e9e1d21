"""Write the catalogue: recipes/BASE-GPU.yaml and the list of them in recipes/README.md, from scripts/catalogue.py.

    python scripts/write_catalogue.py
    python scripts/write_catalogue.py --check     (exit code 1 where a file is not what this would write)

Each file has the plan's figure for its GPU in a comment, reckoned here from the base's published sizes.
"""

from __future__ import annotations

import json
import sys
import tempfile
import textwrap
from pathlib import Path

import catalogue
from catalogue import Recipe

from fastvocab.config import load
from fastvocab.plan import memory
from fastvocab.recipes import planning

FOLDER = Path(__file__).parents[1] / "recipes"
#: What a person calls the GPU.
GPUS = {
    "T4": "a T4 (16 GB, no bfloat16; free on Colab)",
    "L4": "an L4 (24 GB)",
    "A100": "an A100 (40 GB)",
    "A100-80GB": "an A100 (80 GB)",
}
_TRAINED = {"full": "every row trains", "new_rows": "the base's rows stay bit by bit"}

BODY = """
name: {name}

model:
  base: {base}
  load_in_4bit: {four_bit}

corpus:
  train: ["data/*.txt"]         # your text
  language: ka                  # its code
  # replay: ["english/*.txt"]   # text in a language that the model should keep

tokenizer:
  new_tokens: 8000              # auto: as many as pay; the plan then reckons with the most

pretrain:
  embeddings: {embeddings:18}# {trained}
  minutes: {minutes}
  block: {block}
  batch: {batch}
  accumulate: {accumulate:<18}# {batch} x {block:,} x {accumulate}: 16,384 tokens a step
  save_minutes: 10
  lora:
    r: 32

instruct:                       # left out as long as there are no chats
  # train: ["chat.jsonl"]
  # replay: ["english-chat.jsonl"]
  minutes: 30
  max_length: 1024
  batch: {batch_chat}
  accumulate: {accumulate_chat}
"""
NO_EXPORT = """
# A merge holds the 16-bit model twice, for which this GPU has no room: do it on another machine, or on the CPU.
export:
  to: []
"""


def figures(recipe: Recipe) -> tuple[str, str]:
    """("7.3 GB of 15.8 GB", "9 GB"), memory and disk: what `fastvocab plan` says of a recipe on its GPU."""
    base = catalogue.BASES[recipe.base]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(base.config), encoding="utf-8")
        path = Path(folder) / "recipe.yaml"
        path.write_text(body(recipe), encoding="utf-8")
        config = load(path, [f"model.base={folder}", "corpus.train=[]", f"runs={folder}/runs"])
        ahead = planning.look(config, gpu=recipe.gpu).outlook
    assert ahead is not None, "the base is there"
    taken = ahead.memory[recipe.embeddings]
    disk = sum(ahead.disk.values()) / 1e9
    return f"{memory.total(taken) / 1e9:.1f} GB of {ahead.device.memory / 1e9:.1f} GB", f"{disk:.0f} GB"


def body(recipe: Recipe) -> str:
    """The settings."""
    text = BODY.format(
        name=recipe.name, base=catalogue.BASES[recipe.base].name, four_bit=str(recipe.four_bit).lower(),
        embeddings=recipe.embeddings, trained=_TRAINED[recipe.embeddings], minutes=recipe.minutes, block=recipe.block,
        batch=recipe.batch, accumulate=recipe.accumulate, batch_chat=min(recipe.batch, 4),
        accumulate_chat=max(1, 16 // min(recipe.batch, 4)),
    )  # fmt: skip
    return text if recipe.export else text + NO_EXPORT


def head(recipe: Recipe, taken: str, disk: str) -> str:
    """What it is for, the command, what there is to know, and what the plan says."""
    base = catalogue.BASES[recipe.base]
    file = f"recipes/{recipe.name}.yaml"
    colab = "On Colab add runs=/content/drive/MyDrive/runs: after a lost connection the same command goes on."
    known = base.note or (colab if recipe.gpu == "T4" else "")
    lines = [
        f"A new language for {base.name.split('/')[1]} ({base.licence}) on {GPUS[recipe.gpu]}.",
        "",
        f"  fastvocab run {file} corpus.train='data/*.txt' corpus.language=ka",
        "",
        *textwrap.wrap(known, 113),
        f"plan: {taken} on {GPUS[recipe.gpu].split()[0]} {recipe.gpu}  (fastvocab plan {file} --gpu {recipe.gpu})",
        *textwrap.wrap(
            f"An estimate that no GPU has confirmed. Beside the text and the base up to {disk} of disk. A plan reads "
            f"the base's config.json; before the first run: hf download {base.name} config.json",
            113, break_on_hyphens=False,
        ),
    ]  # fmt: skip
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def table(rows: list[tuple[Recipe, str, str]]) -> str:
    """recipes/README.md."""
    out = [INDEX]
    for recipe, taken, disk in rows:
        base = catalogue.BASES[recipe.base]
        weights = "4-bit" if recipe.four_bit else "16-bit"
        out.append(
            f"| [{recipe.name}.yaml]({recipe.name}.yaml) | {base.name} | {recipe.gpu} | {weights} | "
            f"`{recipe.embeddings}` | {taken} | {disk} |"
        )
    return "\n".join(out) + "\n"


INDEX = """\
# Recipes

| page | about |
|---|---|
| [CHOOSING.md](CHOOSING.md) | when to extend a vocabulary and when not; which base, how many tokens, what trains |
| [REFERENCE.md](REFERENCE.md) | every key, verb, option, exit code and environment variable |
| [BENCHMARKS.md](BENCHMARKS.md) | what was measured, with the commands, and what the four peers ask of a new user |
| [TOKENIZER.md](TOKENIZER.md) | the tokenizer alone: merge, check, repaired regexes, figures |
| [TRAINING.md](TRAINING.md) | what makes a short training count, checkpoints, chat vectors, folders of other tools |
| [SCALE.md](SCALE.md) | does it fit, large corpora, several GPUs, what is known of GPUs |
| [TAGS.md](TAGS.md) | tags for a chat model, the recipe `special_tokens` |
| [ITEMS.md](ITEMS.md) | items as tokens, the recipe `item_tokens` |

| file | for |
|---|---|
| [new_language.yaml](new_language.yaml) | every key of the recipe `new_language` with its explanation |
| [special_tokens.yaml](special_tokens.yaml) | tags for a chat model |
| [item_tokens.yaml](item_tokens.yaml) | items as tokens |
| [new_language.ipynb](new_language.ipynb) | a new language in Colab: install, run, look |
| [special_tokens.ipynb](special_tokens.ipynb) | tags in Colab |
| [item_tokens.ipynb](item_tokens.ipynb) | items in Colab |
| [continue_after_disconnect.ipynb](continue_after_disconnect.ipynb) | a run on Drive that goes on after a break |

A new language on GPUs that people have: `fastvocab run recipes/FILE corpus.train='data/*.txt' corpus.language=ka`.
Memory is the plan's with 8,000 new tokens, an estimate that no GPU has confirmed; disk comes beside the text and the
base's own files. For another GPU: `fastvocab plan recipes/FILE --gpu 'RTX 3090'`, or `--gpu 12` for 12 GiB. The files
are written by `scripts/write_catalogue.py` from the table in `scripts/catalogue.py`.

| file | base | GPU | weights | `embeddings` | memory | disk |
|---|---|---|---|---|---|---|"""


def texts() -> dict[Path, str]:
    """Every file of the catalogue with its text."""
    rows = [(recipe, *figures(recipe)) for recipe in catalogue.RECIPES]
    found = {
        FOLDER / f"{recipe.name}.yaml": head(recipe, taken, disk) + body(recipe)
        for recipe, taken, disk in rows
    }
    return {**found, FOLDER / "README.md": table(rows)}


def main(arguments: list[str]) -> int:
    """Write, or with ``--check`` only compare; returns the exit code."""
    found = texts()
    stale = [path for path in found if not path.is_file() or path.read_text(encoding="utf-8") != found[path]]
    for path in stale:
        if arguments == ["--check"]:
            print(f"recipes/{path.name} is not current: python scripts/write_catalogue.py", file=sys.stderr)
        else:
            path.write_text(found[path], encoding="utf-8")
    return 1 if stale and arguments == ["--check"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
