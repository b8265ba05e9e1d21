"""Check a finished run from outside: reload every checkpoint in a fresh process, and show where the time went.

    python scripts/check_run.py runs/smollm2-ukrainian

For each checkpoint a new process loads it from its path alone and compares the logits of its probe with those of
the model that was saved: "0" means equal bit by bit (the sha256 of all of them is the same).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

RELOAD = """
import json, sys
from pathlib import Path
from fastvocab.errors import FastvocabError
from fastvocab.model import checkpoint, probe
for folder in sys.argv[1:]:
    try:
        model, _ = checkpoint.load(folder)
        saved = json.loads((Path(folder) / "fastvocab.json").read_text())["probe"]
        now = probe.take(model, saved["ids"])
        same = now["sha256"] == saved["sha256"]
        apart = max(abs(a - b) for x, y in zip(now["logits"], saved["logits"]) for a, b in zip(x, y))
        print(json.dumps("0" if same else f"{apart:.3g}"), flush=True)
    except FastvocabError as error:
        print(json.dumps(str(error)), flush=True)
"""


def reload(folders: list[Path]) -> list[str]:
    """What a fresh process makes of each checkpoint: "0", the largest difference, or the error."""
    command = [sys.executable, "-c", RELOAD, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('"')]
    missing = len(folders) - len(found)
    return found + [(done.stderr.strip().splitlines() or ["no answer"])[-1]] * missing


def main(run: Path) -> int:
    """Print the two tables; 1 if a reload differs."""
    different = 0
    total = training = 0.0
    records = sorted(run.glob("[0-9][0-9]-*/stage.json"))
    checkpoints = [r.parent for r in records if (r.parent / "fastvocab.json").is_file()]
    reloads = dict(zip(checkpoints, reload(checkpoints)))
    print(f"{'stage':10} {'seconds':>8} {'in train()':>10} {'peak GB':>8}  reload: largest logit difference")
    for record in records:
        data = json.loads(record.read_text(encoding="utf-8"))
        figures, inside = data["figures"], data["figures"].get("seconds_training", 0.0)
        total, training = total + data["seconds"], training + inside
        peak = figures.get("peak_memory_bytes")
        found = reloads.get(record.parent, "")
        different += found not in ("", "0")
        shown = f"{peak / 1e9:8.2f}" if peak else " " * 8
        print(f"{data['stage']:10} {data['seconds']:8.1f} {inside or '':>10} {shown}  {found}")
    print(
        f"{'all':10} {total:8.1f} {training:10.1f}           {training / total:.0%} of the time inside train()"
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
