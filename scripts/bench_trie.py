"""The prefix trie of a catalogue: `fastvocab.items.trie` beside dictionaries in each other and marisa-trie.

    uv run python scripts/bench_trie.py
    uv run --with marisa-trie python scripts/bench_trie.py --items 100000

Semantic ids at random: each item has --levels tokens, all but the last one out of a codebook of its level's own, the
last one counting the items that agree in the others. Each trie is built in a process of its own:

- ours: `Trie`, sorted arrays
- dicts: a dictionary of each token's dictionary, as in GENRE's `Trie` (facebookresearch/GENRE)
- marisa: GENRE's `MarisaTrie`, a token being a character: what follows a prefix is read off all keys with it. Left out
  where marisa-trie is not installed

Columns. (x): times dicts

- build s: from an array of the ids to the trie
- peak MB: the most memory (10^6 bytes) that building takes beside that array. kept MB: what is left of it
- depth N us: the tokens that can follow, looked up for --beams prefixes of N tokens, microseconds for all of them: a
  step of beam search. Median of --rounds, prefixes of random items; all tries give the same answers. Ours answers with
  an array, the others with a list
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench_harness import alone, machine, markdown, progress

Figures = dict[str, Any]
Prefix = tuple[int, ...]
Lookup = Callable[[Prefix], Sequence[int]]

#: Ids of ordinary tokens end here, those of items begin.
FIRST_ID = 50_000
SEED = 3407


def semantic_ids(items: int, levels: int, codebook: int) -> Any:
    """(items, levels) token ids, no two rows equal."""
    import numpy as np

    drawn = np.random.default_rng(SEED).integers(0, codebook, (items, levels - 1))
    order = np.lexsort(drawn.T[::-1])
    ordered, place = drawn[order], np.arange(items)
    new = np.append(True, (ordered[1:] != ordered[:-1]).any(1))
    last = np.empty(items, np.int64)
    last[order] = place - np.maximum.accumulate(np.where(new, place, 0))
    return np.c_[drawn, last] + FIRST_ID + codebook * np.arange(levels)


def lists(codes: Any) -> Iterator[list[int]]:
    """Rows one by one; all of them at once as lists would be the peak of a trie that takes them."""
    for start in range(0, len(codes), 10_000):
        yield from codes[start : start + 10_000].tolist()


def ours(codes: Any) -> Lookup:
    """Arrays."""
    from fastvocab.items.trie import Trie

    return Trie.build(codes).children


def dicts(codes: Any) -> Lookup:
    """Dictionaries."""
    root: dict[int, Any] = {}
    for row in lists(codes):
        node = root
        for token in row:
            node = node.setdefault(token, {})

    def children(prefix: Prefix) -> list[int]:
        node = root
        for token in prefix:
            node = node[token]
        return list(node)

    return children


def marisa(codes: Any) -> Lookup:
    """Strings in a trie of bits."""
    import marisa_trie

    first = int(codes.min())
    code = [
        chr(at if at < 0xD800 else at + 0x800) for at in range(int(codes.max()) - first + 1)
    ]  # no surrogates
    ids = {character: at + first for at, character in enumerate(code)}
    trie = marisa_trie.Trie("".join(code[token - first] for token in row) for row in lists(codes))

    def children(prefix: Prefix) -> list[int]:
        start = "".join(code[token - first] for token in prefix)
        return [ids[character] for character in {key[len(start)] for key in trie.keys(start)}]

    return children


WAYS: dict[str, Callable[[Any], Lookup]] = {"ours": ours, "dicts": dicts, "marisa": marisa}


def resident(field: str) -> int:
    """Bytes of this process now (VmRSS), or at most since `memory.reset_peak` (VmHWM)."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(text.partition(f"{field}:")[2].split()[0])


def run(way: str, path: Path, beams: int, rounds: int) -> Figures:
    """One trie in this process."""
    import numpy as np

    from fastvocab import memory

    codes = np.load(path)
    WAYS[way](codes[:2])  # imports are no part of a trie
    memory.release()
    memory.reset_peak()
    before, began = resident("VmRSS"), time.perf_counter()
    children = WAYS[way](codes)
    found: Figures = {"build_s": time.perf_counter() - began, "peak_bytes": resident("VmHWM") - before}
    memory.release()
    found |= {"kept_bytes": resident("VmRSS") - before, "step_us": {}, "children": {}}
    rng = np.random.default_rng(SEED)
    gc.disable()
    for depth in range(1, codes.shape[1]):
        steps = [
            [tuple(row.tolist()) for row in codes[rng.integers(0, len(codes), beams), :depth]]
            for _ in range(rounds)
        ]
        times = []
        for prefixes in steps:
            began = time.perf_counter()
            for prefix in prefixes:
                children(prefix)
            times.append(1e6 * (time.perf_counter() - began))
        found["step_us"][depth] = statistics.median(times)
        found["children"][depth] = [sorted(map(int, children(prefix))) for prefix in steps[0]]
    return found


def table(rows: list[Figures]) -> str:
    """The figures as Markdown, beside those of the dictionaries."""
    (base,) = (row for row in rows if row["trie"] == "dicts")

    def cell(row: Figures, key: str, text: str) -> str:
        value, of = (r["step_us"][key] if key in r["step_us"] else r[key] for r in (row, base))
        return f"{text} ({value / of:.2g}x)" if of > 0 else text

    lines = []
    for row in rows:
        line = {"trie": row["trie"], "build s": cell(row, "build_s", f"{row['build_s']:.2f}")}
        for name in ("peak", "kept"):
            line[f"{name} MB"] = cell(row, f"{name}_bytes", f"{row[f'{name}_bytes'] / 1e6:,.0f}")
        for depth, value in row["step_us"].items():
            line[f"depth {depth} us"] = cell(row, depth, f"{value:,.0f}")
        lines.append(line)
    return markdown(lines)


def main() -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000, help="(default 1,000,000)")
    parser.add_argument("--levels", type=int, default=4, help="tokens of an item, 2 or more (default 4)")
    parser.add_argument("--codebook", type=int, default=256, help="tokens of a level (default 256)")
    parser.add_argument("--beams", type=int, default=64, help="(default 64)")
    parser.add_argument("--rounds", type=int, default=20, help="steps timed for each depth (default 20)")
    parser.add_argument("--json", action="store_true", help="everything as JSON instead of a table")
    options, started = parser.parse_args(), time.perf_counter()

    import numpy as np

    rows: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes.npy"
        np.save(path, semantic_ids(options.items, options.levels, options.codebook))
        for way in WAYS:
            if way == "marisa" and find_spec("marisa_trie") is None:
                progress("marisa: left out, marisa-trie is not installed")
                continue
            row = {"trie": way} | alone(run, way, path, options.beams, options.rounds)
            rows.append(row)
            progress(f"{way}: built in {row['build_s']:.2f} s")
    answers = [row.pop("children") for row in rows]
    assert all(answer == answers[0] for answer in answers), "the tries do not agree"
    facts = machine(started)
    if options.json:
        print(json.dumps({"machine": facts, "rows": rows}, indent=1))
        return 0
    print(table(rows), end="\n\n")
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
