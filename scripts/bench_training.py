"""What the extension gains in the same time: the run's own line, the control and the plain way, over seeds.

    python scripts/bench_training.py                                       (5 minutes an arm, 3 seeds, uk)
    python scripts/bench_training.py --minutes 15 --seeds 1 --set tokenizer.new_tokens=4000
    python scripts/bench_training.py --text el=el.jsonl                    (scripts/manual_text.py makes one)

Each line of the table is an arm of a real run of ``fastvocab.recipes.new_language`` with ``evaluate.control``: the
run's own line takes ``--minutes`` up to its pretrained checkpoint, preparation counted in, and both other arms get
the time that it took. Runs stay in ``--out``: a bench that was broken off goes on where it stood, and one that is
finished is only printed again. Text comes from packages (scripts/bench_material.py) or a file, English from
Python's own documentation. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

from bench_harness import machine, markdown, progress
from bench_material import write_language

from fastvocab import files
from fastvocab.control.compare import EXTENDED, Spent
from fastvocab.outcome import ARMS
from fastvocab.recipes.embedded import NEW_LANGUAGE
from fastvocab.run import read_records

Figures = dict[str, Any]

FIRST_SEED = 3407
#: A fifth of the documents held out: English has 78 in all, and an interval over fewer than ten says nothing.
SETTINGS = [
    "corpus.replay=package:pydoc-topics", "corpus.heldout=0.2", "instruct.train=[]", "export.to=[]",
    "evaluate.heldout_bytes=60000", "evaluate.replay_bytes=40000", "evaluate.sample_tokens=24",
]  # fmt: skip
#: Tokens and training as in the recipe's own default, which is made for so small a model and so short a time.
SETTINGS += [
    f"{section}.{key}={value}" for section in ("tokenizer", "extend", "pretrain")
    for key, value in NEW_LANGUAGE.embedded[section].items() if key not in ("minutes", "save_minutes")
]  # fmt: skip
#: One step of training: all that comes before and around it is what is measured.
PREPARATION = ["pretrain.steps=1", "pretrain.evaluations=0", "evaluate.heldout_bytes=1000",
               "evaluate.replay_bytes=1000", "evaluate.sample_tokens=0"]  # fmt: skip


def text_of(language: str, out: Path, file: Path | None = None) -> list[str]:
    """The files with text of a language, written if they are not there, from ``file`` or the packages.

    The folder is named after what is in the file: another one under the same code is other text.
    """
    mark = f"-{files.sha256_file(file)[:8]}" if file else ""
    folder = out / f"text-{language}{mark}"
    if not folder.exists():
        out.mkdir(parents=True, exist_ok=True)
        with files.atomic_folder(folder) as new:
            write_language(language, file, None, new / "text")
    return [str(folder / "text" / name) for name in ("train.jsonl", "heldout.jsonl")]


def recipe(name: str, language: str, text: list[str], out: Path, settings: list[str]) -> Path | None:
    """Run the recipe on ``text`` (`text_of`), or what is left of it; None, and where to look, where it failed."""
    command = [sys.executable, "-m", "fastvocab.recipes.new_language", f"name={name}", f"runs={out}"]
    command += [f"corpus.language={language}", f"corpus.train={json.dumps(text)}"]
    with (out / f"{name}.log").open("a", encoding="utf-8") as log:
        done = subprocess.run([*command, *settings], stdout=log, stderr=log, check=False)
    if done.returncode:
        progress(f"{name}: failed ({done.returncode}); {out / name}.log says why")
        return None
    return out / name


def preparation(language: str, text: list[str], out: Path, settings: list[str]) -> float | None:
    """Seconds that go before and around training, from a run with a single step; None where it failed."""
    folder = recipe(f"{language}-preparation", language, text, out, [*SETTINGS, *settings, *PREPARATION])
    return Spent.of(read_records(folder)).preparation if folder else None


def bench(
    language: str, text: list[str], seed: int, minutes: float, prepared: float, settings: list[str], out: Path
) -> Figures:
    """The three arms of one language and seed: ``control.json``, or ``error``."""
    left = minutes - prepared / 60
    name = f"{language}-{minutes:g}min-seed{seed}"
    found: Figures = {"language": language, "seed": seed}
    if left <= 0:
        return found | {
            "error": f"preparation takes {prepared:.0f} s, which leaves nothing of {minutes:g} min"
        }
    own = [f"seed={seed}", f"pretrain.minutes={left:.3f}", "evaluate.control=true"]
    folder = recipe(name, language, text, out, [*SETTINGS, *settings, *own])
    if folder is None:
        return found | {"error": f"see {name}.log"}
    points = read_records(folder)["evaluate"].figures["points"]
    return found | files.read_json(folder / "60-evaluate" / "control.json") | {"base": points["base"]}


def row(found: Figures, name: str) -> dict[str, str]:
    """An arm as cells of the table."""
    arm, target = found["arms"][name], found["arms"][name]["target"]
    reached = found["reaches_control_seconds"][name]
    prepared = found["preparation"][name]
    crossover = found["crossover_seconds"]
    few = " (few documents)" if target["too_few_documents"] else ""
    original = "–" if arm["original"] is None else f"{arm['original']:.3f}"
    forgot = arm["forgetting_percent"]
    return {
        "language": found["language"],
        "seed": str(found["seed"]),
        "arm": ARMS[name],
        "bits per byte (95%)": f"{target['bits_per_byte']:.3f} ({target['interval'][0]:.3f}–"
        f"{target['interval'][1]:.3f}){few}",
        "English": f"{original} ({forgot['percent']:+.1f}%)" if forgot else original,
        "reaches control's end, s": "never" if reached is None else f"{reached:.0f}",
        "crossover, s": "–" if name != EXTENDED else "none" if crossover is None else f"{crossover:.0f}",
        "time, s": f"{found['seconds']:.0f}",
        "preparation, s": f"{sum(prepared.values()) if isinstance(prepared, dict) else prepared:.0f}",
        "tokens": f"{arm['tokens']:,}",
        "tokens/s": f"{arm['tokens_per_second']:,.0f}",
        "text, kB": f"{arm['bytes'] / 1e3:,.0f}",
        "kB/s": f"{arm['bytes_per_second'] / 1e3:.2f}",
        "peak GB": f"{arm['peak_memory_bytes'] / 1e9:.2f}",
        "decode steps": f"{arm['decode_steps']:,}",
    }


def summary(all_found: list[Figures]) -> list[dict[str, str]]:
    """For each language, over seeds: the extended model against both others; means, the worst seed in brackets."""
    out = []
    for language in dict.fromkeys(found["language"] for found in all_found):
        seeds = [found for found in all_found if found["language"] == language and "error" not in found]
        if not seeds:
            continue

        def against(name: str, *keys: str, seeds: list[Figures] = seeds) -> list[float]:
            return [_get(f["arms"][EXTENDED], keys) / _get(f["arms"][name], keys) for f in seeds]

        control = [found["compared"]["control"]["ratio"] for found in seeds]
        plain = [found["compared"]["plain"]["ratio"] for found in seeds]
        forgot = [found["arms"][EXTENDED]["forgetting_percent"]["percent"] for found in seeds]
        crossed = [f["crossover_seconds"] for f in seeds]
        speed = against("control", "tokens_per_second")
        out.append(
            {
                "language": language,
                "seeds": str(len(seeds)),
                "bits per byte / control's": f"{mean(control):.3f} ({max(control):.3f})",
                "/ the plain way's": f"{mean(plain):.3f} ({max(plain):.3f})",
                "tokens/s / control's": f"{mean(speed):.2f} ({min(speed):.2f})",
                "kB/s / control's": f"{mean(against('control', 'bytes_per_second')):.2f}",
                "decode steps / control's": f"{mean(against('control', 'decode_steps')):.3f}",
                "English, change from base": f"{mean(forgot):+.1f}% ({max(forgot):+.1f}%)",
                "crossover, s": ", ".join("none" if c is None else f"{c:.0f}" for c in crossed),
            }
        )
    return out


def _get(node: Any, keys: tuple[str, ...]) -> float:
    for key in keys:
        node = node[key]
    return float(node)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5, help="of each arm (default 5)")
    parser.add_argument("--seeds", type=int, default=3, help=f"how many, from {FIRST_SEED} on (default 3)")
    parser.add_argument("--languages", nargs="+", help="codes (default uk, or those with --text)")
    parser.add_argument(
        "--text",
        nargs="+",
        default=[],
        metavar="CODE=FILE",
        help="jsonl or lines, in place of packages' text",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench-training"), help="folder of the runs")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the recipe")
    parser.add_argument("--json", action="store_true", help="everything as JSON instead of the tables")
    return parser.parse_args()


def main() -> int:
    """Measure what the command line asks for; 1 if a run failed."""
    options, started = arguments(), time.perf_counter()
    found: list[Figures] = []
    if wrong := [text for text in options.text if not Path(text.partition("=")[2] or "/").is_file()]:
        sys.exit(f"--text {' '.join(wrong)}: CODE=FILE, where FILE is there")
    given = {code: Path(file) for code, _, file in (text.partition("=") for text in options.text)}
    for language in options.languages or given or ["uk"]:
        text = text_of(language, options.out, given.get(language))
        prepared = preparation(language, text, options.out, options.set)
        if prepared is None:
            found.append({"language": language, "seed": "–", "error": f"see {language}-preparation.log"})
            continue
        progress(f"{language}: {prepared:.0f} s of preparation")
        for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
            found.append(bench(language, text, seed, options.minutes, prepared, options.set, options.out))
            if "error" not in found[-1]:
                ratio = found[-1]["compared"]["control"]["ratio"]
                progress(f"{language}, seed {seed}: {ratio:.3f} of the control's bits per byte")
    facts = machine(started)
    failed = [entry for entry in found if "error" in entry]
    done = [entry for entry in found if "error" not in entry]
    if options.json:
        print(json.dumps({"machine": facts, "minutes": options.minutes, "runs": found}, indent=1))
        return bool(failed)
    print(markdown(summary(done)), end="\n\n")
    print(markdown([row(entry, name) for entry in done for name in ARMS]), end="\n\n")
    for entry in failed:
        print(f"{entry['language']}, seed {entry['seed']}: {entry['error']}", end="\n\n")
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
