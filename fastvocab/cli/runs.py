"""Verbs about whole runs: plan, run, report."""

from __future__ import annotations

from pathlib import Path

import typer

from fastvocab import console
from fastvocab.cli.app import CONFIG, JSON, KEYS, app, print_json
from fastvocab.errors import ConfigError
from fastvocab.recipes import common


def _file_and_keys(config: Path | None, arguments: list[str]) -> tuple[Path | None, list[str]]:
    """A YAML file may stand alone in front of the keys."""
    if config is None and arguments and "=" not in arguments[0] and not arguments[0].startswith("-"):
        return Path(arguments[0]), arguments[1:]
    return config, arguments


@app.command(context_settings=KEYS)
def plan(
    context: typer.Context,
    config: Path | None = CONFIG,
    gpu: str | None = typer.Option(
        None, help="Plan for another machine: a GPU's name (T4, A100...), its memory in GiB, or cpu."
    ),
    measure: bool = typer.Option(
        False, "--measure", help="Load the model and take a few steps, for the rate on this machine."
    ),
    as_json: bool = JSON,
) -> None:
    """Show what a run would do and take, and check everything, without doing it. Keys as key=value.

    A folder with a config.json is enough: fastvocab plan model.base=DIR pretrain.lora.r=8 --json
    """
    from fastvocab.recipes import planning
    from fastvocab.run import Run

    given, rest = _file_and_keys(config, context.args)
    recipe = common.recipe_of(given, rest)
    wanted = recipe.configure(given, rest, need_text=False)
    found = planning.look(wanted, gpu=gpu, measure=measure)
    if as_json:
        print_json(found.as_json())
    else:
        run = Run(found.config)
        planning.show(run, recipe.steps(run), found)


@app.command(context_settings=KEYS)
def run(
    context: typer.Context,
    config: Path | None = CONFIG,
    resume: bool = typer.Option(False, "--resume", help="Insist on going on with an existing run."),
    fresh: bool = typer.Option(False, "--fresh", help="Keep an existing run aside and start anew."),
) -> None:
    """Run all stages of a recipe: fastvocab run recipes/special_tokens.yaml. Keys as key=value.

    Which recipe it is says the key recipe; without it new_language.
    """
    from fastvocab.run import Run

    given, rest = _file_and_keys(config, context.args)
    recipe = common.recipe_of(given, rest)
    common.execute(Run(recipe.configure(given, rest)), recipe.steps, fresh=fresh, resume=resume)


@app.command()
def report(
    paths: list[Path] = typer.Argument(metavar="RUN [RUN ...]", help="Run folders."),
    out: Path | None = typer.Option(
        None, help="Of several runs: the page to write. Default: report-compare.html beside the first run."
    ),
) -> None:
    """Write report.html of a run again; of several runs one page that compares them."""
    from fastvocab import report as page
    from fastvocab.report import compare

    if len(paths) > 1:
        console.say(str(compare.write(paths, out)))
        return
    if out is not None:
        raise ConfigError(
            f"--out {out} and a single run",
            rule="the page of one run is report.html in its folder",
            fix="leave --out out, or give several runs to compare",
        )
    console.say(str(page.write(paths[0])))
