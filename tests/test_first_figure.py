"""The clock from a fresh clone to the first figure: on a repository whose README types something quick."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
first_figure = importlib.import_module("first_figure")


def repository(folder: Path, command: str) -> Path:
    folder.mkdir()
    (folder / "README.md").write_text(f"# x\n\n```\n{command}\n```\n\n```\nexit 9\n```\n", encoding="utf-8")
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def test_it_stops_at_the_first_figure(tmp_path: Path, capsys: Any) -> None:
    mark = tmp_path / "went on"
    said = "continued: 8,000 new tokens, 5.02 -> 1.632 tokens a held-out word"
    command = f"echo 'Installed 153 packages in 22.10s' && echo '{said}' && sleep 300 && touch '{mark}'"
    assert first_figure.main(str(repository(tmp_path / "made", command))) == 0
    said_so = capsys.readouterr()
    found = json.loads(said_so.out)
    assert found["figure"] == said and not mark.exists()
    assert found["seconds"] >= found["of them the clone"] >= 0
    assert "Installed 153 packages" in said_so.err


def test_without_a_figure_there_is_no_number(tmp_path: Path, capsys: Any) -> None:
    assert first_figure.main(str(repository(tmp_path / "made", "echo 'base tokenizer: 49,152 ids'"))) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        (
            "tokens per word on held-out text: 5.22 -> 1.90 (a fresh SentencePiece model of as many pieces: 1.91)",
            True,
        ),
        ("  base: 2.113 bits per byte (95%: 2.042 to 2.194)", True),
        ("  445 conversations, 7,182 tokens of replies, 9 dropped: empty_reply", False),
        ("their rows: 4,608,000 parameters, 9.2 MB (73.7 in full training)", False),
    ],
)
def test_what_is_a_figure(line: str, is_one: bool) -> None:
    assert bool(first_figure.FIGURE.search(line)) == is_one


def test_the_command_is_the_one_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert first_figure.command(readme) == "pip install uv && uv run python -m fastvocab.recipes.new_language"
    assert "```\npip install uv && uv run pytest\n```" in readme
