"""Reading a configuration: YAML 1.2, then ``key=value`` overrides; every mistake reported, all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from fastvocab.config.models import Config
from fastvocab.errors import ConfigError


def load(
    path: Path | str | None = None,
    overrides: Sequence[str] = (),
    *,
    defaults: dict[str, Any] | None = None,
) -> Config:
    """A `Config` from defaults, a YAML file and overrides, later ones winning key by key.

    Args:
        path: YAML 1.2 (so ``language: no`` is Norwegian and ``1e-4`` a number), or None.
        overrides: ``section.key=value`` or ``--section.key=value``; values are read as YAML.
        defaults: what a recipe sets before the person speaks.

    Raises:
        ConfigError: with every mistake: path of the key, value, rule, nearest valid name.
    """
    data: dict[str, Any] = {}
    _merge(data, defaults or {})
    problems: list[str] = []
    if path is not None:
        _merge(data, read_yaml(Path(path)))
    for key, value, text in parse_overrides(overrides, problems):
        _put(data, key, value, text, problems)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        problems += [_explain(dict(e)) for e in error.errors()]
    if problems:
        head = (
            f"{len(problems)} mistakes in the configuration"
            if len(problems) > 1
            else "mistake in the configuration"
        )
        where = f" ({path})" if path else ""
        raise ConfigError("\n".join([head + where, *(f"  {p}" for p in problems)]))
    return config


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a dictionary; syntax errors name the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        near = get_close_matches(path.name, siblings, 1) or siblings[:3]
        raise ConfigError(
            f"there is no file {path}", fix=f"there is: {', '.join(near)}" if near else None
        ) from None
    except (IsADirectoryError, PermissionError) as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 at byte {error.start}") from None
    try:
        data = _yaml().load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: {error.problem}", rule="the file must be YAML") from None
    except YAMLError as error:
        raise ConfigError(f"{path}: {error}", rule="the file must be YAML") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path} holds a {type(data).__name__}", rule="keys and values are needed, such as name: x"
        )
    return data


def dump(config: Config) -> str:
    """YAML of a whole configuration, re-runnable as it is."""
    out = StringIO()
    yaml = YAML(pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = 4096
    yaml.dump(config.model_dump(mode="json"), out)
    return out.getvalue()


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    return yaml


def parse_overrides(overrides: Sequence[str], problems: list[str]) -> Iterator[tuple[list[str], Any, str]]:
    """``key=value``, ``--key=value`` and ``--key value`` as (path, value, text).

    What is neither goes to ``problems``.
    """
    items = list(overrides)
    while items:
        text = items.pop(0)
        key, equals, raw = text.removeprefix("--").partition("=")
        if not equals and text.startswith("--") and items and not items[0].startswith("--"):
            raw, equals = items.pop(0), "="
        key = key.replace("-", "_")
        if not equals or not key or not all(part.isidentifier() for part in key.split(".")):
            problems.append(f"{text!r} is no override; write section.key=value, such as pretrain.steps=100")
            continue
        yield key.split("."), _scalar(raw), raw


def _scalar(raw: str) -> Any:
    try:
        value = _yaml().load(raw)
    except YAMLError:
        return raw  # a glob such as *.txt is an alias to YAML and a plain string to people
    return raw if isinstance(value, dict) else value


def _put(data: dict[str, Any], key: list[str], value: Any, text: str, problems: list[str]) -> None:
    node = data
    for part in key[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            problems.append(f"{'.'.join(key)}={text}: {part} is no section")
            return
    node[key[-1]] = value


def _merge(into: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, dict) else value


def keys(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """All valid keys, dotted."""
    out = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            out += keys(kind, f"{prefix}{name}.")
        else:
            out.append(prefix + name)
    return out


def _explain(error: dict[str, Any]) -> str:
    path = [str(part) for part in error["loc"] if not str(part).startswith("function-")]
    where, value = ".".join(path), error.get("input")
    if error["type"] == "extra_forbidden":
        valid = keys()
        if isinstance(value, dict):  # a section's name: its keys tell which is meant
            sections = {key.rpartition(".")[0] for key in valid} - {""}
            if near := get_close_matches(where, sections, 1, 0.6):
                return f"{where}: unknown section; did you mean {near[0]}?"
        near = get_close_matches(where, valid, 1, 0.75)
        leaf = [k for k in valid if k.split(".")[-1] == path[-1]] or [
            k for k in valid if get_close_matches(path[-1], [k.split(".")[-1]], 1, 0.75)
        ]
        hint = near[0] if near else leaf[0] if leaf else None
        section = ".".join(path[:-1])
        siblings = [k for k in valid if k.startswith(section + ".")] if section else []
        known = (
            f"; {section} has {', '.join(s.removeprefix(section + '.') for s in siblings)}"
            if siblings
            else ""
        )
        return f"{where}: unknown key" + (f"; did you mean {hint}?" if hint else known)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] in ("model_type", "model_attributes_type"):
        inside = [key for key in keys() if key.startswith(f"{where}.")]
        return f"{where}: {value!r}: this is a section, with the keys {', '.join(inside)}"
    if error["type"] == "tuple_type":
        empty = "nothing is given; [] means none" if value is None else f"{value!r}"
        return f"{where}: {empty}: a value, or a list of values, is expected"
    if error["type"] == "literal_error":
        near = get_close_matches(str(value), _choices(error), 1, 0.5)
        message += f"; did you mean {near[0]}?" if near else ""
    return f"{where}: {value!r}: {message[0].lower() + message[1:]}"


def _choices(error: dict[str, Any]) -> list[str]:
    expected = str(error.get("ctx", {}).get("expected", ""))
    return [part.strip(" '") for part in expected.replace(" or ", ",").split(",")]
