"""The run folder: reuse what is unchanged, run the rest again, never two at once, movable."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fastvocab.config import load
from fastvocab.errors import CheckpointError, ConfigError, DataError, ResourceError
from fastvocab.run import Context, Run, Step, read_records


class Line:
    """Two stages that count how often they ran."""

    def __init__(self, runs: Path, source: Path, settings: dict[str, Any] | None = None) -> None:
        self.ran: list[str] = []
        self.source, self.settings = source, settings or {"a": 1}
        self.more: list[str] = []
        self.run = Run(load(None, [f"runs={runs}", "name=r"]))

    def steps(self) -> list[Step]:
        def corpus(folder: Path, context: Context) -> dict[str, Any]:
            self.ran.append("corpus")
            (folder / "train.jsonl").write_text(self.source.read_text().upper())
            return {"documents": 1}

        def tokenizer(folder: Path, context: Context) -> dict[str, Any]:
            self.ran.append("tokenizer")
            (folder / "out").write_text(
                (context.inputs["corpus"] / "train.jsonl").read_text() + str(self.settings)
            )
            return {"from": context.figures["corpus"]["documents"]}

        return [
            Step(
                "corpus", {}, corpus, sources=self._sources, named={"train": [str(self.source), *self.more]}
            ),
            Step("tokenizer", self.settings, tokenizer, reads=("corpus",)),
        ]

    def _sources(self) -> list[dict[str, Any]]:
        from fastvocab.corpus.provenance import describe

        return [{**entry, "role": "train"} for entry in describe([str(self.source), *self.more])]

    def go(self, **how: bool) -> list[str]:
        self.ran.clear()
        with self.run.open(**how):
            self.run.execute(self.steps())
        return list(self.ran)


@pytest.fixture
def line(tmp_path: Path) -> Line:
    source = tmp_path / "s.txt"
    source.write_text("hello")
    return Line(tmp_path / "runs", source)


def test_an_unchanged_stage_is_reused(line: Line) -> None:
    assert line.go() == ["corpus", "tokenizer"]
    assert line.go() == []


def test_changed_settings_run_that_stage_and_what_reads_it(line: Line) -> None:
    line.go()
    line.settings = {"a": 2}
    assert line.go() == ["tokenizer"]
    line.source.write_text("other")
    assert line.go() == ["corpus", "tokenizer"]


def test_a_source_with_another_date_but_the_same_content_is_unchanged(line: Line) -> None:
    line.go()
    os.utime(line.source, (1, 1))
    assert line.go() == []


def test_a_change_that_leaves_a_stage_s_result_alone_stops_there(line: Line) -> None:
    line.go()
    line.source.write_text("HELLO")  # the corpus stage makes the same of it
    assert line.go() == ["corpus"]


def test_a_damaged_stage_is_run_again(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    line.go()
    (line.run.folder / "20-tokenizer" / "out").write_text("flipped")
    assert line.go() == ["tokenizer"]
    assert "damaged" in capsys.readouterr().err


def test_changed_code_is_a_reason_to_run_again(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.go()
    monkeypatch.setattr("fastvocab.run.code_version", lambda stage: f"9.9+{stage == 'tokenizer'}")
    path = line.run.folder / "10-corpus" / "stage.json"
    assert json.loads(path.read_text())["code"].startswith("0.")
    assert line.go() == ["corpus", "tokenizer"]


def test_a_moved_run_folder_goes_on_even_without_its_sources(line: Line, tmp_path: Path) -> None:
    line.go()
    shutil.move(tmp_path / "runs", tmp_path / "elsewhere")
    line.source.unlink()
    moved = Line(tmp_path / "elsewhere", line.source)
    assert moved.go() == []
    moved.settings = {"a": 2}
    assert moved.go() == ["tokenizer"]
    for mistyped in (line.source.with_name("mistyped.txt"), tmp_path / "mistyped" / "s.txt"):
        moved.source = mistyped
        with pytest.raises(DataError, match=rf"{mistyped} is not there"):
            moved.go()


def test_a_source_that_is_gone_in_part_or_empty_is_no_moved_run(line: Line) -> None:
    other = line.source.with_name("other.txt")
    other.write_text("more")
    line.more = [str(other)]
    assert line.go() == ["corpus", "tokenizer"]
    other.unlink()
    with pytest.raises(DataError, match=r"other\.txt is not there"):
        line.go()
    line.more = []
    assert line.go() == ["corpus"], "it is another corpus, of which this one makes the same"
    line.source.write_text("")
    with pytest.raises(DataError, match="holds nothing"):
        line.go()


def test_missing_sources_without_a_record_are_an_error(line: Line) -> None:
    line.source.unlink()
    with pytest.raises(DataError, match=r"s\.txt"):
        line.go()


def test_fresh_keeps_the_earlier_run(line: Line) -> None:
    line.go()
    assert line.go(fresh=True) == ["corpus", "tokenizer"]
    assert (line.run.folder.with_name("r.1") / "20-tokenizer" / "out").exists()


def test_resume_insists_on_a_run(line: Line) -> None:
    with pytest.raises(CheckpointError, match="no run"):
        line.go(resume=True)
    line.go()
    assert line.go(resume=True) == []
    with pytest.raises(ConfigError, match="--fresh together with --resume"):
        line.go(resume=True, fresh=True)


def test_the_record_says_what_was_made_of_what(line: Line) -> None:
    line.go()
    record = read_records(line.run.folder)["tokenizer"].data
    assert record["status"] == "done" and record["figures"] == {"from": 1} and record["config"] == {"a": 1}
    assert [i["path"] for i in record["inputs"]] == ["10-corpus/train.jsonl"]
    assert [o["path"] for o in record["outputs"]] == ["out"]
    assert record["versions"]["python"] and record["started"] <= record["ended"]


def test_a_record_of_a_newer_version_is_refused(line: Line) -> None:
    line.go()
    path = line.run.folder / "10-corpus" / "stage.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    with pytest.raises(CheckpointError, match="newer"):
        read_records(line.run.folder)


def test_a_stage_that_fails_leaves_nothing_and_keeps_the_ones_before(line: Line) -> None:
    steps = line.steps()

    def broken(folder: Path, context: Context) -> dict[str, Any]:
        (folder / "half").write_text("x")
        raise DataError("no")

    with line.run.open(), pytest.raises(DataError):
        line.run.execute([steps[0], Step("tokenizer", {}, broken, reads=("corpus",))])
    assert sorted(p.name for p in line.run.folder.iterdir()) == ["10-corpus", "config.yaml"]


def test_the_plan_says_what_would_happen_and_does_nothing(line: Line) -> None:
    assert [row[2] for row in line.run.plan(line.steps())] == ["run", "run, because corpus will"]
    assert not line.run.folder.exists()
    line.go()
    assert [row[2] for row in line.run.plan(line.steps())] == ["reuse", "reuse"]


def test_a_second_process_is_refused_and_told_who_has_it(line: Line, tmp_path: Path) -> None:
    holder = (
        "import sys, time; from fastvocab.config import load; from fastvocab.run import Run\n"
        f"with Run(load(None, ['runs={tmp_path / 'runs'}', 'name=r'])).open():\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout and process.stdout.readline() == "held\n"
        with pytest.raises(ResourceError, match=f"in use by process {process.pid}"):
            line.go()
    finally:
        process.kill()
        process.wait()
    time.sleep(0.1)
    assert line.go() == ["corpus", "tokenizer"]  # a killed holder holds nothing
