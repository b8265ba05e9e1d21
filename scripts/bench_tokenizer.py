"""Extended tokenizers side by side: ours, AddedTokens, a fresh SentencePiece model, and the base itself.

    uv run python scripts/bench_tokenizer.py
    uv run python scripts/bench_tokenizer.py --bases llama3 path/to/base --languages hi --text yo=yoruba.txt
    uv run python scripts/bench_tokenizer.py --bases smollm2 --languages uk --sample-sizes

Rows, for each base and language: the base; ours by both methods; AddedTokens, which is what `add_new_tokens` of
Unsloth, LLaMA-Factory, Axolotl and TRL make (`tokenizer.add_tokens` with the texts of the tokens that
"continued" found, saved and reloaded); and a SentencePiece model of its own of as many pieces, with the library's
defaults. Every step runs in a process of its own, forked from one that has only imported the libraries. A markdown
table on standard output, progress on standard error. Columns:

- new: tokens added (pieces of the fresh model). Where the text supports fewer than --new-tokens, every row is
  asked for as many as the first came to
- per word: tokens for each word of held-out text, punctuation included; per character (c) in scripts without
  spaces. alone: tokens of the words alone, each with its space
- round trip: share of held-out lines that decode to themselves, down to the last space
- English: share of English lines (Python's documentation, not shown to the merge) with other ids than before the
  extension. In the row of the base: with other ids by AutoTokenizer than by its own files
- unreachable: new tokens whose own text never encodes to them alone, whatever stands before; byte fragments aside
- MB/s: UTF-8 megabytes (10^6 bytes) encoded in a second: the new language with one thread and with two, English
  with one; the best of --rounds processes, in turn with the other rows. Of CPU time with one thread, of time
  passed with two. (x): times the base's speed in this run. Text shorter than 1 MB is repeated, for every row
- load s: `AutoTokenizer.from_pretrained`, imports excluded, median of --rounds fresh processes (fresh model:
  SentencePieceProcessor). (x): times the base's
- merge s: training, merging and proofs as merge.json says; for AddedTokens adding and saving alone, for the
  fresh model reading and training
- peak MB: the most memory (2^20 bytes) of the process that did so, some 500 of them imports
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import bench_material as material

from fastvocab.errors import FastvocabError
from fastvocab.tokenizer import base as bases
from fastvocab.tokenizer import folder, stage
from fastvocab.tokenizer.find import METHODS
from fastvocab.tokenizer.measure import WORD, encode_all, lines_of, measure
from fastvocab.tokenizer.text import read_texts
from fastvocab.tokenizer.train import fresh
from fastvocab.tokenizer.words import draw

Figures = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")

_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["transformers.models.auto.tokenization_auto", "fastvocab.tokenizer.stage"])

#: UTF-8 bytes that are encoded for a speed, how often in each process, and how many documents at a time.
_ENCODED, _PASSES, _BATCH = 1_000_000, 2, 1024
#: What may stand before a token when its reachability is tried.
_BEFORE = ("", "\n", "1", "(", "\u00a0", "a")


@dataclass
class Row:
    """One tokenizer: ``file`` is encoded with, ``place`` is loaded (a folder, or a SentencePiece file)."""

    name: str
    file: Path
    place: Path
    before: Path | None = None
    new: list[tuple[int, str]] = field(default_factory=list)
    figures: Figures = field(default_factory=dict)


def alone(step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``step`` gives in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=_FORK) as pool:
        return pool.submit(step, *args, **kwargs).result()


def write_base(base: Path, out: Path) -> None:
    """``own.json`` from the base's own files, ``auto.json`` as AutoTokenizer reads them, and a tiny tokenizer."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bases.read(base).tokenizer.save(str(out / "own.json"))
    folder.load_auto(base).backend_tokenizer.save(str(out / "auto.json"))
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE())).save_pretrained(out / "tiny")


def build_ours(base: Path, text: Path, shown: Path, out: Path, **options: Any) -> Figures:
    """Extend the base with `stage.build`; the figures of merge.json and the peak."""
    out.mkdir()
    figures = stage.build(
        base, text / "train.jsonl", out, heldout=text / "heldout.jsonl", replay=shown, **options
    )
    return figures | {"peak_mb": _peak()}


def build_added(base: Path, texts: list[str], out: Path) -> tuple[Figures, list[tuple[int, str]]]:
    """Add ``texts`` as AddedTokens and save; the figures, and id and text of those that were new."""
    tokenizer = folder.load_auto(base)
    size, started = len(tokenizer), time.perf_counter()
    tokenizer.add_tokens(texts)
    tokenizer.save_pretrained(out)
    seconds = time.perf_counter() - started
    new = [(i, text) for text in texts if (i := tokenizer.convert_tokens_to_ids(text)) >= size]
    return {"new_tokens": len(tokenizer) - size, "merge_s": seconds, "peak_mb": _peak()}, new


def build_fresh(text: Path, scripts: list[str], size: int, out: Path) -> Figures:
    """Train a SentencePiece model of its own on the words that the extension was trained on."""
    started = time.perf_counter()
    words = draw(read_texts(text / "train.jsonl"), scripts=frozenset(scripts), max_bytes=20_000_000, seed=0)
    model = fresh(words, size)
    out.write_bytes(model.serialized_model_proto())
    return {"new_tokens": size, "merge_s": time.perf_counter() - started, "peak_mb": _peak()}


def judge(
    place: Path, before: Path | None, new: list[tuple[int, str]], heldout: Path, english: Path
) -> Figures:
    """Tokens per word, round trip, English, unreachable: of the folder as it is loaded again."""
    tokenizer = _open(place)
    lines = lines_of(read_texts(heldout))
    found = measure(tokenizer, lines)
    words = Counter(word for line in lines for word in WORD.findall(line)) if found["words"] else Counter()
    # behind a digit: at the start of a text Mistral puts a space itself, where no AddedToken finds it
    digit = len(next(encode_all(tokenizer, ["1"])))
    encoded = encode_all(tokenizer, [f"1 {word}" for word in words])
    per_word = sum((len(ids) - digit) * number for number, ids in zip(words.values(), encoded))
    ids = list(encode_all(tokenizer, lines))
    model = place.suffix == ".model"
    back = tokenizer.decode(ids) if model else tokenizer.decode_batch(ids, skip_special_tokens=False)
    figures: Figures = {
        "unit": found["unit"],
        "per_unit": found[f"tokens_per_{found['unit']}"],
        "alone": per_word / words.total() if words else None,
        "round_trip": sum(a == b for a, b in zip(lines, back)) / len(lines),
        "lines": len(lines),
    }
    if before is not None:
        own = lines_of(read_texts(english))
        pairs = zip(encode_all(_open(before), own), encode_all(tokenizer, own))
        figures |= {"english_changed": sum(a != b for a, b in pairs) / len(own), "english_lines": len(own)}
    if new:
        left = new
        for lead in _BEFORE:
            start = tokenizer.encode(lead, add_special_tokens=False).ids
            encoded = encode_all(tokenizer, [lead + text for _, text in left])
            left = [one for one, got in zip(left, encoded) if got != [*start, one[0]]]
        figures |= {"unreachable": len(left), "unreachable_examples": [text for _, text in left[:5]]}
    return figures


def speeds(file: Path, texts: list[Path], threads: int) -> list[float]:
    """MB/s on each of the files of documents (the first ones of them, up to 1 MB)."""
    os.environ |= {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": str(threads > 1).lower()}
    # CPU time is less disturbed by what else the machine does, but says nothing where two threads share it
    clock = time.process_time if threads == 1 else time.perf_counter
    tokenizer, found = _open(file), []
    if file.suffix == ".model":
        encode = partial(tokenizer.encode, num_threads=threads)
    else:
        encode = partial(tokenizer.encode_batch_fast, add_special_tokens=False)
    for path in texts:
        given = list(read_texts(path))
        documents: list[str] = []
        size = 0
        while size < _ENCODED:
            documents.append(given[len(documents) % len(given)])
            size += len(documents[-1].encode())
        passes = []
        for _ in range(_PASSES):
            started = clock()
            for start in range(0, len(documents), _BATCH):
                encode(documents[start : start + _BATCH])
            passes.append(clock() - started)
        found.append(size / 1e6 / min(passes))
    return found


def load_seconds(place: Path, tiny: Path) -> float:
    """Seconds to load ``place``, after a tiny tokenizer has brought in what is imported at the first."""
    if place.suffix != ".model":
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(str(tiny))
    started = time.perf_counter()
    if place.suffix == ".model":
        _open(place)
    else:
        AutoTokenizer.from_pretrained(str(place), local_files_only=True)
    return time.perf_counter() - started


def _open(place: Path) -> Any:
    """A tokenizer of the tokenizers or SentencePiece library: of a file, or of a folder as AutoTokenizer does."""
    if place.is_dir():
        return folder.load_auto(place).backend_tokenizer
    if place.suffix == ".model":
        from sentencepiece import SentencePieceProcessor

        return SentencePieceProcessor(model_file=str(place))
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(place))


def _peak() -> int:
    """Most memory of this process so far, in 2^20 bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most >> (20 if sys.platform == "darwin" else 10)


def compare(base: Path, text: Path, english: Path, out: Path, new_tokens: int, rounds: int) -> list[Row]:
    """All rows of one base and language."""
    alone(write_base, base, out)
    rows = [Row("base", out / "own.json", base, out / "auto.json")]
    found: Figures = {}
    for method in METHODS:
        row = Row(f"ours, {method}", out / method / "tokenizer.json", out / method, out / "own.json")
        rows.append(row)
        progress(f"  {row.name}")
        try:
            found = alone(
                build_ours,
                base,
                text,
                english / "shown.jsonl",
                row.place,
                new_tokens=new_tokens,
                method=method,
            )
        except FastvocabError as error:
            row.figures["error"] = error.lines()[0]
            continue
        new_tokens = found["new_tokens"]
        lines = (row.place / "new_tokens.jsonl").read_text(encoding="utf-8").splitlines()
        row.new = [(one["id"], one["text"]) for one in map(json.loads, lines) if one["text"] is not None]
        row.figures = {
            "new_tokens": found["new_tokens"],
            "merge_s": found["seconds"]["total"],
            "peak_mb": found["peak_mb"],
            "merge": found,
        }
    given = max(rows[1:], key=lambda row: (row.name.endswith("continued"), len(row.new)))
    if given.new:
        added, out_fresh = out / "added", out / "fresh.model"
        figures, new = alone(build_added, base, [text for _, text in given.new], added)
        rows.append(Row("AddedTokens", added / "tokenizer.json", added, out / "auto.json", new, figures))
        size, scripts = given.figures["new_tokens"], given.figures["merge"]["scripts"]
        figures = alone(build_fresh, text, scripts, size, out_fresh)
        rows.append(Row("fresh SentencePiece", out_fresh, out_fresh, figures=figures))
    good = [row for row in rows if "error" not in row.figures]
    for row in good:
        progress(f"  {row.name}: tokens, round trip, English, reachability")
        place = row.file if row.name == "base" else row.place
        row.figures |= alone(
            judge, place, row.before, row.new, text / "heldout.jsonl", english / "english.jsonl"
        )
    measure_times(good, [text / "train.jsonl", english / "english.jsonl"], out / "tiny", rounds)
    return rows


def measure_times(rows: list[Row], texts: list[Path], tiny: Path, rounds: int) -> None:
    """Speeds and loading times, the rows in turn, so that what else the machine does falls on all of them."""
    times: dict[str, list[list[float]]] = {row.name: [] for row in rows}
    for number in range(rounds):
        progress(f"  times, {number + 1} of {rounds}")
        for row in rows:
            one = alone(speeds, row.file, texts if row.before else texts[:1], 1)
            two = alone(speeds, row.file, texts[:1], 2)
            times[row.name].append([alone(load_seconds, row.place, tiny), one[0], two[0], *one[1:]])
    for row in rows:
        load, *fast = zip(*times[row.name])
        row.figures["load_s"] = statistics.median(load)
        row.figures |= dict(zip(("mbs_1", "mbs_2", "mbs_english"), map(max, fast)))


def vary_sample(
    base: Path, text: Path, english: Path, out: Path, new_tokens: int, size: int
) -> list[Figures]:
    """Tokens per held-out word and cost for training samples of 0.25, 0.5, 1, ... MB up to all of ``size``."""
    steps = [n for n in (250_000 << k for k in range(40)) if n < size] + [size]
    found = []
    for most in steps:
        options = {"new_tokens": new_tokens, "method": "continued", "max_bytes": most}
        figures = alone(build_ours, base, text, english / "shown.jsonl", out / str(most), **options)
        held = figures["heldout"]["extended"]
        found.append(
            {
                "sample_mb": figures["trained"]["bytes"] / 1e6,
                "words": figures["trained"]["words"],
                "new_tokens": figures["new_tokens"],
                "unit": held["unit"],
                "per_unit": held[f"tokens_per_{held['unit']}"],
                "merge_s": figures["seconds"]["total"],
                "peak_mb": figures["peak_mb"],
            }
        )
    return found


#: Columns of the two tables: heading, key of the figure, format ("%" a share, "x" with the ratio to the base).
COLUMNS = {
    "new": ("new_tokens", ",d"),
    "per word": ("per_unit", ".3f"),
    "alone": ("alone", ".3f"),
    "round trip": ("round_trip", "%"),
    "English": ("english_changed", "%"),
    "unreachable": ("unreachable", ",d"),
    "MB/s": ("mbs_1", "x.2f"),
    "MB/s, 2 threads": ("mbs_2", "x.2f"),
    "English MB/s": ("mbs_english", "x.2f"),
    "load s": ("load_s", "x.3f"),
    "merge s": ("merge_s", ".1f"),
    "peak MB": ("peak_mb", ",d"),
}
SAMPLE_COLUMNS = {
    "sample MB": ("sample_mb", ".2f"),
    "distinct words": ("words", ",d"),
    **{key: COLUMNS[key] for key in ("new", "per word", "merge s", "peak MB")},
}


def table(rows: list[Figures], columns: dict[str, tuple[str, str]]) -> str:
    """Markdown of the rows; a ratio is to the last row before it that is named base."""
    names = [key for key in ("base", "text", "tokenizer") if key in rows[0]]
    lines, reference = [[*names, *columns], ["---"] * (len(names) + len(columns))], rows[0]
    for row in rows:
        reference = row if row.get("tokenizer") == "base" else reference
        line = [str(row[name]) for name in names]
        if "error" in row:
            line.append(f"failed: {row['error']}")
        else:
            line += [_cell(row, reference, key, form) for key, form in columns.values()]
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row: Figures, reference: Figures, key: str, form: str) -> str:
    value = row.get(key)
    if value is None:
        return "–"
    if form == "%":  # 0 and 100% only where they are exact
        return {0.0: "0", 1.0: "100%"}.get(value) or f"{min(max(100 * value, 0.01), 99.99):.2f}%"
    text = format(value, form.removeprefix("x"))
    if form.startswith("x") and row is not reference and reference.get(key):
        text += f" ({value / reference[key]:.2f}x)"
    return text + (" (c)" if key == "per_unit" and row["unit"] == "character" else "")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--bases", nargs="+", default=["smollm2", "llama3"], help="smollm2, llama3, mistral or a folder"
    )
    parser.add_argument(
        "--languages", nargs="*", help="uk, hi, th, ... (default: uk hi th, or those of --text)"
    )
    parser.add_argument(
        "--text", nargs="+", default=[], metavar="LANG=FILE", help="text of your own (.txt, .jsonl)"
    )
    parser.add_argument("--new-tokens", type=int, default=8000, help="tokens asked for (default 8000)")
    parser.add_argument(
        "--megabytes", type=float, help="cut or repeat the training text to this (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="processes for each time (default 3)")
    parser.add_argument("--sample-sizes", action="store_true", help="vary the training sample instead")
    parser.add_argument("--json", action="store_true", help="everything as JSON instead of a table")
    return parser.parse_args()


def progress(message: str) -> None:
    """A line on standard error."""
    print(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure what the command line asks for; 1 if there was nothing to measure."""
    options, started = arguments(), time.perf_counter()
    files = {name: Path(path) for name, _, path in (one.partition("=") for one in options.text)}
    texts: dict[str, dict[str, int]] = {}
    rows: list[Figures] = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        english = work / "english"
        material.write_english(english)
        for language in options.languages or list(files) or ["uk", "hi", "th"]:
            source = (language, files.get(language), options.megabytes, work / language)
            try:
                texts[language] = alone(material.write_language, *source)
            except FastvocabError as error:
                progress(f"left out: {language}: {error.lines()[0]}")
        for one in options.bases:
            try:
                base = alone(material.make_base, one, work / "bases" / Path(one).name)
            except FastvocabError as error:
                progress(f"left out: {one}: {error.lines()[0]}")
                continue
            for language, sizes in texts.items():
                progress(f"{base.name}, {language}: {sizes['train'] / 1e6:.2f} MB to learn from")
                out = work / f"{base.name}-{language}"
                out.mkdir()
                if options.sample_sizes:
                    found = vary_sample(
                        base, work / language, english, out, options.new_tokens, sizes["train"]
                    )
                else:
                    compared = compare(
                        base, work / language, english, out, options.new_tokens, options.rounds
                    )
                    found = [{"tokenizer": row.name} | row.figures for row in compared]
                rows += [{"base": base.name, "text": language} | row for row in found]
    if not rows:
        progress("nothing to measure")
        return 1
    packages = {name: version(name) for name in ("tokenizers", "transformers", "sentencepiece")}
    packages["python"] = platform.python_version()
    machine = {"cores": os.cpu_count(), "seconds": round(time.perf_counter() - started)} | packages
    if options.json:
        print(json.dumps({"machine": machine, "text": texts, "rows": rows}, ensure_ascii=False, indent=1))
        return 0
    print(table(rows, SAMPLE_COLUMNS if options.sample_sizes else COLUMNS), end="\n\n")
    for language, sizes in texts.items():
        print(f"{language}: " + ", ".join(f"{key} {size / 1e6:.2f} MB" for key, size in sizes.items()))
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
