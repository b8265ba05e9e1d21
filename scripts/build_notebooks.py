"""Make recipes/*.ipynb from scripts/notebooks/*.py (jupytext, percent format), always the same bytes, without outputs.

python scripts/build_notebooks.py            (writes them; with --check it says which differ, and a test fails)

A cell marked ``include="FILE"`` is continued with that file of the same folder: what all notebooks share is written
once. Files that begin with an underscore are no notebooks themselves.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import jupytext
import nbformat

SOURCES = Path(__file__).parent / "notebooks"
TARGETS = Path(__file__).parents[1] / "recipes"


def build(source: Path) -> str:
    """The text of a notebook: Colab offers a GPU for it, and a cell keeps its id as long as its text."""
    notebook = jupytext.read(source, fmt="py:percent")
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        if included := cell.metadata.pop("include", None):
            cell.source += "\n\n" + (source.parent / included).read_text(encoding="utf-8").strip()
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
    notebook.metadata = nbformat.from_dict(
        {
            "accelerator": "GPU",
            "colab": {"gpuType": "T4", "name": f"{source.stem}.ipynb", "provenance": [], "toc_visible": True},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def notebooks() -> dict[Path, str]:
    """Every notebook that there is to be, with its text."""
    return {
        TARGETS / f"{source.stem}.ipynb": build(source)
        for source in sorted(SOURCES.glob("[!_]*.py"))
    }  # fmt: skip


def differing(wanted: dict[Path, str]) -> list[str]:
    """What is wrong with the notebooks that lie there, a line for each."""
    wrong = [
        f"{path.name}: {'differs from its script' if path.is_file() else 'is missing'}"
        for path, text in wanted.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    return wrong + [
        f"{path.name}: has no script" for path in sorted(TARGETS.glob("*.ipynb")) if path not in wanted
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where one differs")
    wanted = notebooks()
    if parser.parse_args().check:
        wrong = differing(wanted)
        print("\n".join([*wrong, "run python scripts/build_notebooks.py"] if wrong else ["up to date"]))
        return 1 if wrong else 0
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(TARGETS.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
