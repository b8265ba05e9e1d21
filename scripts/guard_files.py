"""Refuse files that do not belong into the repository: large ones, weights, keys.

python scripts/guard_files.py FILE...
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

LARGEST = 500_000
WEIGHTS = {".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt"}
KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bhf_[A-Za-z0-9]{30,}|\bsk-[A-Za-z0-9]{30,}")


def faults(path: Path) -> list[str]:
    """What is wrong with one file."""
    found = []
    if path.suffix in WEIGHTS:
        found.append(f"{path}: weights are not committed")
    if path.stat().st_size > LARGEST:
        found.append(f"{path}: {path.stat().st_size:,} bytes, at most {LARGEST:,}")
    elif KEY.search(path.read_bytes()):
        found.append(f"{path}: holds what looks like a key")
    return found


if __name__ == "__main__":
    problems = [fault for name in sys.argv[1:] if Path(name).is_file() for fault in faults(Path(name))]
    sys.stderr.write("".join(f"{p}\n" for p in problems))
    sys.exit(1 if problems else 0)
