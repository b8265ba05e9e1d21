"""The plan on the console."""

from __future__ import annotations

from typing import Any

from fastvocab import console
from fastvocab.config import Config
from fastvocab.corpus import sources
from fastvocab.errors import DataError, DependencyError
from fastvocab.model import manifest, reference
from fastvocab.model.reference import Base
from fastvocab.plan import memory
from fastvocab.plan.outlook import Outlook
from fastvocab.plan.sizes import MODES
from fastvocab.run import Run, Step

#: recipes/BENCHMARKS.md, "What it gained". Where a run has a control, its own figures are in its report.
_GAIN = (
    "gain     fewer tokens are certain, a better model is not: after 5 minutes on two cores SmolLM2-135M was 15% "
    "better at Greek with new tokens than without, at Ukrainian between 3% better and 1% worse; "
    "evaluate.control=true measures yours"
)


def show(
    run: Run,
    steps: list[Step],
    base: Base | None,
    outlook: Outlook | None,
    measured: dict[str, Any] | None = None,
    *,
    fresh: bool = False,
) -> None:
    """Print the plan: base, text, what it takes of the machine, and for each stage whether it will run.

    Args:
        fresh: an existing run is kept aside, nothing of it is reused.
    """
    config = run.config
    exists = run.folder.exists()
    aside = f"  (the earlier run will be kept in {run.aside()})" if exists and fresh else ""
    console.say(f"run      {run.folder}" + (aside if exists else "  (new)"))
    _show_inputs(config, base)
    if outlook is not None:
        _show_outlook(config, outlook)
    if measured is not None:
        console.say(
            f"measured {measured['tokens_per_second']:,.0f} tokens a second of pretraining, "
            f"{measured['peak_memory_bytes'] / 1e9:.1f} GB at the peak of {measured['steps']} steps"
        )
    if config.evaluate.control:
        console.say(
            "control  two more trainings, each as long as the run takes up to its pretrained checkpoint"
            if config.recipe == "new_language"
            else "control  one more training, the same without the tags"
        )
    elif config.recipe == "new_language":
        console.say(_GAIN)
    if config.recipe == "new_language" and not config.corpus.train:
        console.say("missing  corpus.train: a run needs text, corpus.train='data/*.txt'")
        return
    _show_stages(run, steps, base, fresh=fresh)


def _show_inputs(config: Config, base: Base | None) -> None:
    if base is None:
        console.say(
            f"base     {config.model.base}, not on this machine yet: fetched or built by the first run"
        )
    else:
        known = f"  ({base.fingerprint[:12]})" if base.fingerprint else ""
        alone = "" if reference.is_whole(base) else "  (a config.json alone: a run needs the weights too)"
        console.say(f"base     {base.name}{known}{alone}")
        if base.checkpoint is not None and manifest.peek(base.checkpoint)["lora"]:
            lora = config.pretrain.lora
            console.say(f"adapter  that of the checkpoint goes on (r={lora.r}, alpha={lora.alpha})")
    if config.instruct.chat_vector:
        console.say(f"chat     {config.instruct.chat_vector}, less the base: added without training")
    for label, given in (
        ("text", config.corpus.train),
        ("replay", config.corpus.replay),
        ("chat", config.instruct.train),
        ("items", config.corpus.items.interactions),
    ):
        if given:
            try:
                size = f"{sum(source.bytes or 0 for source in sources.resolve(given)) / 1e6:.1f} MB"
            except (DataError, DependencyError):  # a finished stage can do without
                size = "not on this machine"
            console.say(f"{label:8} {', '.join(given)}  ({size})")


def _show_outlook(config: Config, outlook: Outlook) -> None:
    own, sizes = outlook.architecture, outlook.sizes
    matrices = "one matrix (tied)" if own.matrices == 1 else "two matrices"
    assumed = (
        "" if own.exact else f"; {own.model_type} is not known here and counted as a Llama of these sizes"
    )
    console.say(f"model    {own.parameters:,} parameters{assumed}")
    most = " at most" if outlook.is_auto else ""
    spare = own.rows - outlook.tokens if outlook.tokens is not None else 0
    taken = f", {spare:,} of them without a token yet" if spare > 0 else ""
    console.say(f"rows     {own.rows:,}{taken}; {sizes.new:,} new tokens{most}, {own.width} wide, {matrices}")
    console.say(f"machine  {outlook.device.describe()}")
    _show_modes(config, outlook)
    if outlook.device.kind == "gpu":
        console.say("         memory on a GPU is an estimate that has not been compared with measurements")
    if outlook.instruct is not None:
        console.say(f"instruct {memory.total(outlook.instruct) / 1e9:.1f} GB of memory")
    console.say(
        f"disk     {sum(outlook.disk.values()) / 1e9:.1f} GB at most, of them "
        f"{outlook.disk['saves'] / 1e9:.1f} GB saves while it trains"
    )
    for stage, found in outlook.stages.items():
        console.say(f"{'time' if stage == next(iter(outlook.stages)) else '':8} {stage}: {_duration(found)}")
    if outlook.rate is not None:
        console.say(
            f"         {outlook.rate.low:,.0f} to {outlook.rate.high:,.0f} tokens a second, {outlook.rate.source}; "
            "the other stages come on top"
        )


def _show_modes(config: Config, outlook: Outlook) -> None:
    from rich.table import Table

    stage = memory.stages(config)[0]
    own = getattr(config, stage).embeddings
    table = Table("", *(f"{m} *" if m == own else m for m in MODES), box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"

    def add(label: str, cells: list[str]) -> None:
        table.add_row(f"         {label}", *cells)

    counted = [("", outlook.sizes)]
    if outlook.tokens is None:  # the base may have rows for them already: no tokenizer says
        counted.append((", no rows added", outlook.sizes.as_it_is()))
    for note, sizes in counted:
        counts = sizes.counts()
        add(f"trainable{note}", [f"{counts[mode]['trainable_parameters']:,}" for mode in MODES])
        add(f"of all{note}", [f"{counts[mode]['parameters']:,}" for mode in MODES])
    for part in outlook.memory[MODES[0]]:
        add(f"GB {part}", [f"{outlook.memory[mode][part] / 1e9:.2f}" for mode in MODES])
    add("GB in all", [f"{memory.total(outlook.memory[mode]) / 1e9:.2f}" for mode in MODES])
    add("fits", [memory.fits(outlook.memory[mode], outlook.device) for mode in MODES])
    console.console.print(table)
    if memory.fits(outlook.memory[own], outlook.device) != "yes":
        keys = memory.smaller(config, outlook.sizes, outlook.device, stage)
        console.say(
            f"change   {memory.spelled(keys) if keys else 'no setting helps: choose a smaller model.base'}"
        )


def _duration(found: dict[str, object]) -> str:
    tokens, seconds = found["tokens"], found["seconds"]
    parts = []
    if isinstance(tokens, list):
        low, high = tokens
        parts.append(f"{low:,} tokens" if low == high else f"{low:,} to {high:,} tokens")
    if isinstance(seconds, list):
        low, high = (_time(s) for s in seconds)
        parts.append(low if low == high else f"{low} to {high}")
    return f"{', '.join(parts) or 'not known'} (limit: {found['limit']})"


def _time(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _show_stages(run: Run, steps: list[Step], base: Base | None, *, fresh: bool) -> None:
    from rich.table import Table

    table = Table("stage", "folder", "what will happen", box=None, pad_edge=False)
    # without a fingerprint there is no run to compare with
    rows = (
        [(s.name, s.folder, "run") for s in steps]
        if fresh or base is None or not base.fingerprint
        else run.plan(steps)
    )
    for row in rows:
        table.add_row(*row)
    console.console.print(table)
