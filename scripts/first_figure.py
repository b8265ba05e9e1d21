"""How long from a fresh clone to the first measured figure on screen: clone, the README's command, Ctrl-C.

    python scripts/first_figure.py [SOURCE]

Clones SOURCE (this repository, as it is committed) into a temporary folder, types the first command of its README in a
terminal, shows when each line arrives, and stops at the first one with something measured. Packages come from uv's
cache where they are there, which is said; the embedded model is built anew. Nothing is left behind.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

#: A line with something that was measured: tokens a word or a second, bits per byte.
FIGURE = re.compile(r"\d tokens a (?:held-out )?word|word.*: [\d.]+ -> [\d.]+|\d bits per byte|\d tokens/s")
#: What a terminal would act on: colours, and what a later text on the same line replaced.
_ACTED_ON = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r(?=\n|$)|[^\n]*\r(?!\n)")
LIMIT = 1800  # seconds


def command(readme: str) -> str:
    """What stands in the first block of code."""
    return re.findall(r"```\n(.+?)\n```", readme, re.DOTALL)[0]


def until_figure(words: str, folder: Path, cache: Path) -> tuple[float, str] | None:
    """(seconds, line) of the first figure that ``words`` shows in ``folder``; None where none comes."""
    master, slave = pty.openpty()
    # a virtual environment of this process is none of the clone's
    own = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    own["FASTVOCAB_CACHE"] = str(cache)
    started, rest, found = time.monotonic(), "", None
    process = subprocess.Popen(
        words, shell=True, cwd=folder, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=own,
        # a shell's background jobs ignore Ctrl-C, and so would what they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    os.close(slave)
    try:
        while found is None and time.monotonic() - started < LIMIT:
            try:
                if select.select([master], [], [], 1)[0]:
                    rest += os.read(master, 65536).decode("utf-8", "replace")
            except OSError:  # how a terminal ends
                break
            *lines, rest = _ACTED_ON.sub("", rest).split("\n")
            for line in filter(str.strip, lines):
                print(f"{time.monotonic() - started:7.1f} s  {line}", file=sys.stderr)
                if found is None and FIGURE.search(line):
                    found = (time.monotonic() - started, line.strip())
    finally:
        time.sleep(0.5)  # a shell that is just starting its next program misses a Ctrl-C
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        process.wait(120)
        os.close(master)
    return found


def main(source: str) -> int:
    """Measure and print; exit code 1 where no figure came."""
    asked = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=False)
    cached = asked.returncode == 0 and any(Path(asked.stdout.strip()).glob("archive-v*/*"))
    load = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory() as folder:
        started, clone = time.monotonic(), Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", source, str(clone)], check=True)
        cloned = time.monotonic() - started
        words = command((clone / "README.md").read_text(encoding="utf-8"))
        found = until_figure(words, clone, Path(folder) / "cache")
    if found is None:
        return 1
    seconds = {
        "seconds": round(cloned + found[0], 1),
        "of them the clone": round(cloned, 1),
        "figure": found[1],
    }
    print(
        json.dumps(
            seconds | {"cores": os.cpu_count(), "load before": load, "packages cached": cached}, indent=2
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2] or [str(Path(__file__).parents[1])]))
