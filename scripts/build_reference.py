"""Write recipes/REFERENCE.md from the code: keys, verbs and options, exit codes, environment, the run folder.

    python scripts/build_reference.py
    python scripts/build_reference.py --check     (exit code 1 where the page is not what the code says)

Keys are those of the configuration's models, verbs those of the typer app, exit codes those of the error classes, and
environment variables those that a scan of the sources finds. Only what no code says stands here: a sentence for each
variable and for each file of a run. Nothing imports torch.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from typer.models import ArgumentInfo, OptionInfo

from fastvocab import errors
from fastvocab.cli import app
from fastvocab.config import STAGES
from fastvocab.config.models import Config
from fastvocab.recipes.embedded import ITEM_TOKENS, NEW_LANGUAGE, SPECIAL_TOKENS

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "recipes" / "REFERENCE.md"
COMMAND = "python scripts/build_reference.py"
RECIPES = (NEW_LANGUAGE, SPECIAL_TOKENS, ITEM_TOKENS)

HEAD = f"""\
# Reference

Written by `{COMMAND}` from the code, so that it says what the code does: change it there.
For what to choose see [CHOOSING.md](CHOOSING.md), for how to begin the [README](../README.md).

[Keys](#keys) · [Commands](#commands) · [Exit codes](#exit-codes) · [Environment](#environment) ·
[The run folder](#the-run-folder)

"""

#: What an environment variable is for. A variable that is read and not here, or here and not read, is an error.
VARIABLES = {
    "CUDA_VISIBLE_DEVICES": "Which GPUs there are for the plan and for torch; empty for none.",
    "FASTVOCAB_CACHE": "Folder for the embedded base and for where bases were seen. Unset: `~/.cache/fastvocab`.",
    "HF_HOME": "Folder of the Hub's cache and token, for `fastvocab doctor`. Unset: `~/.cache/huggingface`.",
    "HF_HUB_OFFLINE": "Set: nothing is fetched from the Hub or uploaded.",
    "HF_TOKEN": "Token for gated or private models and data sets of the Hub. Never written anywhere.",
    "HF_TOKEN_PATH": "File of the Hub's token, for `fastvocab doctor`. Unset: `token` in `HF_HOME`.",
    "MLFLOW_EXPERIMENT_NAME": "With `track: [mlflow]`: the experiment. Unset: the run's name.",
    "MLFLOW_TRACKING_URI": "With `track: [mlflow]`: a server or a store. Unset: `track/` of the run folder.",
    "OMP_WAIT_POLICY": "`ACTIVE`: idle threads spin, `PASSIVE`: they sleep. Unset: they sleep beside busy programs.",
    "RANK": "Number of this process; set by `torchrun` and `accelerate launch`.",
    "TRACKIO_DIR": "With `track: [trackio]`: where it keeps its runs. Unset: `track/` of the run folder.",
    "WANDB_API_KEY": "With `track: [wandb]`: curves are sent to wandb. Unset: they stay here.",
    "WANDB_DIR": "With `track: [wandb]`: where it writes. Unset: `track/` of the run folder.",
    "WANDB_MODE": "With `track: [wandb]`: `online`, `offline`... Unset: online with a `WANDB_API_KEY`, else offline.",
    "WANDB_PROJECT": "With `track: [wandb]`: the project. Unset: the run's name.",
    "WORLD_SIZE": "How many processes train together; set by the same.",
    "XDG_CACHE_HOME": "Folder for caches, where `FASTVOCAB_CACHE` is not set.",
}
#: Variables that fastvocab sets, unless they are set already.
_SET = "`UNSLOTH_DISABLE_STATISTICS=1` (Unsloth calls nobody)"

#: Folder of a run -> file -> what it is. Names without a stage's folder lie in the run folder itself.
FILES = {
    "": {
        "config.yaml": "The whole configuration; runs again as it is: `fastvocab run runs/NAME/config.yaml`.",
        "report.html": "The report, one page without network.",
        ".saves": "Saves of a stage that trains; gone once it is finished.",
        "track": "What trackers keep, with the key `track`.",
        "exports": "What `fastvocab export` made later, with made.json, which says what of.",
    },
    "corpus": {
        "train.jsonl": "Documents to train on.",
        "heldout.jsonl": "Documents that nothing trains on, for measuring.",
        "replay.jsonl": "The same of the language to keep; `replay_heldout.jsonl` for measuring.",
        "dropped.jsonl": "What was dropped, with the reason.",
        "interactions.jsonl": "Of `item_tokens`: each user's history; `items.jsonl` has the catalogue.",
    },
    "tokenizer": {
        "tokenizer.json": "The extended tokenizer, with tokenizer_config.json (and tokenizer.model) beside it.",
        "new_tokens.jsonl": "Each new token with the old ones that it replaces.",
        "merge.json": "How it was made, with every figure and every proof.",
        "item_tokens.json": "Of `item_tokens`: items and their tokens, both ways.",
    },
    "extend": {
        "fastvocab.json": "The checkpoint's manifest: base, rows, lineage, hashes, probe.",
        "rows.safetensors": "The rows that differ from the base, each once.",
    },
    "pretrain": {
        "adapter_model.safetensors": "The adapter as plain PEFT, with adapter_config.json.",
        "layers.safetensors": "The layers' own weights instead, with `layers: full`.",
        "log.jsonl": "A line for each logged step: loss, rates, tokens a second, memory.",
    },
    "instruct": {"log.jsonl": "As in pretraining; the checkpoint has the same files."},
    "evaluate": {"evaluation.json": "Figures, intervals and samples of each point of the line."},
    "export": {
        "model.safetensors": "The plain 16-bit model, with its tokenizer and config.json.",
        "README.md": "The model card.",
    },
}


def keys() -> str:
    """A table for each section of the configuration."""
    schema = Config.model_json_schema()
    out = [
        "## Keys\n",
        "As `key=value` on the command line, or in a YAML file. *recipes* says who reads a key, where not all do:",
        "`language` is `new_language`, `tags` is `special_tokens`, `items` is `item_tokens`. To set a key that a",
        "recipe does not read is an error.\n",
    ]
    out += _section(Config, "", schema, "The whole run")
    for recipe in RECIPES[1:]:
        changed = ", ".join(f"`{key}={_shown(value)}`" for key, value in _flat(recipe.always))
        out.append(f"Defaults of `{recipe.recipe}` that differ: {changed}.\n")
    return "\n".join(out)


def _section(model: type[BaseModel], prefix: str, schema: dict[str, Any], title: str) -> list[str]:
    """Table of the keys of one section, then those of the sections in it."""
    named = schema["$defs"].get(model.__name__, schema)["properties"]
    rows, inner = [], []
    for name, field in model.model_fields.items():
        kind, key = field.annotation, prefix + name
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            inner += _section(kind, f"{key}.", schema, f"`{key}`: {_sentence(kind.__doc__)}")
        else:
            default = "" if field.default is None else f"`{_shown(field.default)}`"
            rows.append(
                (f"`{key}`", _values(named[name], schema), default, field.description or "", _readers(key))
            )
    return [f"### {title}\n", *_table(("key", "value", "default", "what", "recipes"), rows), "", *inner]


def _values(given: dict[str, Any], schema: dict[str, Any]) -> str:
    """Type and limits of a key, in words."""
    if "anyOf" in given:
        kinds = [_values(one, schema) for one in given["anyOf"] if one.get("type") != "null"]
        return " or ".join(kinds)
    if "$ref" in given:
        return f"{{{', '.join(schema['$defs'][given['$ref'].rsplit('/', 1)[1]]['properties'])}}}"
    if "enum" in given or "const" in given:
        return ", ".join(f"`{value}`" for value in given.get("enum", [given.get("const")]))
    kind = given["type"]
    if kind == "array":
        return f"list of {_values(given['items'], schema)}"
    if kind == "object":
        return "names and texts"
    if kind == "boolean":
        return "`true`, `false`"
    if kind == "string":
        return "text"
    limits = [
        f"{sign}{given[name]:,}"
        for name, sign in (
            ("minimum", "from "), ("exclusiveMinimum", "above "), ("maximum", "to "), ("exclusiveMaximum", "below "),
        )
        if name in given
    ]  # fmt: skip
    return " ".join(["whole number" if kind == "integer" else "number", *limits])


def _readers(key: str) -> str:
    short = {"new_language": "language", "special_tokens": "tags", "item_tokens": "items"}
    read = [short[recipe.recipe] for recipe in RECIPES if not key.startswith(recipe.idle)]
    return "" if len(read) == len(RECIPES) else ", ".join(read)


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        yield from _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]


def _shown(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return value
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def commands() -> str:
    """Each verb with its arguments and options."""
    out = [
        "## Commands\n",
        "With uv put `uv run` before them. `--verbose`, before the verb, shows what libraries print.\n",
    ]
    for words, function, takes_keys in sorted(_verbs(app, "fastvocab"), key=lambda verb: verb[0]):
        rows = [_parameter(*one) for one in _parameters(function)]
        positional = [name for name, *_ in rows if not name.startswith("`-")]
        usage = " ".join(
            [
                words,
                *(name.strip("`") for name in positional),
                *(["[FILE] [KEY=VALUE ...]"] if takes_keys else []),
            ]
        )
        out += [f"### `{usage}`\n", inspect.getdoc(function) or "", ""]
        out += [*_table(("argument or option", "value", "default", "what"), rows), ""] if rows else []
    out.append(
        "`python -m fastvocab.recipes.NAME` (`new_language`, `special_tokens`, `item_tokens`) is `fastvocab run` of\n"
        "that recipe, with `--config FILE`, `--dry-run`, `--resume` and `--fresh`.\n"
    )
    return "\n".join(out)


def _verbs(group: typer.Typer, name: str) -> Iterator[tuple[str, Any, bool]]:
    """(words, function, whether it takes keys of the configuration) of every verb."""
    for command in group.registered_commands:
        function = command.callback
        assert function is not None, "a verb calls something"
        keys = bool((command.context_settings or {}).get("allow_extra_args"))
        yield f"{name} {command.name or function.__name__.replace('_', '-')}", function, keys
    for inner in group.registered_groups:
        assert inner.typer_instance is not None, "a group of verbs"
        yield from _verbs(inner.typer_instance, f"{name} {inner.name}")


def _parameters(function: Any) -> Iterator[tuple[str, Any, ArgumentInfo | OptionInfo]]:
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        found = parameter.default
        if typing.get_origin(hints[name]) is typing.Annotated:
            kind, found = typing.get_args(hints[name])[:2]
            if parameter.default is not inspect.Parameter.empty:
                found = type(found)(**{**vars(found), "default": parameter.default})
            hints[name] = kind
        if isinstance(found, ArgumentInfo | OptionInfo):
            yield name, hints[name], found


def _parameter(name: str, kind: Any, info: ArgumentInfo | OptionInfo) -> tuple[str, str, str, str]:
    """(name, value, default, help) of one argument or option."""
    own = next(
        one for one in (typing.get_args(kind) if type(None) in typing.get_args(kind) else (kind,)) if one
    )
    several = typing.get_origin(own) is list
    own = typing.get_args(own)[0] if several else own
    shown = name.strip("_").upper() if isinstance(info, ArgumentInfo) else ", ".join(info.param_decls or ())
    shown = shown or "--" + name.replace("_", "-")
    if info.metavar:
        value = ", ".join(f"`{one}`" for one in info.metavar.split("|"))
    elif typing.get_origin(own) is typing.Literal:
        value = ", ".join(f"`{one}`" for one in typing.get_args(own))
    else:
        value = {bool: "", int: "whole number", float: "number", Path: "path", str: "text"}[own]
    limits = [
        f"{word} {limit:g}" for word, limit in (("from", info.min), ("to", info.max)) if limit is not None
    ]
    required = info.default is ...
    shown = f"[{shown}]" if isinstance(info, ArgumentInfo) and not required else shown
    shown += " ..." if several and isinstance(info, ArgumentInfo) else ""
    unset = info.default is None or info.default is False or info.default in ((), [])
    default = "required" if required else "" if unset else f"`{_shown(info.default)}`"
    return f"`{shown}`", " ".join([value, *limits]), default, info.help or ""


def exit_codes() -> str:
    """Of the error classes, in the order of the codes."""
    kinds = [one for one in vars(errors).values() if inspect.isclass(one)]
    found = [one for one in kinds if issubclass(one, errors.FastvocabError)]
    rows = [("0", "Done.")]
    for one in sorted(found, key=lambda cls: cls.exit_code):
        said = (
            "Anything else: a fault of fastvocab, with a traceback."
            if one is errors.FastvocabError
            else _sentence(one.__doc__)
        )
        rows.append((str(one.exit_code), said))
    rows += [
        ("130", "Ctrl-C: everything finished is safe; the same command goes on."),
        ("143", "The same of SIGTERM."),
    ]
    return "## Exit codes\n\n" + "\n".join(_table(("code", "what it means"), rows)) + "\n"


def environment() -> str:
    """Variables that the sources read."""
    read = variables()
    if wrong := sorted(read.keys() ^ VARIABLES.keys()):
        raise SystemExit(f"VARIABLES in {Path(__file__).name} and the sources differ: {', '.join(wrong)}")
    rows = [
        (f"`{name}`", VARIABLES[name], ", ".join(f"`{path}`" for path in read[name])) for name in sorted(read)
    ]
    return (
        "## Environment\n\n"
        + "\n".join(_table(("variable", "what for", "read in"), rows))
        + "\n\nLibraries read their own (`HF_HOME`, `HF_HUB_OFFLINE`, `OMP_NUM_THREADS`...). fastvocab sets\n"
        + f"{_SET}. The value of any variable that is named like a secret (`*TOKEN`,\n"
        "`*KEY`, `*PASSWORD`...) is taken out of everything that is printed or logged.\n"
    )


@cache
def variables() -> dict[str, list[str]]:
    """Names of environment variables that are read anywhere in the package -> the files."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "fastvocab").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in _read(node):
                found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return {name: sorted(paths) for name, paths in found.items()}


def _read(node: ast.AST) -> Iterator[str]:
    """Names that a piece of code reads: os.environ.get("X"), os.getenv("X"), os.environ["X"], "X" in os.environ."""
    named: list[ast.expr] = []
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv"):
        named = node.args[:1]
    elif (
        isinstance(node, ast.Subscript)
        and ast.unparse(node.value) == "os.environ"
        and isinstance(node.ctx, ast.Load)
    ):
        named = [node.slice]
    elif isinstance(node, ast.Compare) and any(ast.unparse(one) == "os.environ" for one in node.comparators):
        named = [node.left]
    yield from (one.value for one in named if isinstance(one, ast.Constant) and isinstance(one.value, str))


def run_folder() -> str:
    """Folders of a run and their files."""
    rows = []
    for stage in ("", *STAGES):
        folder = f"{STAGES.index(stage) + 1}0-{stage}/" if stage else ""
        rows += [(f"`{folder}{name}`", said) for name, said in FILES[stage].items()]
    rows.append(
        (
            "`*/stage.json`",
            "The record of a stage, written last: settings, inputs and outputs with hashes, versions, figures.",
        )
    )
    return (
        "## The run folder\n\n`runs/NAME/`, or `RUNS/NAME/` with the keys `runs` and `name`.\n\n"
        + "\n".join(_table(("file", "what"), rows))
    )


def _sentence(text: str | None) -> str:
    return " ".join((text or "").strip().split("\n\n")[0].split())


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """A Markdown table; a column that is empty in every row is left out."""
    used = [n for n in range(len(head)) if any(row[n] for row in rows)]

    def line(cells: typing.Iterable[str]) -> str:
        return "| " + " | ".join(map(_cell, cells)) + " |"

    return [
        line(head[n] for n in used),
        "|" + "---|" * len(used),
        *(line(row[n] for n in used) for row in rows),
    ]


def _cell(text: str) -> str:
    """Text for a table: what Markdown or HTML would swallow is spelled out, except in code."""
    parts = text.replace("\n", " ").split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*") for part in parts[::2]]
    return "`".join(parts).replace("|", "\\|")


def text() -> str:
    """The whole page."""
    return HEAD + "\n".join([keys(), commands(), exit_codes(), environment(), run_folder()]) + "\n"


def main(arguments: list[str]) -> int:
    """Write, or with ``--check`` only compare; returns the exit code."""
    if arguments == ["--check"]:
        if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text():
            return 0
        print(f"recipes/{TARGET.name} is not what the code says: {COMMAND}", file=sys.stderr)
        return 1
    TARGET.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
