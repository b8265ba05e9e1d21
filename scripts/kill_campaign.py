"""Kill training at random moments and at every write of a save; the same command must end with the same tensors.

    uv run python scripts/kill_campaign.py
    uv run python scripts/kill_campaign.py --kills 20 --seed 2

A trial is a `pretrain` or `instruct` of a few seconds on a tiny Llama: LoRA dropout, accumulation, three epochs with
an incomplete batch at the end of each, a save at every third step. Its process is forked from one that has only
imported the libraries, gets a real SIGKILL, and another process goes on by the same call; every third trial is
killed a second time. Moments:

- a save: before each call of open-for-write, fsync, rename, mkdir, unlink, rmdir and of the libraries' own writers
  within the making of one save and the pruning of an older one, and in the middle of those writers' files
- the end: the same within the writing of the stage's own folder
- any time: at a random moment from loading to the end

A trial is lost if the second run does not finish, or went on from an earlier save than the last whole one, or found
a damaged one. It differs if any of these is not equal bit by bit to the untouched run's: rows, adapter, manifest,
log (less the times), figures, optimizer, schedule and random states of the last save. Exit code 1 if any is.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' tiny Llama is the material

STEPS, EVERY = 13, 3
#: stage, base, settings; the first of each stage is the one whose writes are gone through one by one.
CASES = {
    "pretrain full": ("pretrain", "tied", ["pretrain.embeddings=full"]),
    "instruct frozen": ("instruct", "tied", ["instruct.embeddings=frozen"]),
    "pretrain new_rows": ("pretrain", "untied", ["pretrain.embeddings=new_rows"]),
    "pretrain frozen": ("pretrain", "tied", ["pretrain.embeddings=frozen"]),
    "instruct full": ("instruct", "untied", ["instruct.embeddings=full"]),
    "pretrain full, two matrices": ("pretrain", "untied", ["pretrain.embeddings=full"]),
}
COMMON = [
    "pretrain.block=24", "pretrain.replay=0.2", "pretrain.lora.r=4", "pretrain.lora.dropout=0.1",
    "instruct.max_length=128",
    *(f"{stage}.{setting}" for stage in ("pretrain", "instruct") for setting in (
        f"steps={STEPS}", "batch=2", "accumulate=2", "learning_rate=1e-2", "embedding_learning_rate=1e-2",
        f"save_steps={EVERY}", "weight_decay=0.01",
    )),
]  # fmt: skip


# ------------------------------------------------------------------------------------------------ processes


def forked(work: Callable[[], Any], log: Path, *, kill: Callable[[], bool] | None = None) -> int:
    """Call ``work`` in a forked process, killed as soon as ``kill`` holds; returns its exit code, or minus the signal.

    Fork is safe because nothing before has computed with torch: its threads would not be in the child. Where
    something has (in a test), one thread is used, which needs no others.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _alone(log)
            work()
            code = 0
        except BaseException as error:  # noqa: BLE001 - a child ends here, whatever it was
            traceback.print_exc()
            code = getattr(error, "exit_code", 1)
        finally:
            sys.stderr.flush()
            os._exit(code)
    if kill is not None:
        while not kill():
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _after(commits: Path, moment: float, pace: Pace) -> Callable[[], bool]:
    """Has the whole number of ``moment`` in saves been made since now, and its fraction of the time to the next?"""
    before, number = len(_text(commits).split()), int(moment)
    since = [time.monotonic()] if number == 0 else []
    delay = (moment - number) * (pace.first if number == 0 else pace.each)

    def reached() -> bool:
        if not since and len(_text(commits).split()) >= before + number:
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] >= delay

    return reached


def _alone(log: Path) -> None:
    import torch

    gc.freeze()  # what the parent imported is not to be searched at each collection: a third of a trial's time
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - a test runner's own are not ours to write to
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads are the parent's
    torch.set_num_threads(1)


def warm() -> None:
    """Import all that a trial needs, once for all forks."""
    from fastvocab.model import backend

    backend.unsloth()
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import trl.trainer.sft_trainer  # noqa: F401
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    import fastvocab.model.checkpoint
    import fastvocab.train.instruct
    import fastvocab.train.pretrain  # noqa: F401

    get_checkpoint_conversion_mapping("llama")  # kept by transformers, and takes half a second


# ------------------------------------------------------------------------------------------------- material


def make_material(folder: Path) -> None:
    """Tied and untied tiny Llamas, text, chat rows, and the checkpoints that the two stages start from."""
    from fastvocab.config import load
    from fastvocab.model import reference
    from fastvocab.model.extend import extend
    from fastvocab.tokenizer.stage import build
    from fastvocab.train.pretrain import pretrain
    from tests.conftest import english, make_llama, sentences, write_jsonl

    texts = sentences(300)
    corpus = folder / "corpus"
    corpus.mkdir()
    write_jsonl(corpus / "heldout.jsonl", texts[260:])
    write_jsonl(corpus / "replay_heldout.jsonl", english(40)[30:])
    write_jsonl(corpus / "replay.jsonl", english(4))
    write_jsonl(corpus / "train.jsonl", texts[:260])
    for name in ("tied", "untied"):
        root = folder / name
        base = make_llama(root / "base", tied=name == "tied")
        (root / "tokenizer").mkdir()
        build(
            base, corpus / "train.jsonl", root / "tokenizer", heldout=corpus / "heldout.jsonl",
            replay=corpus / "replay_heldout.jsonl", new_tokens=100, scripts=frozenset({"Cyrl"}),
        )  # fmt: skip
        (root / "extend").mkdir()
        extend(
            root / "extend", reference.resolve(str(base)), root / "tokenizer", init="calibrated", seed=3,
            calibration_bytes=10_000, target_text=corpus / "train.jsonl", original_text=corpus / "replay.jsonl",
        )  # fmt: skip
        (root / "pretrain").mkdir()
        section = load(None, [*COMMON, "pretrain.steps=2", "pretrain.save_steps=null"]).pretrain
        pretrain(
            root / "pretrain", previous=root / "extend", corpus=corpus, section=section,
            key="k", saves_folder=folder / "saves", seed=3,
        )  # fmt: skip
    # about 18 blocks or rows, 9 batches of 2, the last alone in its step, 5 steps an epoch: 13 end in the third
    write_jsonl(corpus / "train.jsonl", texts[:3])
    short = [" ".join(text.split()[:4]) for text in sentences(34)]
    rows = [[{"role": "user", "content": a}, {"role": "assistant", "content": b}]
            for a, b in zip(short[::2], short[1::2])]  # fmt: skip
    (folder / "chat.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")


def train(case: str, material: Path, runs: Path, commits: Path) -> None:
    """One stage of a run, as the recipe runs it; leaves ``digest.json`` beside the run folder.

    Args:
        commits: gets one line with the step of each save that is safe.
    """
    from fastvocab import run as runner
    from fastvocab.config import load
    from fastvocab.train import instruct, pretrain, saves

    stage, base, settings = CASES[case]
    runner.code_version = lambda stage: "campaign"  # the tree may be edited meanwhile
    runner._git_commit = lambda: None
    prune = saves.prune
    ledger = os.open(commits, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def told(folder: Path, newest: int, **options: Any) -> None:
        os.write(ledger, f"{newest}\n".encode())
        prune(folder, newest, **options)

    saves.prune = told
    config = load(None, [f"runs={runs}", "name=r", "seed=3", *COMMON, *settings])
    section = getattr(config, stage)
    state: dict[str, str] = {}

    def work(folder: Path, context: runner.Context) -> dict[str, Any]:
        more = {"key": context.key, "saves_folder": context.saves, "section": section, "seed": config.seed}
        root = material / base
        if stage == "pretrain":
            figures = pretrain.pretrain(folder, previous=root / "extend", corpus=material / "corpus", **more)
        else:
            rows = json.loads((material / "chat.json").read_text(encoding="utf-8"))
            figures = instruct.instruct(
                folder, previous=root / "pretrain", rows=lambda _: [{"messages": row} for row in rows], **more
            )
        state.update(_state(saves._folders(context.saves)[0]))
        return figures

    run = runner.Run(config)
    with run.open():
        record = run.execute([runner.Step(stage, section.model_dump(mode="json"), work)])[stage]
    found = state | _results(record.folder, record.figures)
    temporary = runs / "digest.new"
    temporary.write_text(json.dumps(found, indent=1))
    temporary.replace(runs / "digest.json")


def _results(folder: Path, figures: dict[str, Any]) -> dict[str, Any]:
    from fastvocab import files

    manifest = json.loads((folder / "fastvocab.json").read_text(encoding="utf-8"))
    manifest.pop("manifest_sha256", None)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {entry["path"]: entry["sha256"] for entry in files.describe(folder)}
    for name in ("stage.json", "fastvocab.json", "log.jsonl"):  # they hold times, or hashes of these
        found.pop(name, None)
    return found | {
        "manifest": manifest,
        "log": [{k: v for k, v in line.items() if k not in ("seconds", "memory_bytes")} for line in lines],
        "figures": {name: figures[name] for name in ("steps", "epochs", "tokens", "loss_first", "loss_last")},
    }


def _state(save: Path) -> dict[str, str]:
    """Digests of optimizer, schedule and random states in a save, value by value."""
    import torch

    def flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            for key in sorted(value, key=str):
                yield from flat(value[key], f"{name}.{key}")
        elif isinstance(value, (list, tuple)):
            for number, item in enumerate(value):
                yield from flat(item, f"{name}.{number}")
        else:
            yield name, value

    found = {}
    for file in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        digest = hashlib.sha256()
        for name, value in flat(torch.load(save / file, weights_only=False), save.name):
            raw = value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode()
            digest.update(name.encode() + b"\0" + raw)
        found[f"{save.name}/{file}"] = digest.hexdigest()
    return found


# ---------------------------------------------------------------------------------------------- write boundaries


def watch(root: Path, reached: Callable[[str], None]) -> None:
    """Call ``reached`` before everything that changes the disk below ``root``, for the rest of this process.

    The calls inside libraries that Python does not see (safetensors, torch) are wrapped: before, and in their middle,
    when half of the file is there.
    """
    import safetensors.torch
    import torch

    top = str(root)
    removing = [""]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "shutil.rmtree":
            removing[0] = str(arguments[0])
            return
        if event == "open":
            name, flags = arguments[0], arguments[2]
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.symlink"):
            name = arguments[0]
        else:
            return
        name = os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else ""
        if not name.startswith("/"):  # inside rmtree names are relative to an open folder
            name = f"{removing[0]}/{name}"
        if name.startswith(top):
            reached(f"{event.removeprefix('os.')} {name.removeprefix(top)}")

    fsync = os.fsync

    def flushed(descriptor: int) -> None:
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink()) if sys.platform == "linux" else top
        if name.startswith(top):
            reached(f"fsync {name.removeprefix(top)}")
        fsync(descriptor)

    def halved(write: Callable[..., Any], place: int) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            path = Path(arguments[place])
            inside = str(path).startswith(top)
            if inside:
                reached(f"write {str(path).removeprefix(top)}")
            done = write(*arguments, **options)
            if inside:
                whole = path.read_bytes()
                os.truncate(path, len(whole) // 2)
                reached(f"write, half {str(path).removeprefix(top)}")
                with path.open("r+b") as file:  # not truncated first: that would be a moment of its own
                    file.write(whole)
            return done

        return call

    os.fsync = flushed
    torch.save = halved(torch.save, 1)
    safetensors.torch.save_file = halved(safetensors.torch.save_file, 1)
    sys.addaudithook(hook)


def die_at(root: Path, number: int) -> None:
    """SIGKILL this process before its ``number``-th change of the disk below ``root``."""
    count = 0

    def reached(what: str) -> None:
        nonlocal count
        if count == number:
            os.write(2, f"\nkilled before: {what}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    watch(root, reached)


def boundaries(moments: list[str]) -> dict[str, list[int]]:
    """Numbers of the changes that belong to the third save (with the first one pruned), and to the end."""
    third = f"step-{3 * EVERY:08d}"
    first = next(i for i, what in enumerate(moments) if third in what)
    after = next(i for i, what in enumerate(moments) if f"step-{4 * EVERY:08d}" in what and i > first)
    last = max(i for i, what in enumerate(moments) if f".step-{4 * EVERY:08d}.new-" in what)
    return {"a save": list(range(first, after)), "the end": list(range(last + 1, len(moments)))}


# ------------------------------------------------------------------------------------------------------ trials


@dataclass(frozen=True)
class Pace:
    """Seconds of the untouched run: to its first save, and from one save to the next."""

    first: float
    each: float


@dataclass
class Trial:
    """One kill or two, and what came of it."""

    case: str
    where: str
    moment: float  # number of the write, or saves made and the share of the time to the next
    again: float | None = None  # the same for the second run, if it is killed too
    kills: int = 0
    before: str = ""
    resumed: int = 0
    lost: str = ""
    differing: list[str] = field(default_factory=list)


def untouched(case: str, material: Path, work: Path) -> tuple[dict[str, Any], list[str], Pace]:
    """(digest, changes of the disk, pace) of the run that nobody kills."""
    runs = work / "runs"
    runs.mkdir(parents=True)
    moments, commits = work / "moments", work / "commits"
    times: list[float] = []

    def clock() -> bool:  # kills nothing, but sees each save
        if len(_text(commits).split()) > len(times):
            times.append(time.monotonic() - started)
        return False

    def counted() -> None:
        out = moments.open("w")
        watch(runs, lambda what: print(what, file=out, flush=True))
        train(case, material, runs, commits)

    started = time.monotonic()
    code = forked(counted, work / "log", kill=clock)
    assert code == 0, _text(work / "log")[-3000:]
    pace = Pace(times[0], (times[-1] - times[0]) / (len(times) - 1))
    return json.loads((runs / "digest.json").read_text()), moments.read_text().splitlines(), pace


def run_trial(trial: Trial, material: Path, work: Path, digest: dict[str, Any], pace: Pace) -> Trial:
    """Kill, go on, compare."""
    runs, commits = work / "runs", work / "commits"
    while not trial.kills:
        shutil.rmtree(work, ignore_errors=True)
        runs.mkdir(parents=True)

        def doomed() -> None:
            if trial.where != "any time":
                die_at(runs, int(trial.moment))
            train(trial.case, material, runs, commits)

        at_random = _after(commits, trial.moment, pace) if trial.where == "any time" else None
        trial.kills = int(forked(doomed, work / "log-0", kill=at_random) == -signal.SIGKILL)
        if not trial.kills and trial.where != "any time":
            trial.lost = "the write never came"
            return trial
        if not trial.kills:
            trial.moment *= 0.9  # it was done before the signal came
    said = re.findall(r"killed before: (.*)", _text(work / "log-0"))
    trial.before = said[0] if said else f"{trial.moment:.2f} saves"
    logs = [work / "log-1"]
    if trial.again is not None:
        again = _after(commits, trial.again, pace)
        code = forked(lambda: train(trial.case, material, runs, commits), logs[0], kill=again)
        if code == -signal.SIGKILL:
            trial.kills += 1
            logs.append(work / "log-2")
        elif code:
            trial.lost = f"exit code {code}: {_text(logs[0]).strip().splitlines()[-1:]}"
            return trial
    safe = max([int(line) for line in _text(commits).split()], default=0)
    if not (runs / "digest.json").exists():
        code = forked(lambda: train(trial.case, material, runs, commits), logs[-1])
        if code:
            trial.lost = f"exit code {code}: {_text(logs[-1]).strip().splitlines()[-1:]}"
            return trial
    text = "".join(map(_text, logs))
    steps = [int(step) for step in re.findall(r"goes on from step (\d+)", _text(logs[-1]))]
    trial.resumed = steps[-1] if steps else 0
    done = "reused, nothing has changed" in _text(logs[-1])
    if trial.resumed < safe and not done:
        trial.lost = f"went on from step {trial.resumed}, the save of step {safe} was safe"
    elif "passed over" in text or "belongs to other" in text:
        trial.lost = re.findall(r".*(?:passed over|belongs to other).*", text)[0]
    if done:  # killed after the stage's folder took its place: the state in the saves went with them
        trial.resumed = STEPS
        folder = next((runs / "r").glob("??-*"))
        found = _results(folder, json.loads(_text(folder / "stage.json"))["figures"])
        digest = {name: value for name, value in digest.items() if not name.startswith("step-")}
    else:
        found = json.loads((runs / "digest.json").read_text())
    trial.differing = sorted(
        name for name in digest.keys() | found.keys() if digest.get(name) != found.get(name)
    )
    return trial


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def plan(kills: int, seed: int, moments: dict[str, list[str]]) -> list[Trial]:
    """Trials that make ``kills`` kills: write boundaries of both stages, then any time in all cases."""
    rng = random.Random(seed)
    stages = list(CASES)[:2]
    writes = {case: boundaries(moments[case]) for case in stages if case in moments}
    trials: list[Trial] = []
    for where, most in (("a save", kills * 6 // 10), ("the end", kills * 15 // 100)):
        all_of_it = [(case, n) for case, found in writes.items() for n in found[where]]
        count = min(len(all_of_it), most)
        chosen = [all_of_it[i * len(all_of_it) // count] for i in range(count)]
        trials += [Trial(case, where, number) for case, number in chosen]
    cases = [case for case in CASES if case in moments]
    count = len(trials)
    while count < kills:
        trials.append(Trial(cases[len(trials) % len(cases)], "any time", rng.uniform(0.3, STEPS / EVERY)))
        count += 1
        if count < kills and len(trials) % 3 == 0:
            trials[-1].again = rng.uniform(0.3, max(0.5, STEPS / EVERY - trials[-1].moment))
            count += 1
    return trials


def prepare(work: Path) -> Path:
    """The material for all trials, in a folder below ``work``."""
    material = work / "material"
    material.mkdir(parents=True)
    os.environ["FASTVOCAB_CACHE"] = str(work / "cache")  # what others do at the time is not seen
    code = forked(lambda: make_material(material), work / "material.log")
    assert code == 0, _text(work / "material.log")[-3000:]
    return material


def campaign(
    kills: int,
    seed: int,
    work: Path,
    *,
    cases: list[str] | None = None,
    workers: int = 2,
    material: Path | None = None,
) -> list[Trial]:
    """All trials, ``workers`` at a time; `warm` must have been called."""
    work.mkdir(parents=True, exist_ok=True)
    material = prepare(work) if material is None else material
    known = {
        case: untouched(case, material, work / f"untouched-{n}") for n, case in enumerate(cases or CASES)
    }
    trials = plan(kills, seed, {case: found[1] for case, found in known.items()})
    workers = min(workers, len(trials))

    def some(worker: int) -> None:
        with (work / f"results-{worker}").open("w") as out:
            for number in range(worker, len(trials), workers):
                trial, place = trials[number], work / f"trial-{number}"
                digest, _, pace = known[trial.case]
                run_trial(trial, material, place, digest, pace)
                print(json.dumps([number, asdict(trial)]), file=out, flush=True)
                if not trial.lost and not trial.differing:
                    shutil.rmtree(place, ignore_errors=True)

    pids = []
    for worker in range(workers):
        if (pid := os.fork()) == 0:
            code = 1
            try:
                some(worker)
                code = 0
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
            finally:
                os._exit(code)
        pids.append(pid)
    failed = [pid for pid in pids if os.waitpid(pid, 0)[1]]
    for worker in range(workers):
        for line in (work / f"results-{worker}").read_text().splitlines():
            number, data = json.loads(line)
            trials[number] = Trial(**data)
    assert not failed, "a worker broke off"
    return trials


def table(trials: list[Trial]) -> str:
    """Markdown: kills, saves that were gone on from, lost runs and differing results by case and moment."""
    lines = [
        "| stage | moment | kills | went on from step: times | lost | differing |",
        "|---|---|--:|---|--:|--:|",
    ]
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.case, trial.where), []).append(trial)
    for (case, where), some in groups.items():
        steps = Counter("the end" if t.resumed == STEPS else t.resumed or "start" for t in some)
        shown = ", ".join(
            f"{step}: {n}" for step, n in sorted(steps.items(), key=lambda item: str(item[0]).zfill(3))
        )
        lines.append(f"| {case} | {where} | {sum(t.kills for t in some)} | {shown} | "
                     f"{sum(bool(t.lost) for t in some)} | {sum(bool(t.differing) for t in some)} |")  # fmt: skip
    lines.append(f"| all | | {sum(t.kills for t in trials)} | | {sum(bool(t.lost) for t in trials)} | "
                 f"{sum(bool(t.differing) for t in trials)} |")  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    """Run the campaign; 1 if a run was lost or a tensor differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="trials at the same time")
    parser.add_argument("--keep", type=Path, help="an empty folder for the runs; those that fail stay there")
    options = parser.parse_args()
    started = time.monotonic()
    warm()
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        work = options.keep or Path(temporary)
        trials = campaign(options.kills, options.seed, work / "campaign", workers=options.workers)
        print(table(trials))
        bad = [trial for trial in trials if trial.lost or trial.differing]
        for trial in bad:
            print(f"{trial.case}, {trial.before}: {trial.lost or trial.differing}", file=sys.stderr)
    print(f"\n{time.monotonic() - started:.0f} s", file=sys.stderr)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
