"""Several runs on one page: what differs, what does not compare, and whose file may be written over."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_records import HUB_BASE, STAGES, make, with_control, write_texts
from typer.testing import CliRunner

from fastvocab.cli import app
from fastvocab.errors import CheckpointError, ConfigError
from fastvocab.report import compare, page
from tests.report.outline import FETCHING, Outline


def look(run: Path, *bits: float) -> Path:
    """Evaluations on the way, in the log of a run."""
    with (run / "40-pretrain" / "log.jsonl").open("a", encoding="utf-8") as log:
        for place, value in enumerate(bits, 1):
            entry = {"step": 40 * place, "seconds": 60.0 * place, "target_bits_per_byte": value}
            log.write(json.dumps(entry) + "\n")
    return run


def setting(run: Path, **changes: Any) -> Path:
    """Other settings in config.yaml."""
    path = run / "config.yaml"
    config = json.loads(path.read_text(encoding="utf-8"))
    for section, values in changes.items():
        config[section] = config.get(section, {}) | values
    path.write_text(json.dumps(config), encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs that compare, the second with a control and another learning rate."""
    folder = tmp_path_factory.mktemp("runs")
    first = look(write_texts(make(folder / "first")), 2.0, 1.7)
    second = look(write_texts(make(folder / "_<b>$x^2$", changes=with_control())), 1.9, 1.65, 1.6)
    page.write(first)
    return [
        setting(first, pretrain={"learning_rate": 2e-4, "lora": {"r": 8}}, extend={"init": "mean"}),
        setting(second, pretrain={"learning_rate": 1e-3, "lora": {"r": 8}}, extend={"init": None}),
    ]


@pytest.fixture(scope="module")
def text(runs: list[Path]) -> str:
    return compare.write(runs).read_text(encoding="utf-8")


def rows(text: str, section: str) -> dict[str, list[str]]:
    """Cells by label of the table below a heading."""
    table = text[text.index(f'id="{section}"') :].partition("</table>")[0]
    out = {}
    for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL):
        cells = [
            re.sub(r"<[^>]+>", "", cell).strip()
            for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL)
        ]
        out[cells[0]] = cells[1:]
    return out


def test_it_lies_beside_the_runs_and_is_the_same_each_time(runs: list[Path], text: str) -> None:
    path = runs[0].parent / compare.NAME
    assert path.read_text(encoding="utf-8") == text == compare.write(runs).read_text(encoding="utf-8")
    outline = Outline(text)
    assert outline.headings() == {"compared", "curves", "settings"}
    for tag, attrs in outline.elements:
        assert not FETCHING & attrs.keys() and tag not in ("script", "link", "b")
        assert tag == "a" or (attrs.get("href") or "#").startswith("#")
    assert [attrs["href"] for tag, attrs in outline.elements if tag == "a"] == ["./first/report.html"]


def test_the_figures_that_matter_stand_side_by_side(text: str) -> None:
    found = rows(text, "compared")
    assert found["run"] == ["A: first", "B: _&lt;b&gt;$x^2$"]
    assert found["new tokens"] == ["8,000", "8,000"]
    assert found["tokens per word, before and after"] == ["5.61, 2.14", "5.61, 2.14"]
    assert found["bits per byte, new language, at the end"] == ["1.633", "1.612 (95%: 1.562 to 1.672)"]
    assert found["decode steps for the held-out text, at the end"] == ["7,996", "7,996"]
    assert found["change against the same time without new tokens"][0] == "–"
    assert found["change against the same time without new tokens"][1].startswith(
        "-7.0% bits per byte (95%: -9.0%"
    )
    assert found["tokens trained on"] == ["491,520", "491,520"]
    assert found["device"] == ["cpu", "cpu"] and "not finished, or left out" not in found


def test_only_settings_that_differ_are_listed(text: str) -> None:
    assert rows(text, "settings") == {
        "setting": ["A", "B"],
        "extend.init": ["mean", "not set"],
        "pretrain.learning_rate": ["0.0002", "0.001"],
    }


def test_the_curves_of_all_runs_are_one_figure(text: str) -> None:
    (figure,) = re.findall(r"<figure.*?</figure>", text, re.DOTALL)
    assert "at the end: 1.700 (A: first) and 1.600 (B: _&lt;b&gt;$x^2$)" in figure
    svg = figure[figure.index("<svg") :]
    assert ">A: first</text>" in svg and ">B: _&lt;b&gt;$x^2$</text>" in svg and "stroke-dasharray" in svg


def test_runs_on_the_same_base_and_text_compare(text: str) -> None:
    assert "They stand on the same base and were measured on the same held-out text" in text
    assert "do not compare" not in text


def test_what_does_not_compare_is_said(runs: list[Path], tmp_path: Path) -> None:
    texts = ("Інший текст", "і ще один")
    other = write_texts(make(tmp_path / "other", base=HUB_BASE | {"fingerprint": "aa" * 32}), texts)
    record = json.loads((other / "40-pretrain" / "stage.json").read_text(encoding="utf-8"))
    (other / "40-pretrain" / "stage.json").write_text(
        json.dumps(record | {"device": "Tesla T4"}), encoding="utf-8"
    )
    out = Outline(compare.write([*runs, other], tmp_path / "x.html").read_text(encoding="utf-8"))
    for said in (
        "They stand on different base models (A and B; C)",
        "The held-out text of the new language is not the same (A and B; C)",
        "They ran on different devices (A and B; C): their times do not compare.",
    ):
        assert said in out.text, said
    assert (
        "held-out text of the original language" not in out.text and "their figures compare" not in out.text
    )


def test_other_parts_of_the_same_text_do_not_compare(runs: list[Path], tmp_path: Path) -> None:
    other = write_texts(make(tmp_path / "other"))
    path = other / "60-evaluate" / "stage.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    for point in record["figures"]["points"].values():
        point["target"]["bytes"] = 1234
    path.write_text(json.dumps(record), encoding="utf-8")
    out = Outline(compare.write([runs[0], other], tmp_path / "x.html").read_text(encoding="utf-8"))
    assert "new language is the same, but they were measured on different parts of it (A; B)" in out.text


def test_unfinished_runs_and_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    made = [make(tmp_path / where / "demo", stages=STAGES[:done]) for where, done in (("x", 2), ("y", 7))]
    for run in made:
        (run / "config.yaml").unlink()
    text = compare.write(made).read_text(encoding="utf-8")
    assert rows(text, "compared")["run"] == ["A: x/demo", "B: y/demo"]
    assert rows(text, "compared")["not finished, or left out"][0].startswith("extend, pretrain")
    assert "curves" not in Outline(text).headings() and "their figures compare" not in text
    # of the stages' own records: the later run has more of them, and a setting that is not there is said to be
    assert "None: they were run with the same settings" in text or "not there" in text


def test_all_folders_that_are_no_runs_are_named_at_once(runs: list[Path], tmp_path: Path) -> None:
    damaged = make(tmp_path / "damaged", stages=STAGES[:1])
    (damaged / "10-corpus" / "stage.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError) as error:
        compare.write([tmp_path / "nowhere", runs[0], tmp_path, damaged], tmp_path / "x.html")
    assert "3 of 4 runs cannot be read" in error.value.message
    for name in ("nowhere", str(tmp_path), "damaged"):
        assert name in error.value.message
    assert not (tmp_path / "x.html").exists()


def test_a_foreign_file_is_never_written_over(runs: list[Path], tmp_path: Path) -> None:
    foreign = tmp_path / "notes.html"
    foreign.write_text("<p>mine: fastvocab report (comparison)</p>", encoding="utf-8")
    own_page = runs[0] / page.NAME
    before = own_page.read_bytes()
    for path in (foreign, own_page):
        with pytest.raises(ConfigError, match="no comparison that fastvocab wrote"):
            compare.write(runs, path)
    assert foreign.read_text(encoding="utf-8").startswith("<p>mine") and own_page.read_bytes() == before
    with pytest.raises(ConfigError, match="is a folder"):
        compare.write(runs, tmp_path)
    with pytest.raises(ConfigError, match="there is no folder"):
        compare.write(runs, tmp_path / "none" / "x.html")


def test_a_comparison_needs_two_runs(runs: list[Path]) -> None:
    with pytest.raises(ConfigError, match="1 run to compare"):
        compare.write([runs[0], runs[0].parent / "." / runs[0].name])


def test_one_run_or_several_on_the_command_line(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "both.html"
    done = CliRunner().invoke(app, ["report", *map(str, runs), "--out", str(out)])
    assert done.exit_code == 0 and out.is_file()
    done = CliRunner().invoke(app, ["report", str(runs[0])])
    assert done.exit_code == 0 and (runs[0] / page.NAME).is_file()
    done = CliRunner().invoke(app, ["report", str(runs[0]), "--out", str(out)])
    assert isinstance(done.exception, ConfigError) and "a single run" in str(done.exception)
    done = CliRunner().invoke(app, ["report", str(tmp_path), str(tmp_path / "no")])
    assert isinstance(done.exception, CheckpointError) and "2 of 2" in str(done.exception)
