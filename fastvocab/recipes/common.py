"""What every recipe needs around its list of stages: the command line, the base model, the end of a run."""

from __future__ import annotations

import importlib
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from fastvocab import console, processes
from fastvocab.config import Config, describe
from fastvocab.config import load as load_config
from fastvocab.errors import ConfigError, FastvocabError, ResourceError, Stopped
from fastvocab.model import backend
from fastvocab.plan import bases, checks
from fastvocab.plan import device as devices
from fastvocab.recipes import given, planning
from fastvocab.recipes.embedded import Defaults
from fastvocab.run import Record, Run, Step

_STOPPED = "stopped; nothing finished is lost: type the same command again"
#: A wrong option or a missing argument. Typer brings its own click, whose class has no public name.
_UsageError: Any = typer.BadParameter.__bases__[0]


def configure(path: Path | None, overrides: list[str], own: Defaults, *, need_text: bool = True) -> Config:
    """A configuration from file and overrides; the embedded one where neither names anything of one's own.

    Args:
        own: the recipe's side of it.
        need_text: False for a plan, which a model alone is enough for.

    Raises:
        ConfigError: it is another recipe's, something is missing, or a key is set that would do nothing.
    """
    recipe, base = own.recipe, {"recipe": own.recipe, **own.always}
    config, nothing = load_config(path, overrides, defaults=base), load_config(None, (), defaults=base)
    if config.recipe != recipe:
        raise ConfigError(
            f"recipe: {config.recipe}, and this is the recipe {recipe}",
            fix=f"python -m fastvocab.recipes.{config.recipe}, or fastvocab run {path or '--config FILE'}",
        )
    set_keys = [
        key for key, *_ in describe.rows() if describe.value(config, key) != describe.value(nothing, key)
    ]
    if unread := [key for key in set_keys if key.startswith(own.idle)]:
        raise ConfigError(
            f"{', '.join(unread)}: the recipe {recipe} does not read {'it' if len(unread) == 1 else 'them'}",
            rule="a key that is set has an effect",
            fix=f"leave {'it' if len(unread) == 1 else 'them'} out",
        )
    missing = [key for key in own.needed if not describe.value(config, key)]
    if not missing or (not need_text and any(key.startswith(own.own) for key in set_keys)):
        return config
    if any(key.startswith(own.own) for key in set_keys):
        raise ConfigError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            fix="; ".join(own.needed[key] for key in missing),
        )
    return load_config(path, overrides, defaults=_merged(base, own.embedded))


def _merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in more.items():
        out[key] = (
            _merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
        )
    return out


def named(recipe: str) -> ModuleType:
    """The module of a recipe."""
    return importlib.import_module(f"fastvocab.recipes.{recipe}")


def recipe_of(path: Path | None, overrides: list[str]) -> ModuleType:
    """The recipe that a configuration asks for, by its key ``recipe``; new_language where it does not say."""
    return named(load_config(path, overrides).recipe)


def main(
    arguments: Sequence[str] | None,
    usage: str,
    configure: Callable[[Path | None, list[str]], Config],
    steps: Callable[[Run], list[Step]],
    idle: Sequence[str] = (),
) -> int:
    """Parse, plan, run, and say what came of it; every user error becomes a message and an exit code.

    Args:
        arguments: None for those of the process.
        usage: the recipe's docstring.
        idle: keys that it does not read, and so does not explain.
    """
    typed = sys.argv[1:] if arguments is None else arguments
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

    @app.command(
        help=_verbatim(usage),
        epilog=describe.text(idle),
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def recipe(
        context: typer.Context,
        config: Path | None = typer.Option(None, help="YAML file; see recipes/ for examples."),
        dry_run: bool = typer.Option(
            False, "--dry-run", help="Show the plan and check everything, without doing it."
        ),
        resume: bool = typer.Option(
            False, "--resume", help="Insist on going on with an existing run (a run goes on anyway)."
        ),
        fresh: bool = typer.Option(
            False, "--fresh", help="Keep an existing run aside under another name and start anew."
        ),
        verbose: bool = typer.Option(False, "--verbose", help="Show what libraries print."),
    ) -> None:
        console.setup_logging(verbose)
        run = Run(configure(config, context.args))
        execute(run, steps, dry_run=dry_run, fresh=fresh, resume=resume)

    return guarded(lambda: app(args=list(typed), standalone_mode=False))


def _verbatim(usage: str) -> str:
    """The docstring with its indented commands kept on lines of their own (click re-wraps what has no mark)."""
    return "\n\n".join(
        "\b\n" + part if part.startswith("    ") else part for part in usage.strip().split("\n\n")
    )


def guarded(work: Callable[[], Any]) -> int:
    """Call ``work``; user errors and interruptions become a message and an exit code."""
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        done = work()
        if done == 130:  # typer's own answer to Ctrl-C
            console.say(_STOPPED)
        return done if isinstance(done, int) else 0
    except FastvocabError as error:
        console.fail(error.lines())
        return error.exit_code
    except (MemoryError, RuntimeError) as error:
        # torch's own class, by name: importing torch here would cost every light command 3 s
        if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
            raise
        console.fail(
            [
                f"out of memory: {str(error).splitlines()[0] if str(error) else 'no more to be had'}",
                "  do:   lower batch and raise accumulate, shorten block, or set model.load_in_4bit=true on a GPU",
            ]
        )
        return ResourceError.exit_code
    except (KeyboardInterrupt, typer.Abort, Stopped) as stop:
        code = stop.exit_code if isinstance(stop, Stopped) else 130
        hint = f" ({stop.hint})" if isinstance(stop, Stopped) and stop.hint else ""
        console.say(_STOPPED.replace("stopped", f"stopped{hint}", 1))
        return code
    except OSError as error:
        if error.filename is None:  # not of a file that a person could mend
            raise
        logging.getLogger("fastvocab").debug("%s", error, exc_info=True)
        console.fail([f"{error.filename}: {error.strerror}"])
        return ResourceError.exit_code
    except _UsageError as error:
        error.show()
        return int(error.exit_code)
    except typer.Exit as error:
        return error.exit_code
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(signum: int, frame: Any) -> None:
    raise Stopped(signum)


def execute(
    run: Run,
    steps: Callable[[Run], list[Step]],
    *,
    dry_run: bool = False,
    fresh: bool = False,
    resume: bool = False,
) -> dict[str, Record]:
    """Check, then run all stages, write the report and print the end; with ``dry_run`` only show the plan."""
    started = time.monotonic()
    run.check(fresh=fresh, resume=resume)
    if dry_run:
        ahead = planning.look(run.config, fresh=fresh)
        run.config = ahead.config
        planning.show(run, steps(run), ahead, fresh=fresh)
        if ahead.outlook is not None:
            ahead.outlook.require_disk(run.config)
            ahead.outlook.require_memory(run.config)
        return {}
    _join(run.config)
    if not processes.is_main():
        run.config = processes.share(run.config)
        run.follow(steps(run))
        processes.leave()
        return {}
    found = bases.find_base(run.config, fetch=True)
    assert found is not None, "what is fetched is here"
    run.config, _ = checks.check(run.config, found, devices.find(), fresh=fresh)
    processes.share(run.config)
    with run.open(fresh=fresh, resume=resume):
        records = run.execute(steps(run))
        processes.share(None)
        processes.leave()
        finish(run, records, time.monotonic() - started)
        if run.config.export.repo is not None:
            from fastvocab.export.deliver import publish

            console.say(
                f"hub     {publish(run.folder, run.config.export.repo, public=run.config.export.public)}"
            )
    return records


def _join(config: Config) -> None:
    """Several processes find each other, and make sure that they are asked for the same.

    Raises:
        ConfigError: they are not, or it is something that one process has to do.
    """
    if not processes.several():
        return
    if config.evaluate.control:
        raise ConfigError(
            f"evaluate.control=true with {processes.count()} processes",
            rule="the comparison is of trainings in one process each, of equal time",
            fix="run with one process, or with evaluate.control=false",
        )
    backend.unsloth()  # it asks to be imported before what joining imports
    processes.start()
    asked = [json.loads(text) for text in processes.gather(config.model_dump_json())]
    wrong = [
        f"process {number}: {', '.join(sorted(_differences(asked[0], other)))}"
        for number, other in enumerate(asked)
        if other != asked[0]
    ]
    if wrong:
        raise ConfigError(
            f"the processes of this run have different configurations: {'; '.join(wrong)}",
            rule="they make one run together",
            fix="start all of them with the same file and the same keys",
        )


def _differences(a: dict[str, Any], b: dict[str, Any], path: str = "") -> list[str]:
    """Keys whose values differ, with both values."""
    found = []
    for key in a:
        if isinstance(a[key], dict):
            found += _differences(a[key], b[key], f"{path}{key}.")
        elif a[key] != b[key]:
            found.append(f"{path}{key} is {b[key]}, not {a[key]}")
    return found


def finish(run: Run, records: dict[str, Record], seconds: float) -> None:
    """The report, the table a person understands, where everything lies, and how to talk to it."""
    from fastvocab import report, table

    page = report.write(run.folder)
    console.say()
    for sentence in table.sentences(records):
        console.say(sentence)
    console.say()
    show_table(records)
    console.say()
    taken = given.packages([run.config.model.base])["packages"]
    for name in ("corpus", "instruct"):
        taken += records[name].figures.get("packages", []) if name in records else []
    for package in taken:
        console.say(f"from    {package['name']} {package['version']} ({package['licence']})")
    console.say(f"time    {seconds / 60:.1f} minutes")
    console.say(f"report  {page}")
    if "export" in records:
        show_exports(records["export"])
    if run.config.recipe == "item_tokens":
        console.say(f"ask     fastvocab recommend {run.folder} ITEM ITEM ...")
    else:
        parse = " --parse" if run.config.instruct.reply else ""
        console.say(f'talk    fastvocab generate {run.folder} "..."{parse}')


def show_exports(record: Record) -> None:
    """Where the exported model lies in each form, and what to type with it."""
    from fastvocab.export.deliver import commands

    made: dict[str, Path] = {
        target: record.folder / target for target in ("ollama", "adapter") if target in record.figures
    }
    if (record.folder / "config.json").is_file():
        console.say(f"model   {record.folder}  (plain Hugging Face folder)")
    if (file := record.folder / (record.figures.get("gguf") or {}).get("file", "")).is_file():
        made["gguf"] = file
    for line in commands({target: str(place) for target, place in made.items()}):
        console.say(f"next    {line}")


def show_table(records: dict[str, Record]) -> None:
    """The table before and after, on the console."""
    from rich.table import Table

    from fastvocab import table

    columns, rows = table.table(records)
    shown = Table("", *columns, "", box=None, pad_edge=False)
    for row in rows:
        shown.add_row(row.label, *row.cells, row.note)
    console.console.print(shown)
