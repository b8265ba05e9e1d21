"""The corpus by tasks: the very files that one process makes, also after a break, and what Slurm and Ray are told.

There is neither Slurm nor Ray here: sbatch, srun and scontrol are stand-ins of a few lines, which run the real
script and the real pickled pipeline one array task after the other; of Ray's executor the arguments are checked.
"""

import gzip
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from fastvocab.config import Config
from fastvocab.corpus import shards, stage
from fastvocab.corpus.shards import Reading, Shard, Work
from fastvocab.corpus.sources import Source, resolve
from fastvocab.corpus.spread import Spread
from fastvocab.corpus.stage import build
from fastvocab.errors import ConfigError, DataError, DependencyError, FastvocabError, ResourceError
from fastvocab.recipes import new_language
from fastvocab.run import Run
from tests.texts import lines

LANGUAGES = ("uk", "th", "zh_Hans", "ja", "ko", "km", "he", "hi")
FILES = ("train.jsonl", "heldout.jsonl", "replay.jsonl", "replay_heldout.jsonl", "dropped.jsonl")


def documents(language: str) -> list[str]:
    """Texts of six lines; some twice, some nearly, some that are dropped for every other reason."""
    chance, text = random.Random(language), lines(language)
    whole = [chance.sample(text, 6) for _ in range(60)]
    near = [[*document[:5], chance.choice(text)] for document in chance.sample(whole, 15)]
    noise = [
        "Так.",
        " \n",
        "-" * 80,
        "1 2 3 4 5 6 7 8 9 10 11 12",
        "да\ufffdже по\ufffdгано",
        "half \ud83d a pair " * 4,
    ]
    made = ["\n".join(document) for document in [*whole, *near, *chance.sample(whole, 9)]]
    made += chance.choices(noise, k=90) + chance.sample(lines("am"), 60)
    return chance.sample(made, len(made))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one file of each format, each in another language, and some of the other's texts in each."""
    folder = tmp_path_factory.mktemp("data")
    texts = {language: documents(language) for language in LANGUAGES}
    for n, language in enumerate(LANGUAGES):
        texts[language] += random.Random(n).sample(texts[LANGUAGES[n - 1]], 40)
    rows = {
        language: "".join(json.dumps({"text": t}) + "\n" for t in texts[language]) for language in LANGUAGES
    }
    plain = {
        language: "\n\n".join(t.replace("\n\n", "\n") for t in texts[language]).encode(errors="replace")
        for language in LANGUAGES
    }
    (folder / "a.jsonl").write_text(rows["uk"])
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(rows["th"].encode()))
    (folder / "c.txt.zst").write_bytes(zstandard.ZstdCompressor().compress(plain["zh_Hans"]))
    (folder / "d.txt").write_bytes(plain["ja"])
    whole = [t.encode(errors="replace").decode() for t in texts["ko"]]
    pyarrow.parquet.write_table(pyarrow.table({"text": whole, "id": range(len(whole))}), folder / "e.parquet")
    (folder / "sub").mkdir()
    (folder / "sub" / "f.json").write_text(json.dumps([{"text": t} for t in [*texts["km"], None]]))
    saved = [{"text": t.encode(errors="replace").decode()} for t in texts["he"]]
    datasets.Dataset.from_list(saved).save_to_disk(str(folder / "sub" / "g"))
    (folder / "sub" / "h.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(rows["hi"].encode()))
    (folder / "sub" / "nothing.txt").write_text("\n \n")
    return folder


def made(folder: Path, **options: Any) -> tuple[dict[str, bytes], dict[str, Any]]:
    """What the stage leaves, byte by byte, and its figures without what the clock says."""
    folder.mkdir(parents=True)
    figures = build(folder, **options)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    clock = {"seconds", "mb_per_second"}
    told = json.dumps({name: value for name, value in figures.items() if name not in clock})
    return {path.name: path.read_bytes() for path in folder.iterdir()}, json.loads(told)


@pytest.mark.parametrize(
    ("options", "tasks", "workers"),
    [
        ({}, 1, 1),
        ({"near_duplicates": 0.7, "heldout": 0.1}, 3, 2),
        ({"near_duplicates": 0.5, "unit": "line", "language": "ja", "min_script_share": 0.3}, None, 2),
    ],
)
def test_tasks_make_the_same_files(
    data: Path, tmp_path: Path, options: dict[str, Any], tasks: int | None, workers: int
) -> None:
    # the replay is small enough for its held-out share of 0.02 to be raised
    given = {"train": [f"{data}/*.*", f"{data}/sub"], "replay": "package:pydoc-topics", **options}
    one, figures = made(tmp_path / "one", **given)
    other, same = made(tmp_path / "other", **given, executor="local", tasks=tasks, workers=workers)
    assert other == one and same == figures
    assert list(same["dropped"]) == list(figures["dropped"]) and list(same["scripts"]) == list(
        figures["scripts"]
    )
    assert "heldout" in options or figures["replay_heldout_share"] == 0.04
    wanted = {"empty", "not_text", "too_short", "replacement_characters", "wrong_script", "duplicate"}
    assert wanted | ({"near_duplicate"} if "near_duplicates" in options else set()) <= set(figures["dropped"])


def test_near_duplicates_are_told_and_shown(data: Path, tmp_path: Path) -> None:
    _, without = made(tmp_path / "a", train=str(data / "a.jsonl"))
    files, figures = made(tmp_path / "b", train=str(data / "a.jsonl"), near_duplicates=0.7)
    dropped = figures["dropped"]["near_duplicate"]
    count = figures["train"]["documents"] + figures["heldout"]["documents"]
    assert count + dropped == without["train"]["documents"] + without["heldout"]["documents"]
    shown = [json.loads(line) for line in files["dropped.jsonl"].splitlines()]
    near = [row for row in shown if row["reason"] == "near_duplicate"]
    assert len(near) == dropped >= 5 and near[0]["source"].startswith(f"{data}/a.jsonl:")


def test_what_a_task_does_needs_no_torch(data: Path, tmp_path: Path) -> None:
    import dill

    reading = Reading(near_duplicates=0.8)
    found = [Shard.of(source, frozenset(), reading, tmp_path) for source in resolve(str(data / "a.jsonl"))]
    (tmp_path / "work").write_bytes(dill.dumps(Work(found)))
    script = (
        "import sys, dill; from pathlib import Path;"
        f"dill.loads(Path({str(tmp_path / 'work')!r}).read_bytes())(rank=0, world_size=1);"
        "print({'torch', 'transformers', 'unsloth', 'datasets'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
    judged = list(found[0].judged(lambda size: None))
    assert len(judged) > 200 and any(len(document.signature) == 256 for _, document in judged)


def test_a_damaged_file_is_the_same_error_and_what_was_done_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "SAMPLE", 5000)  # else the head, read by the stage itself, were all of it
    folder = tmp_path / "mine"
    folder.mkdir()
    for number, language in enumerate(("uk", "he", "hi")):
        text = "".join(json.dumps({"text": t}) + "\n" for t in documents(language))
        (folder / f"{number}.jsonl").write_text(text)
    good = (folder / "1.jsonl").read_text()
    (folder / "1.jsonl").write_text(good + '{"text": "cut in the mid')
    scaled: dict[str, Any] = {"executor": "local", "workers": 1, "saves": tmp_path / "saves"}
    with pytest.raises(DataError) as one:
        made(tmp_path / "one", train=str(folder))
    with pytest.raises(DataError) as other:
        made(tmp_path / "other", train=str(folder), **scaled)
    assert other.value.lines() == one.value.lines() and "1.jsonl:" in str(one.value)
    done = {path.name: path.stat().st_ino for path in (tmp_path / "saves" / ".shards").glob("*.jsonl")}
    assert len(done) == 2
    (folder / "1.jsonl").write_text(good)
    assert made(tmp_path / "again", train=str(folder), **scaled) == made(
        tmp_path / "whole", train=str(folder)
    )
    now = {path.name: path.stat().st_ino for path in (tmp_path / "saves" / ".shards").glob("*.jsonl")}
    assert len(now) == 3 and done.items() <= now.items()


def test_other_settings_take_nothing_that_was_made_for_these(data: Path, tmp_path: Path) -> None:
    saves: dict[str, Any] = {"executor": "local", "workers": 1, "saves": tmp_path / "saves"}
    source = tmp_path / "t.txt"
    for number, (text, options) in enumerate(
        [
            (lines("uk")[:400], {}),
            (lines("uk")[:400], {"min_chars": 40}),
            (lines("uk")[:400], {"unit": "file"}),
            (lines("uk")[:400], {"language": "sr-Latn", "min_script_share": 0.0}),
            (lines("uk")[300:700], {}),
        ]
    ):
        if number in (0, 4):  # untouched in between: its size and times tell nothing then
            source.write_text("\n".join(text))
        one = made(tmp_path / f"one{number}", train=str(source), **options)
        assert made(tmp_path / f"other{number}", train=str(source), **options, **saves) == one


def test_a_kill_in_the_middle_and_the_same_command_again(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for number in range(12):
        chance = random.Random(number)
        text = ["\n".join(chance.sample(lines("uk"), 12)) for _ in range(300)]
        (folder / f"{number:02}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in text))
    script = tmp_path / "stage.py"
    script.write_text(
        "import sys; from pathlib import Path; from fastvocab.corpus.stage import build\n"
        "if __name__ == '__main__':\n"
        f"    out = Path({str(tmp_path)!r}) / 'killed'; out.mkdir()\n"
        f"    build(out, train={str(folder)!r}, near_duplicates=0.8, executor='local', tasks=6, workers=2,"
        f" saves=Path({str(tmp_path)!r}) / 'saves')\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], start_new_session=True, stderr=subprocess.DEVNULL
    )
    there = tmp_path / "saves" / ".shards"
    try:
        deadline = time.monotonic() + 60
        while len(list(there.glob("*.jsonl"))) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its workers, too, as when a machine goes down
        process.wait()
    done = {path.name: path.stat().st_ino for path in there.glob("*.jsonl")}
    assert 2 <= len(done) < 12
    given: dict[str, Any] = {"train": str(folder), "near_duplicates": 0.8}
    again = made(tmp_path / "again", **given, executor="local", tasks=5, workers=1, saves=tmp_path / "saves")
    assert again == made(tmp_path / "one", **given)
    assert done.items() <= {path.name: path.stat().st_ino for path in there.glob("*.jsonl")}.items()


SBATCH = """#!/bin/bash
# a stand-in: notes what it was told, and runs the script's array task by task, here
for last; do true; done
cp "$last" "$STANDIN/script"; echo "$@" >> "$STANDIN/calls"
echo "Submitted batch job 17"
upto=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$last")
for task in $(seq 0 "$upto"); do
    SLURM_ARRAY_TASK_ID=$task SLURM_NODELIST=node1 bash "$last" >> "$STANDIN/log" 2>&1 || exit 3
done
"""
SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do [[ $1 == -n ]] && shift; shift; done
[[ -e $STANDIN/broken ]] && exit 1
exec "$@"
"""


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where the stand-ins for Slurm's commands leave what they were told."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "scontrol": "#!/bin/bash\necho node1\n"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("STANDIN", str(folder))
    return folder


def test_slurm_runs_the_same_tasks(data: Path, tmp_path: Path, standin: Path) -> None:
    given: dict[str, Any] = {"train": [f"{data}/a.jsonl", f"{data}/b.jsonl.gz", f"{data}/d.txt"]}
    slurm = {"partition": "cpu", "time": "3:00:00", "account": "abc", "qos": None}
    scaled = {"executor": "slurm", "tasks": 2, "workers": 7, "memory_gb": 3, "slurm": slurm}
    one = made(tmp_path / "one", **given)
    assert made(tmp_path / "other", **given, **scaled, saves=tmp_path / "saves") == one
    told = {
        line.removeprefix("#SBATCH --")
        for line in (standin / "script").read_text().splitlines()
        if "SBATCH" in line
    }
    wanted = {
        "partition=cpu",
        "time=3:00:00",
        "account=abc",
        "mem-per-cpu=3G",
        "cpus-per-task=1",
        "array=0-1%7",
        "wait",
    }
    assert wanted <= told and not any(option.startswith("qos") for option in told)
    assert len((standin / "calls").read_text().splitlines()) == 1  # no second job to wait for


def test_a_job_that_failed_is_told_and_gone_on_from(data: Path, tmp_path: Path, standin: Path) -> None:
    (standin / "broken").touch()
    given: dict[str, Any] = {"train": f"{data}/a.jsonl", "executor": "slurm", "saves": tmp_path / "saves"}
    given["slurm"] = {"partition": "cpu", "time": "10"}
    with pytest.raises(ResourceError, match=r"sbatch ended with 3") as caught:
        made(tmp_path / "first", **given)
    assert str(tmp_path / "saves") in str(caught.value) and "same command again" in str(caught.value)
    (standin / "broken").unlink()
    assert made(tmp_path / "again", **given) == made(tmp_path / "one", train=f"{data}/a.jsonl")


def test_a_task_that_came_to_nothing_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what Ray does with a task that failed: it goes on without a word
    monkeypatch.setattr(Shard, "make", lambda shard: None)
    with pytest.raises(ResourceError, match=r"1 of 1 sources were not read to the end: .*a\.jsonl"):
        made(tmp_path / "out", train=f"{data}/a.jsonl", executor="local", workers=1)


def test_ray_is_told_the_same(tmp_path: Path) -> None:
    from datatrove.executor import RayPipelineExecutor

    from fastvocab.corpus.executors import executor

    work = Work([])
    made_for = executor(Spread("ray", workers=9, memory_gb=6), work, 5, tmp_path / "logs")
    assert isinstance(made_for, RayPipelineExecutor) and made_for.pipeline == [work]
    assert (made_for.tasks, made_for.workers, made_for.mem_per_cpu_gb, made_for.cpus_per_task) == (5, 9, 6, 1)
    assert not made_for.skip_completed and made_for.logging_dir.path == str(tmp_path / "logs")


@pytest.mark.parametrize(
    ("spread", "kind", "said"),
    [
        (Spread("slurm"), ConfigError, r"corpus\.slurm\.partition is missing"),
        (Spread("slurm", slurm={"partition": "cpu"}), ResourceError, "needs sbatch"),
        pytest.param(
            Spread("ray"), DependencyError, r"needs ray(.|\n)*pip install ray",
            marks=pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed"),
        ),
    ],
)  # fmt: skip
def test_an_executor_that_is_not_here(
    spread: Spread, kind: type[FastvocabError], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(kind, match=said):
        spread.check()


@pytest.mark.parametrize("options", [{"near_duplicates": 0.8}, {"executor": "local"}])
def test_a_missing_extra_is_named_before_anything_is_read(
    options: dict[str, Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datatrove", None)
    (tmp_path / "out").mkdir()
    with pytest.raises(DependencyError, match=r"(?s)datatrove.*pip install 'fastvocab\[scale\]'"):
        build(tmp_path / "out", train=str(data), **options)
    assert not list((tmp_path / "out").iterdir())


def test_who_does_the_work_is_no_reason_to_do_it_again(tmp_path: Path) -> None:
    def settings(**corpus: Any) -> dict[str, Any]:
        config = Config.model_validate({"runs": str(tmp_path), "corpus": {"train": "x", **corpus}})
        return new_language.steps(Run(config))[0].settings

    slurm = {"partition": "cpu", "time": "1-0"}
    spread = {"executor": "slurm", "tasks": 9, "workers": 3, "memory_gb": 8, "slurm": slurm}
    assert settings(**spread) == settings()
    assert settings(near_duplicates=0.8) != settings()
    scored = Config.model_validate({"evaluate": {"tasks": ["hellaswag"]}})
    evaluate = next(step for step in new_language.steps(Run(scored)) if step.name == "evaluate")
    assert evaluate.settings["tasks"] == ["hellaswag"]


def test_a_run_reuses_what_tasks_made_and_keeps_no_shards(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for executor, said in (("local", "corpus: done"), ("builtin", "corpus: reused")):
        corpus = {"train": str(data / "a.jsonl"), "executor": executor, "workers": 1}
        run = Run(Config.model_validate({"runs": str(tmp_path), "name": "r", "corpus": corpus}))
        with run.open():
            record = run.execute(new_language.steps(run)[:1])["corpus"]
        assert said in capsys.readouterr().err
    assert sorted(entry["path"] for entry in record.data["outputs"]) == sorted(FILES)
    assert not (tmp_path / "r" / ".saves" / "corpus").exists()
    assert "executor" not in record.data["config"]


def test_the_largest_sources_come_first_and_each_is_one_tasks(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("Добрий день, це речення.\n" * (number + 1))
    found = [Shard.of(s, frozenset({"Cyrl"}), Reading(), tmp_path) for s in resolve(str(tmp_path))]
    work = Work(found)
    assert [Path(shard.source.name).stem for shard in work.shards] == ["4", "3", "2", "1", "0"]
    for rank in range(3):
        work(rank=rank, world_size=3)
    assert all(shard.path.exists() for shard in found)
    hub = Shard.of(Source("hub", "org/name"), frozenset(), Reading(), tmp_path)  # no size is known
    assert Work([hub, *found]).shards[-1] == hub and shards._state(hub.source) == []
