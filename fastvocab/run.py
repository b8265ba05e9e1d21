"""The run folder: what was made, from what, and whether it can be used again.

A run is a list of `Step`. Each one reads the folders of earlier ones and files from outside, and leaves one
folder with a record, ``stage.json``, written last. A step whose settings, inputs and code are unchanged is
reused and says so; any other is run again, into a temporary folder that takes the old one's place at the end.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import fastvocab
from fastvocab import console, files, memory, processes
from fastvocab.config import STAGES, Config
from fastvocab.config.load import dump, read_yaml
from fastvocab.errors import CheckpointError, ConfigError, DataError, ResourceError

SCHEMA = 1
_VERSIONS = ("unsloth", "unsloth_zoo", "torch", "transformers", "peft", "trl", "datasets", "tokenizers",
             "sentencepiece", "datatrove")  # fmt: skip
#: The code that decides what a stage makes. A change there is a reason to run it again; elsewhere it is not.
_CODE = {
    "corpus": ("corpus", "unicode.py"),
    "tokenizer": ("tokenizer", "architecture.py", "unicode.py", "sampling.py"),
    "extend": ("model", "unicode.py", "sampling.py"),
    "pretrain": ("model", "train"),
    "instruct": ("model", "train", "corpus/chat.py", "corpus/arithmetic.py", "layout.py"),
    "evaluate": (
        "model",
        "evaluate",
        "tokenizer/measure.py",
        "control",
        "train",
        "corpus/chat.py",
        "layout.py",
        "unicode.py",
        "sampling.py",
    ),
    "export": ("model", "export", "table.py", "tokens.py", "outcome.py", "facts.py", "numbers.py"),
}


@dataclass(frozen=True)
class Step:
    """One stage of a run.

    Attributes:
        name: one of `STAGES`.
        settings: everything from the configuration that changes the result, JSON-able, without secrets.
        work: called with the empty output folder and the `Context`; returns the measured figures.
        reads: earlier stages whose folders it reads.
        sources: files from outside as ``{path, bytes, sha256}``; a `DataError` where they are not there.
        base: record of the base model, where the stage depends on it.
        together: whether all processes of a run take part in the work (`fastvocab.processes`), not the main one alone.
        named: what is from outside, as the configuration names it.
    """

    name: str
    settings: dict[str, Any]
    work: Callable[[Path, Context], dict[str, Any]]
    reads: tuple[str, ...] = ()
    sources: Callable[[], list[dict[str, Any]]] | None = None
    base: Callable[[], dict[str, Any]] | None = None
    together: bool = False
    named: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Folder name, such as ``20-tokenizer``."""
        return f"{STAGES.index(self.name) + 1}0-{self.name}"


@dataclass(frozen=True)
class Record:
    """A finished stage: its folder and what ``stage.json`` says."""

    folder: Path
    data: dict[str, Any]

    @property
    def figures(self) -> dict[str, Any]:
        """What the stage measured."""
        return self.data["figures"]


@dataclass
class Context:
    """What a stage may know of its surroundings.

    Attributes:
        inputs: folders of earlier stages by name.
        key: digest of settings, inputs and code; a save inside the stage is good for this key alone.
        saves: folder for saves inside the stage; removed once the stage is finished.
    """

    inputs: dict[str, Path]
    key: str
    saves: Path
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)


class Run:
    """A run folder, held by one process."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.folder = Path(config.runs).expanduser() / config.name
        self.records: dict[str, Record] = {}

    @contextmanager
    def open(self, *, fresh: bool = False, resume: bool = False) -> Iterator[Run]:
        """Lock the folder, finish what a kill left half done, and write ``config.yaml``.

        Args:
            fresh: move an existing run aside (``NAME.1``, ``NAME.2``...) and start anew.
            resume: insist that there is a run to go on with.

        Raises:
            ResourceError: if another process works in it.
            CheckpointError, ConfigError: as `check`.
        """
        self.check(fresh=fresh, resume=resume)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(self.folder if self.folder.exists() else self.folder.parent, os.W_OK):
            raise ResourceError(f"cannot write in {self.folder}", fix="choose another place with runs=DIR")
        with self._lock():
            if fresh and self.folder.exists():
                self._move_aside()
            self.folder.mkdir(exist_ok=True)
            for restored in files.recover(self.folder):
                console.say(f"{restored.name}: put back after an interrupted replacement")
            files.write_text(self.folder / "config.yaml", dump(self.config))
            yield self

    def check(self, *, fresh: bool, resume: bool) -> None:
        """Do the two ways of beginning fit what is there?

        Raises:
            ConfigError: both are asked for, or it is another recipe's run that is there.
            CheckpointError: with ``resume`` and nothing there.
        """
        if fresh and resume:
            raise ConfigError(
                "--fresh together with --resume", rule="a run starts anew or goes on", fix="leave one out"
            )
        known = self.folder / "config.yaml"
        there = read_yaml(known).get("recipe", "new_language") if known.is_file() else self.config.recipe
        if not fresh and there != self.config.recipe:
            raise ConfigError(
                f"{self.folder} is a run of the recipe {there}, and this is {self.config.recipe}",
                rule="one recipe writes its stages into a run folder",
                fix="choose another name=..., or --fresh, which keeps the other run aside",
            )
        if resume and not self.folder.exists():
            raise CheckpointError(
                f"--resume: there is no run in {self.folder}", fix="leave --resume out to start one"
            )

    def aside(self) -> Path:
        """Where ``fresh`` would keep an existing run."""
        number = 1
        while (folder := self.folder.with_name(f"{self.folder.name}.{number}")).exists():
            number += 1
        return folder

    @contextmanager
    def _lock(self) -> Iterator[None]:
        # beside the folder, not inside: --fresh renames the folder while holding it
        path = self.folder.parent / f".{self.folder.name}.lock"
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            owner = path.with_suffix(".owner")
            who = owner.read_text(encoding="utf-8").strip() if owner.exists() else "another process"
            raise ResourceError(
                f"the run folder {self.folder} is in use by {who}",
                rule="one process works in a run folder",
                fix="wait for it, stop it, or choose another name=...",
            ) from None
        try:
            files.write_text(path.with_suffix(".owner"), f"process {os.getpid()} on {platform.node()}\n")
            yield
        finally:
            lock.release()

    def _move_aside(self) -> None:
        self.folder.rename(aside := self.aside())
        console.say(f"--fresh: the earlier run is kept in {aside}")

    def execute(self, steps: Sequence[Step]) -> dict[str, Record]:
        """Run what has to be run, in order; returns the records by stage."""
        for step in steps:
            key, inputs = self._key(step)
            record = self._reusable(step, key)
            if record is not None:
                console.say(f"{step.name}: reused, nothing has changed ({step.folder})")
            else:
                record = self._run(step, key, inputs)
            self.records[step.name] = record
        return self.records

    def follow(self, steps: Sequence[Step]) -> None:
        """What the other processes of a run do: take part in the stages that the main one says, until it has done."""
        by_name = {step.name: step for step in steps}
        while (told := processes.share(None)) is not None:
            name, context = told
            with tempfile.TemporaryDirectory(prefix="fastvocab-") as folder:
                by_name[name].work(Path(folder), context)
            memory.release()

    def plan(self, steps: Sequence[Step]) -> list[tuple[str, str, str]]:
        """(stage, folder, "reuse" or why it will run) for each step, without doing anything."""
        rows, changed = [], set()
        for step in steps:
            if before := [name for name in step.reads if name in changed]:
                verdict = f"run, because {' and '.join(before)} will"
            else:
                key, _ = self._key(step)
                record = self._reusable(step, key)
                if record is not None:
                    self.records[step.name] = record
                    verdict = "reuse"
                else:
                    verdict = (
                        "run" if not (self.folder / step.folder).exists() else "run again, it has changed"
                    )
            if verdict != "reuse":
                changed.add(step.name)
            rows.append((step.name, step.folder, verdict))
        return rows

    def _key(self, step: Step) -> tuple[str, list[dict[str, Any]]]:
        """Digest of all that decides the result, and the inputs as ``{path, bytes, sha256}``."""
        inputs: list[dict[str, Any]] = []
        for name in step.reads:
            record = self.records[name]
            inputs += [{**o, "path": f"{record.folder.name}/{o['path']}"} for o in record.data["outputs"]]
        if step.sources:
            try:
                inputs += step.sources()
            except DataError:
                old = self._read(step)
                if old is None or not _is_elsewhere(old, step):
                    raise
                # a run folder that was moved away from its corpus: the record stands for it
                console.say(f"{step.name}: its source files are not on this machine; going by the record")
                inputs += [entry for entry in old.data["inputs"] if "role" in entry]
        # by content: neither a file's place nor its name changes what a stage makes of it
        contents = sorted(f"{i.get('role', '')}:{i['sha256']}" for i in inputs)
        base = step.base()["fingerprint"] if step.base else None
        parts = [step.name, step.settings, contents, base, code_version(step.name)]
        return hashlib.sha256(
            json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()
        ).hexdigest(), inputs

    def _read(self, step: Step) -> Record | None:
        path = self.folder / step.folder / "stage.json"
        return Record(path.parent, files.read_json(path)) if path.is_file() else None

    def _reusable(self, step: Step, key: str) -> Record | None:
        record = self._read(step)
        if record is None or record.data.get("key") != key or record.data.get("schema") != SCHEMA:
            return None
        if faults := files.verify(record.folder, record.data["outputs"]):
            console.warn(f"{step.name} is run again, its folder was damaged: {'; '.join(faults[:3])}")
            return None
        return record

    def _run(self, step: Step, key: str, inputs: list[dict[str, Any]]) -> Record:
        context = Context(
            inputs={name: self.records[name].folder for name in step.reads},
            key=key,
            saves=self.folder / ".saves" / step.name,
            figures={name: record.figures for name, record in self.records.items()},
        )
        started, clock = datetime.now(UTC), time.monotonic()
        console.say(f"{step.name}: running", style="bold")
        target = self.folder / step.folder
        memory.reset_peak()
        with files.atomic_folder(target) as folder:
            if step.together:
                processes.share((step.name, context))
            figures = step.work(folder, context)
            data = {
                "schema": SCHEMA,
                "stage": step.name,
                "status": "done",
                "key": key,
                "config": step.settings,
                "seed": self.config.seed,
                "named": step.named,
                "inputs": inputs,
                "outputs": files.describe(folder),
                "base": step.base() if step.base else None,
                "versions": versions(),
                "code": code_version(step.name),
                "git": _git_commit(),
                "device": figures.pop("device", platform.machine()),
                "machine": {"system": platform.platform(), "cores": os.cpu_count()},
                "started": started.isoformat(timespec="seconds"),
                "ended": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - clock, 2),
                "figures": figures,
            }
            files.write_json(folder / "stage.json", data)
        files.remove_folder(context.saves)
        memory.release()
        console.say(f"{step.name}: done in {data['seconds']:.0f} s")
        return Record(target, data)


def _is_elsewhere(old: Record, step: Step) -> bool:
    """Is the outside text of a record all on another machine, rather than mistyped, emptied, or gone in part?"""
    recorded = [entry["path"] for entry in old.data["inputs"] if "role" in entry]
    return old.data.get("named") == step.named and not any(Path(path).exists() for path in recorded)


def read_records(folder: Path) -> dict[str, Record]:
    """The finished stages of a run folder by name, in order.

    Raises:
        CheckpointError: if the folder is no run, or a record is damaged or of a newer version.
    """
    records: dict[str, Record] = {}
    for path in sorted(folder.glob("[0-9][0-9]-*/stage.json")):
        data = files.read_json(path)
        if data.get("schema", 0) > SCHEMA:
            raise CheckpointError(f"{path} was written by a newer fastvocab", fix="pip install -U fastvocab")
        record = Record(path.parent, data)
        if stale := _stale(record, records):
            console.warn(f"{path.parent.name} was made from an earlier {stale} and is left out")
        else:
            records[data["stage"]] = record
    if not records:
        raise CheckpointError(f"{folder} is no run folder: no finished stage in it", fix="give runs/NAME")
    return records


def _stale(record: Record, earlier: dict[str, Record]) -> str | None:
    """The stage that was made anew since ``record`` read it, if any."""
    for stage, other in earlier.items():
        now = {f"{other.folder.name}/{o['path']}": o["sha256"] for o in other.data["outputs"]}
        read = [i for i in record.data["inputs"] if i["path"].startswith(f"{other.folder.name}/")]
        if any(now.get(i["path"]) != i["sha256"] for i in read):
            return stage
    return None


def code_version(stage: str) -> str:
    """Package version and a digest of the modules that decide what the stage makes."""
    return f"{fastvocab.__version__}+{code_digest(_CODE[stage])}"


def code_digest(parts: Sequence[str]) -> str:
    """Digest of modules or packages of this one, by their paths below it."""
    root, digest = Path(__file__).parent, hashlib.sha256()
    for part in parts:
        path = root / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version(), "fastvocab": fastvocab.__version__}
    for name in _VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git_commit() -> str | None:
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    done = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or None


def records_around(checkpoint: Path) -> dict[str, Record]:
    """The finished stages of the run that ``checkpoint`` is a stage of; none for one that stands alone.

    Where training went on after it, what came later is left out: it is said of another model.
    """
    checkpoint = checkpoint.resolve()
    records: dict[str, Record] = {}
    if (checkpoint / "stage.json").is_file():
        with suppress(CheckpointError):
            records = read_records(checkpoint.parent)
    own = [name for name, record in records.items() if (record.folder / "fastvocab.json").is_file()]
    if checkpoint not in [records[name].folder for name in own]:
        return {}
    if records[own[-1]].folder == checkpoint:
        return records
    return {name: record for name, record in records.items() if record.folder.name <= checkpoint.name}


def last_checkpoint(path: Path) -> Path:
    """The last checkpoint of a run folder; a checkpoint folder itself is returned as it is.

    Raises:
        CheckpointError: if there is none.
    """
    if (path / "fastvocab.json").is_file():
        return path
    found = []
    if any(path.glob("[0-9][0-9]-*/fastvocab.json")):
        found = [r.folder for r in read_records(path).values() if (r.folder / "fastvocab.json").is_file()]
    if found:
        return found[-1]
    if path.is_dir():
        advice = "give a run whose stage extend is done, or a checkpoint folder"
        if path.resolve().name in [f"{number}0-{name}" for number, name in enumerate(STAGES, 1)]:
            advice = f"that is the folder of one stage: give the run, {path.parent}"
        raise CheckpointError(f"{path} holds no checkpoint", fix=advice)
    if path.exists():
        hint = f"give its folder: {path.parent}" if (path.parent / "fastvocab.json").is_file() else None
        raise CheckpointError(f"{path} is a file", rule="a run folder or a checkpoint is a folder", fix=hint)
    folders = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, folders, 1)
    hint = (
        f"did you mean {path.parent / near[0]}?" if near else "give a run folder (runs/NAME) or a checkpoint"
    )
    raise CheckpointError(f"there is no folder {path}", fix=hint)
