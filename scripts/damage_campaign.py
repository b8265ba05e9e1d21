"""Damage checkpoints and saves, and fill the disk at every write of a save: nothing is loaded or lost silently.

    uv run python scripts/damage_campaign.py
    uv run python scripts/damage_campaign.py --full-disk 30

Three parts, with a tiny Llama; each prints a row of the table, exit code 1 if a trial fails:

- checkpoints: each file cut, with one bit flipped, deleted, emptied, made a link, swapped with another checkpoint's or
  with the next file of its own; each field of the manifest changed or taken out; files planted that a loader would
  read. `checkpoint.read` must name the file; some go through `checkpoint.load`, too
- saves: the same done to the newest of three. `saves.newest` must take the one before, and name the file
- full disk: a real tmpfs is filled to the last byte at one write of a save after the other and stays full. Training
  must end with exit code 6, every earlier save whole; with space again the same call ends with the tensors of the
  untouched run. Where no tmpfs can be mounted, the error is put in at the write instead, and the table says so
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kill_campaign as kills

MB = 1_000_000
CASE = "pretrain full"
#: Files that a loader takes up because they are there.
PLANTED = {
    "added_tokens.json": '{"planted": 3}', "chat_template.jinja": "planted", "adapter_model.bin": "planted",
    "tokenizer.model": "planted", "vocab.json": "{}", "merges.txt": "planted", "modeling_llama.py": "print(1)",
    "model.safetensors": "planted", "special_tokens_map.json": '{"eos_token": "planted"}',
}  # fmt: skip

#: Of the stage, not of the checkpoint: nothing that loads one reads them.
ASIDE = ("log.jsonl", "stage.json")
#: What it is; what the error or warning must name (a pattern); what is done to the folder.
Damage = tuple[str, str, Callable[[Path], None]]


@dataclass
class Row:
    """What came of a group of trials; ``failures`` has a line for each that went wrong."""

    what: str
    trials: int
    failures: list[str]


# ------------------------------------------------------------------------------------------------------- files


def file_damages(folder: Path, other: Path, manifest: str) -> Iterator[Damage]:
    """Everything that is done to each file of ``folder``; ``other`` is a whole folder of the same kind."""
    names = sorted(file.name for file in folder.iterdir() if file.is_file() and file.name not in ASIDE)
    for number, name in enumerate(names):
        following = names[(number + 1) % len(names)]
        # another's manifest is whole in itself: the files are those that are not its own
        yield f"{name} cut", name, lambda f, n=name: os.truncate(f / n, (f / n).stat().st_size // 2)
        # two: less the line's end alone, JSON says the same
        yield f"{name} less two bytes", name, lambda f, n=name: os.truncate(f / n, (f / n).stat().st_size - 2)
        yield f"{name} with one bit flipped", name, lambda f, n=name: _flip(f / n)
        yield f"{name} deleted", name, lambda f, n=name: (f / n).unlink()
        yield f"{name} emptied", name, lambda f, n=name: os.truncate(f / n, 0)
        named = "" if name == manifest else name
        yield f"{name} a link to another folder's", named, lambda f, n=name: _link(f / n, other / n)
        yield f"{name} a broken link", name, lambda f, n=name: _link(f / n, f / "nowhere")
        if (other / name).is_file() and (other / name).read_bytes() != (folder / name).read_bytes():
            yield f"{name} of another folder", named, lambda f, n=name: _copy(other / n, f / n)
        if manifest not in (name, following):
            yield f"{name} and {following} swapped", name, lambda f, a=name, b=following: _swap(f / a, f / b)


def field_damages(folder: Path, manifest: str) -> Iterator[Damage]:
    """Each field of the manifest changed, and taken out; each of a file's entry, too."""
    for name in json.loads((folder / manifest).read_text(encoding="utf-8")):
        yield (
            f"{manifest}: {name} changed",
            f"{manifest}|schema",
            lambda f, n=name: _edit(f / manifest, n, _other),
        )
        yield f"{manifest}: no {name}", manifest, lambda f, n=name: _edit(f / manifest, n, None)
    for name in ("path", "bytes", "sha256"):
        yield (
            f"{manifest}: {name} of a file changed",
            manifest,
            lambda f, n=name: _edit_entry(f / manifest, n),
        )
    yield (
        f"{manifest}: a file not listed",
        manifest,
        lambda f: _edit(f / manifest, "files", lambda old: old[1:]),
    )


def planted_damages(folder: Path) -> Iterator[Damage]:
    """Files that do not belong there."""
    for name, text in PLANTED.items():
        if not (folder / name).exists():
            yield f"{name} planted", name, lambda f, n=name, t=text: (f / n).write_text(t)  # type: ignore[misc]


def _flip(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) * 2 // 3] ^= 4
    file.write_bytes(raw)


def _link(file: Path, target: Path) -> None:
    file.unlink()
    file.symlink_to(target)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _swap(one: Path, two: Path) -> None:
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value[:-1] + ("0" if not value.endswith("0") else "1")
    if isinstance(value, list):
        return value[:-1] if value else ["planted"]
    if isinstance(value, dict) and value:
        first = next(iter(value))
        return {**value, first: _other(value[first])}
    return "planted"


def _edit(file: Path, name: str, change: Callable[[Any], Any] | None) -> None:
    data = json.loads(file.read_text(encoding="utf-8"))
    value = data.pop(name)
    if change is not None:
        data[name] = change(value)
    file.write_text(json.dumps(data, indent=2), encoding="utf-8")


def _edit_entry(file: Path, name: str) -> None:
    data = json.loads(file.read_text(encoding="utf-8"))
    data["files"][0][name] = _other(data["files"][0][name])
    file.write_text(json.dumps(data, indent=2), encoding="utf-8")


# ------------------------------------------------------------------------------------------------ checkpoints


def check_checkpoints(material: Path, work: Path, *, loads: int = 6) -> list[Row]:
    """Damage a checkpoint in every way; `checkpoint.read` must refuse it and name the file."""
    from fastvocab.errors import CheckpointError
    from fastvocab.model import checkpoint

    whole, other = material / "tied" / "pretrain", material / "untied" / "pretrain"
    checkpoint.read(whole)
    damages = [
        *file_damages(whole, other, "fastvocab.json"),
        *field_damages(whole, "fastvocab.json"),
        *planted_damages(whole),
    ]
    read, loaded = Row("checkpoints, checkpoint.read", 0, []), Row("checkpoints, checkpoint.load", 0, [])
    each = max(1, len(damages) // loads) if loads else len(damages) + 1
    for number, (what, name, damage) in enumerate(damages):
        folder = _copied(whole, work / "checkpoint")
        damage(folder)
        ways: list[tuple[Row, Callable[[Path], Any]]] = [(read, checkpoint.read)]
        if number % each == each - 1:
            ways.append((loaded, checkpoint.load))
        for row, way in ways:
            row.trials += 1
            try:
                way(folder)
                row.failures.append(f"{what}: taken silently")
            except CheckpointError as error:
                if not re.search(name, str(error)):
                    row.failures.append(f"{what}: {name} is not named in: {error.message}")
            except Exception as error:  # noqa: BLE001 - a crash is what is looked for
                row.failures.append(f"{what}: {type(error).__name__}: {error}")
    return [read, loaded]


def _copied(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target, symlinks=True))


# ------------------------------------------------------------------------------------------------------ saves


def make_saves(material: Path, folder: Path) -> None:
    """Three saves of one training, key ``k``."""
    from fastvocab.config import load
    from fastvocab.train.pretrain import pretrain

    settings = ["pretrain.steps=4", "pretrain.save_steps=1", "pretrain.keep_saves=3"]
    section = load(None, [*kills.COMMON, *settings]).pretrain
    (folder / "out").mkdir(parents=True)
    pretrain(
        folder / "out", previous=material / "tied" / "extend", corpus=material / "corpus", section=section,
        key="k", saves_folder=folder / "saves", seed=3,
    )  # fmt: skip


def check_saves(folder: Path, work: Path) -> list[Row]:
    """Damage the newest of three saves in every way; `saves.newest` must take the one before and name the file."""
    from fastvocab import console
    from fastvocab.train import saves

    newest, before = folder / "saves" / "step-00000003", folder / "saves" / "step-00000002"
    damages = [
        *file_damages(newest, before, "save.json"),
        *field_damages(newest, "save.json"),
        *planted_damages(newest),
        ("a link to a whole save", newest.name, lambda f: (shutil.rmtree(f), f.symlink_to(before))),
        ("a file in place of a save", newest.name, lambda f: (shutil.rmtree(f), f.write_text("x"))),
        ("the save before under its name", newest.name, lambda f: _copied(before, f)),
        ("an empty folder", "save.json", lambda f: (shutil.rmtree(f), f.mkdir())),
    ]
    row = Row("saves, saves.newest", 0, [])
    said: list[str] = []
    warn, console.warn = console.warn, said.append  # type: ignore[assignment]
    try:
        for what, name, damage in damages:
            trial = _copied(folder / "saves", work / "saves")
            damage(trial / newest.name)
            row.trials += 1
            said.clear()
            try:
                taken = saves.newest(trial, next(iter(_keys(before))))
            except Exception as error:  # noqa: BLE001 - a crash is what is looked for
                row.failures.append(f"{what}: {type(error).__name__}: {error}")
                continue
            if taken is None or taken[0].name != before.name:
                row.failures.append(f"{what}: taken was {taken and taken[0].name}")
            elif not re.search(name, "".join(said)):
                row.failures.append(f"{what}: {name} is not named in {said}")
    finally:
        console.warn = warn
    return [row]


def _keys(save: Path) -> Iterator[str]:
    yield json.loads((save / "save.json").read_text(encoding="utf-8"))["key"]


# -------------------------------------------------------------------------------------------------- full disk


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[bool]:
    """A tmpfs of ``size`` bytes at ``place``; yields False where none can be mounted."""
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=False)


def fill(place: Path) -> None:
    """Leave no byte on the disk of ``place``."""
    with (place / "filler").open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def full_from(runs: Path, disk: Path, number: int, real: bool) -> None:
    """From this process's ``number``-th change below ``runs`` on, the disk is full whenever something is written."""
    count, filling = 0, False

    def reached(what: str) -> None:
        nonlocal count, filling
        count += 1
        if count <= number or filling or "/filler" in what:
            return
        if count == number + 1:
            os.write(2, f"\nthe disk is full before: {what}\n".encode())
        if real:
            filling = True
            fill(disk)
            filling = False
        elif what.startswith(("open", "mkdir", "write")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), what)

    kills.watch(runs, reached)


def check_full_disk(material: Path, work: Path, trials: int) -> list[Row]:
    """Fill the disk at ``trials`` writes of a save, spread evenly."""
    digest, moments, _ = kills.untouched(CASE, material, work / "untouched")
    numbers = kills.boundaries(moments)["a save"]
    # a rename or a removal needs no space: from there on, it is the next save that finds none
    chosen = [numbers[i * len(numbers) // trials] for i in range(trials)]
    row = Row("", 0, [])
    with small_disk(work / "disk", 24 * MB) as real:
        row.what = f"full disk, {'a real tmpfs' if real else 'no tmpfs could be mounted: the error put in'}"
        for number in chosen:
            row.trials += 1
            if fault := _one_full_disk(material, work, number, digest, real=real):
                row.failures.append(f"write {number}, {moments[number]}: {fault}")
    return [row]


def _one_full_disk(material: Path, work: Path, number: int, digest: dict[str, Any], *, real: bool) -> str:
    from fastvocab.train import saves

    disk, logs = work / "disk", work / f"full-{number}"
    for old in disk.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    runs, commits = disk / "runs", logs / "commits"
    runs.mkdir()
    logs.mkdir()

    def cramped() -> None:
        full_from(runs, disk, number, real)
        kills.train(CASE, material, runs, commits)

    def free() -> None:
        kills.train(CASE, material, runs, commits)

    code = kills.forked(cramped, logs / "full")
    text = (logs / "full").read_text(errors="replace")
    if code != 6 or "disk is full" not in text:
        return f"exit code {code} instead of 6: {text.strip().splitlines()[-1:]}"
    made = [int(line) for line in commits.read_text().split()]
    there = sorted((runs / "r" / ".saves" / "pretrain").glob("step-*"))
    if spoilt := [f"{save.name}: {faults}" for save in there if (faults := saves.read(save)[1])]:
        return f"spoilt: {spoilt}"
    if not there or int(there[-1].name.removeprefix("step-")) < max(made):
        return f"saves {made} were made, {[save.name for save in there]} are left"
    if real and kills.forked(free, logs / "still-full") != 6:
        return "the same call on the full disk does not end with exit code 6"
    (disk / "filler").unlink(missing_ok=True)
    if code := kills.forked(free, logs / "free"):
        return f"exit code {code} with space again: {(logs / 'free').read_text().strip().splitlines()[-1:]}"
    steps = re.findall(r"goes on from step (\d+)", (logs / "free").read_text())
    if not steps or int(steps[0]) < max(made):
        return f"with space again it went on from {steps or 'the start'}, {made} were made"
    found = json.loads((runs / "digest.json").read_text())
    differing = sorted(name for name in digest.keys() | found.keys() if digest.get(name) != found.get(name))
    return f"differing: {differing}" if differing else ""


# ------------------------------------------------------------------------------------------------------- main


def campaign(work: Path, *, full_disk: int, loads: int, material: Path | None = None) -> list[Row]:
    """All parts; `kill_campaign.warm` must have been called."""
    work.mkdir(parents=True, exist_ok=True)
    material = kills.prepare(work) if material is None else material
    code = kills.forked(lambda: make_saves(material, work / "made"), work / "saves.log")
    assert code == 0, (work / "saves.log").read_text()[-3000:]
    rows = check_saves(work / "made", work) + (
        check_full_disk(material, work, full_disk) if full_disk else []
    )
    # last, and in a process of its own: loading computes with torch
    found = work / "found.json"

    def read() -> None:
        some = check_checkpoints(material, work, loads=loads)
        found.write_text(json.dumps([[row.what, row.trials, row.failures] for row in some]))

    assert kills.forked(read, work / "read.log") == 0, (work / "read.log").read_text()[-3000:]
    return [Row(*row) for row in json.loads(found.read_text())] + rows


def table(rows: list[Row]) -> str:
    """Markdown: trials and failures."""
    lines = ["| damaged | trials | silent, lost or unnamed |", "|---|--:|--:|"]
    lines += [f"| {row.what} | {row.trials} | {len(row.failures)} |" for row in rows]
    return "\n".join(lines)


def main() -> int:
    """Run the campaign; 1 if a trial failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full-disk", type=int, default=20, help="trials with a full disk, 15 s each")
    parser.add_argument("--loads", type=int, default=6, help="damaged checkpoints that are loaded, too")
    parser.add_argument("--keep", type=Path, help="an empty folder for what is made; it stays there")
    options = parser.parse_args()
    started = time.monotonic()
    kills.warm()
    with tempfile.TemporaryDirectory(prefix="damage-") as temporary:
        work = (options.keep or Path(temporary)) / "campaign"
        rows = campaign(work, full_disk=options.full_disk, loads=options.loads)
    print(table(rows))
    for row in rows:
        for failure in row.failures:
            print(f"{row.what}: {failure}", file=sys.stderr)
    print(f"\n{time.monotonic() - started:.0f} s", file=sys.stderr)
    return int(any(row.failures for row in rows))


if __name__ == "__main__":
    sys.exit(main())
