"""Scripts run for minutes or on machines that are not here: what they use of the package is there."""

from __future__ import annotations

import ast
import importlib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "scripts").glob("*.py"))


def imported(body: list[ast.stmt]) -> dict[str, Any]:
    """What each name stands for that these statements import from fastvocab."""
    found: dict[str, Any] = {}
    for node in (node for statement in body for node in ast.walk(statement)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fastvocab":
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
                found[alias.asname or alias.name] = getattr(module, alias.name)
    return found


def missing(scope: ast.Module | ast.FunctionDef, known: dict[str, Any]) -> Iterator[str]:
    """Attributes of imported modules that are not there, as ``module.attribute``."""
    inner = [node for node in ast.walk(scope) if isinstance(node, ast.FunctionDef) and node is not scope]
    own = set(ast.walk(scope)) - {node for part in inner for node in ast.walk(part)}
    bound = {node.id for node in own if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {argument.arg for argument in scope.args.args} if isinstance(scope, ast.FunctionDef) else set()
    names = {name: thing for name, thing in known.items() if name not in bound}
    names |= imported([node for node in own if isinstance(node, ast.stmt)])
    for node in own:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = names.get(node.value.id)
            if isinstance(module, types.ModuleType) and not hasattr(module, node.attr):
                yield f"{module.__name__}.{node.attr}"
    for part in inner:
        yield from missing(part, names)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_script_uses_of_the_package_is_there(path: Path) -> None:
    assert not list(missing(ast.parse(path.read_text(encoding="utf-8")), {}))
