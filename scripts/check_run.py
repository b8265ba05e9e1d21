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
from fastvocab.model import checkpoint
manifest = json.loads((Path(sys.argv[1]) / "fastvocab.json").read_text())
model, _ = checkpoint.load(sys.argv[1])
now, saved = checkpoint._probe(model, manifest["probe"]["ids"]), manifest["probe"]
difference = max(abs(a - b) for x, y in zip(now["logits"], saved["logits"]) for a, b in zip(x, y))
print(json.dumps([now["sha256"] == saved["sha256"], difference]))
"""


def main(run: Path) -> int:
    """Print the two tables; 1 if a reload differs."""
    different = 0
    total = training = 0.0
    print(f"{'stage':10} {'seconds':>8} {'in train()':>10} {'peak GB':>8}  reload: largest logit difference")
    for record in sorted(run.glob("[0-9][0-9]-*/stage.json")):
        data = json.loads(record.read_text(encoding="utf-8"))
        figures, inside = data["figures"], data["figures"].get("seconds_training", 0.0)
        total, training = total + data["seconds"], training + inside
        peak = figures.get("peak_memory_bytes")
        reload = ""
        if (record.parent / "fastvocab.json").is_file():
            done = subprocess.run(
                [sys.executable, "-c", RELOAD, str(record.parent)], capture_output=True, text=True
            )
            if done.returncode:
                reload = done.stderr.strip().splitlines()[-1]
                different += 1
            else:
                same, difference = json.loads(done.stdout.strip().splitlines()[-1])
                reload = "0" if same else f"{difference:.3g}"
                different += not same
        shown = f"{peak / 1e9:8.2f}" if peak else " " * 8
        print(f"{data['stage']:10} {data['seconds']:8.1f} {inside or '':>10} {shown}  {reload}")
    print(
        f"{'all':10} {total:8.1f} {training:10.1f}           {training / total:.0%} of the time inside train()"
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
