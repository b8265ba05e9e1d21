"""The reference page is what the code says, and the pages' links lead somewhere."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from fastvocab.cli import app
from fastvocab.config import describe

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
build_reference = importlib.import_module("build_reference")
PAGES = [ROOT / "README.md", *sorted((ROOT / "recipes").glob("*.md"))]


def test_the_page_is_current_and_made_without_torch() -> None:
    script = ROOT / "scripts" / "build_reference.py"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(script), "--check"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    own = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 0, own
    imported = {
        line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if "import time:" in line
    }
    assert "fastvocab" in imported and not imported & {"torch", "unsloth", "transformers"}


def test_a_stale_page_is_an_error_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(build_reference, "TARGET", tmp_path / "REFERENCE.md")
    assert build_reference.main(["--check"]) == 1  # there is none
    assert build_reference.main([]) == 0 == build_reference.main(["--check"])
    monkeypatch.setitem(build_reference.VARIABLES, "RANK", "Something else.")
    assert build_reference.main(["--check"]) == 1
    assert "python scripts/build_reference.py" in capsys.readouterr().err


def test_every_key_and_every_option_that_typer_knows_is_in_it() -> None:
    """Options by another way than the page takes: from the command that typer builds of the app."""
    page = build_reference.TARGET.read_text(encoding="utf-8")
    for key, _, help_text in describe.rows():
        line = next((line for line in page.splitlines() if line.startswith(f"| `{key}` |")), "")
        assert line, key
        assert build_reference._cell(help_text) in line

    def walk(command: Any, words: str) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{words} {name}")
        if hasattr(command, "commands"):
            return
        start = re.search(rf"^### `{words}(?: [^a-z`][^`]*)?`$", page, re.M)
        assert start is not None, words
        part = page[start.end() :].split("\n### ")[0].split("\n## ")[0]
        for parameter in command.params:
            if parameter.name == "help":
                continue
            wanted = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.name.upper()
            assert wanted in part or wanted in start[0], (words, wanted)
            assert not getattr(parameter, "help", None) or build_reference._cell(parameter.help) in part

    walk(typer.main.get_command(app), "fastvocab")


def test_what_markdown_would_swallow_is_spelled_out() -> None:
    assert build_reference._cell("a|b <unused0> *.txt") == r"a\|b &lt;unused0> \*.txt"
    assert build_reference._cell("`<a|b>` x\ny") == r"`<a\|b>` x y"


def test_a_variable_that_is_read_and_not_described_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(build_reference.VARIABLES, "FASTVOCAB_CACHE")
    monkeypatch.setitem(build_reference.VARIABLES, "NOBODY_READS_IT", "x")
    with pytest.raises(SystemExit, match="FASTVOCAB_CACHE, NOBODY_READS_IT"):
        build_reference.environment()


@pytest.mark.parametrize("name", sorted({n for files in build_reference.FILES.values() for n in files}))
def test_files_of_a_run_are_files_that_something_writes_or_reads(name: str) -> None:
    known = ("model.safetensors", "README.md", "adapter_model.safetensors")  # by transformers, ours, by PEFT
    sources = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "fastvocab").rglob("*.py"))
    assert name in known or f'"{name}"' in sources or f"/{name}" in sources


def anchors(page: Path) -> set[str]:
    """Headings of a page as GitHub links them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = page if not path else (page.parent / path).resolve()
        assert found.exists(), target
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), target


def test_commands_in_the_pages_are_commands() -> None:
    """Verbs and options of `fastvocab`, and the scripts and files that pages name."""
    known = {words: function for words, function, _ in build_reference._verbs(app, "fastvocab")}
    options = {
        words: set(re.findall(r"--[a-z-]+", " ".join(row[0] for row in map(_row, _parameters(function)))))
        for words, function in known.items()
    }
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = "\n".join(re.findall(r"```\n(.*?)```", text, re.S)).replace("\\\n", " ")
        lines = re.findall(r"^(?:uv run )?(fastvocab [a-z].*)", blocks, re.M)
        lines += re.findall(r"`(?:uv run )?(fastvocab [a-z][^`]*)`", text)
        for line in lines:
            words = max(
                (words for words in known if f"{line} ".startswith(f"{words} ")), key=len, default=None
            )
            if words is None:  # several verbs on one line
                assert set(re.findall(r"[a-z]+", line.split("  ")[0])) <= {
                    part for words in known for part in words.split()
                }, (page.name, line)
            else:
                used = set(re.findall(r"(?<![\w-])--[a-z-]+", line.split("  #")[0]))
                assert used <= options[words] | {"--help"}, (page.name, line)
        for script in re.findall(r"scripts/[\w/]+\.py", text):
            assert (ROOT / script).is_file(), (page.name, script)
        for named in re.findall(r"recipes/[\w.-]+\.(?:yaml|ipynb|md)", text):
            assert (ROOT / named).is_file(), (page.name, named)


def _parameters(function: Any) -> list[Any]:
    return list(build_reference._parameters(function))


def _row(one: Any) -> tuple[str, ...]:
    return tuple(build_reference._parameter(*one))
