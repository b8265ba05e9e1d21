"""Text of a translated manual: what scripts/manual_text.py takes from pages, and what it leaves."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"

FIRST = """<!DOCTYPE html><html lang="el"><head><title>Τίτλος</title><style>p { color: red }</style></head>
<body><header><p>Μενού του ιστότοπου</p></header><nav><ul><li>Περιεχόμενα</li></ul></nav>
<h1>Γραφήματα</h1>
<p>Επιλέξτε <span class="emph">Δεδομένα &amp; σειρές</span>
   και <a href="x.html">πατήστε</a> OK.</p>
<p>This paragraph was never translated, said Ο Άρης.</p>
<ul><li>Πρώτο<ul><li>Εσωτερικό</li></ul></li><li>12 &gt; 7</li></ul>
<script>var text = "Κείμενο κώδικα";</script></body></html>"""
SECOND = "<h1>Γραφήματα</h1><p>Νέα παράγραφος<p>χωρίς τέλος"


@pytest.fixture
def manual_text(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("manual_text")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, page in {"a/1.html": FIRST, "b/2.html": SECOND, "b/3.html": "<p>Γραφήματα</p>"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(page, encoding="utf-8")
    return tmp_path


def test_paragraphs_of_the_language_are_taken_once_and_nothing_else(manual_text: Any, folder: Path) -> None:
    assert list(manual_text.pages(folder, "el")) == [
        "Γραφήματα\nΕπιλέξτε Δεδομένα & σειρές και πατήστε OK.\nΠρώτο\nΕσωτερικό",
        "Νέα παράγραφος\nχωρίς τέλος",
    ]


def test_the_command_writes_documents_or_says_that_there_are_none(folder: Path, tmp_path: Path) -> None:
    def command(language: str) -> Any:
        return subprocess.run(
            [sys.executable, str(SCRIPTS / "manual_text.py"), str(folder), language, str(tmp_path / "out.jsonl")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert command("el").returncode == 0
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[1]) == {"text": "Νέα παράγραφος\nχωρίς τέλος"} and len(lines) == 2
    refused = command("th")
    assert refused.returncode == 2 and "has text in th" in refused.stderr
