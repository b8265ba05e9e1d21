"""The report: whole or half runs, text that is not to be trusted, no network, the same bytes each time."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from made_records import LOST, PROMPTS, STAGES, make, with_control

from fastvocab.errors import CheckpointError
from fastvocab.report import page
from tests.report.outline import FETCHING, Outline


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("runs") / "demo <b>&run")


@pytest.fixture(scope="module")
def text(whole) -> str:
    return page.write(whole).read_text(encoding="utf-8")


def test_a_finished_run_has_every_section(text):
    outline = Outline(text)
    sections = {"before-after", "vocabulary", "corpus", "training", "samples", "data", "environment"}
    assert outline.headings() == sections
    for expected in ("8,000 new tokens", "2.62 times fewer", "2.116", "1.633", "CC-BY-4.0",
                     "HuggingFaceTB/SmolLM2-135M-Instruct", "the same text came before",
                     "strange new reason", "21 min", "2026.10.9",
                     "does not hold: a proof unknown here"):  # fmt: skip
        assert expected in outline.text, expected
    assert "Not finished" not in outline.text


def test_untrusted_text_is_text(text, whole):
    outline = Outline(text)
    tags = [tag for tag, _ in outline.elements]
    assert "script" not in tags and "img" not in tags and "b" not in tags
    assert tags.count("style") == 1 and tags.count("main") == 1
    assert "<script>alert('prompt')</script> & $x^2$" in outline.text
    assert "{{ 7 * 7 }}{% raw %}" in outline.text
    assert whole.name in outline.text
    assert not any(name.startswith("on") for _, attrs in outline.elements for name in attrs)
    assert "\x00" not in text and "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c" in text


def test_nothing_is_fetched_from_anywhere(text):
    outline = Outline(text)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in outline.elements}
    for tag, attrs in outline.elements:
        assert not FETCHING & attrs.keys(), (tag, attrs)
        if tag != "a":  # a link is followed by people only
            assert (attrs.get("href") or "#").startswith("#"), (tag, attrs)
    for style in re.findall(r"<style>.*?</style>", text, re.DOTALL) + re.findall(r'style="[^"]*"', text):
        assert "@import" not in style and all(u.startswith("#") for u in re.findall(r"url\((.*?)\)", style))


def test_ids_are_unique_and_references_resolve(text):
    outline = Outline(text)
    ids = [attrs["id"] for _, attrs in outline.elements if attrs.get("id")]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"|aria-labelledby="([^"]+)"', text))
    assert {next(filter(None, groups)) for groups in wanted} <= set(ids)


def test_each_sample_carries_its_direction_and_language(text):
    paragraphs = [attrs for tag, attrs in Outline(text).elements if tag == "p" and attrs.get("dir")]
    assert len(paragraphs) >= len(PROMPTS) * 4 and all(attrs["dir"] == "auto" for attrs in paragraphs)
    assert {attrs.get("lang") for attrs in paragraphs} == {"uk", None}
    for prompt, answers in PROMPTS.items():
        if "<" not in prompt:
            assert prompt in text and all(answer in text for answer in answers)


def test_figures_keep_text_as_text_and_follow_the_theme(text):
    figures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(figures) == 9  # fertility; loss, rates, tokens a second and memory of two stages
    for svg in figures:
        assert "<text" in svg and "currentColor" in svg and "#0" not in re.sub(r'url\(#|href="#', "", svg)
        assert "font-family" not in svg and "viewBox" in svg and "<metadata" not in svg
    assert "stroke-dasharray" in text and "prefers-color-scheme: dark" in text and "@media print" in text
    assert len(text.encode()) < 2_000_000


def test_the_same_run_gives_the_same_bytes(whole, text):
    assert page.write(whole).read_text(encoding="utf-8") == text
    assert [p.name for p in whole.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("done", range(1, len(STAGES)))
def test_a_run_that_stopped_shows_what_there_is(tmp_path, done):
    outline = Outline(page.write(make(tmp_path / "run", stages=STAGES[:done])).read_text(encoding="utf-8"))
    headings = outline.headings()
    assert {"corpus", "environment", "data"} <= headings
    assert ("vocabulary" in headings) == (done >= 2) and ("before-after" in headings) == (done >= 2)
    assert ("training" in headings) == (done >= 4) and ("samples" in headings) == (done >= 6)
    assert f"Not finished, or left out: {', '.join(STAGES[done:])}." in outline.text


def test_a_run_without_instruction_tuning_is_finished(tmp_path):
    stages = tuple(s for s in STAGES if s != "instruct")
    run = make(tmp_path / "run", stages=stages, points=("base", "extend", "pretrain"))
    outline = Outline(page.write(run).read_text(encoding="utf-8"))
    assert "Not finished" not in outline.text and "Instruction tuning" not in outline.text


def test_a_missing_log_leaves_the_curves_out(tmp_path):
    outline = Outline(page.write(make(tmp_path / "run", log=False)).read_text(encoding="utf-8"))
    assert "training" in outline.headings() and "trainable parameters" in outline.text
    assert sum(tag == "svg" for tag, _ in outline.elements) == 1


def test_damaged_lines_of_a_log_are_passed_over(tmp_path):
    run = make(tmp_path / "run", stages=STAGES[:4])
    (run / "40-pretrain" / "log.jsonl").write_text(
        '{"step": 1, "loss": 5.5}\n[1]\n{"step": 2, "loss": NaN}\n{"step": 3, "loss": 4.5}\n{"step": 4, "lo',
        "utf-8",
    )
    outline = Outline(page.write(run).read_text(encoding="utf-8"))
    assert "Loss over 2 logged steps, from 5.500 to 4.500" in outline.text


def test_a_log_of_one_step_is_drawn(tmp_path):
    run = make(tmp_path / "run", stages=STAGES[:4])
    (run / "40-pretrain" / "log.jsonl").write_text('{"step": 1, "loss": 5.5, "learning_rate": 0}\n', "utf-8")
    assert sum(tag == "svg" for tag, _ in Outline(page.write(run).read_text("utf-8")).elements) == 3


def test_a_long_log_stays_small(tmp_path):
    run = make(tmp_path / "run", stages=STAGES[:4])
    lines = (f'{{"step": {i}, "loss": {5 + i % 7}, "learning_rate": 1e-4}}\n' for i in range(1, 20_001))
    (run / "40-pretrain" / "log.jsonl").write_text("".join(lines), "utf-8")
    assert page.write(run).stat().st_size < 200_000


def test_missing_figures_leave_gaps_not_errors(tmp_path):
    changes = {
        "corpus": {"train": None, "dropped": {}, "replay_dropped": None, "packages": None},
        "tokenizer": {"heldout": None, "proofs": None},
        "extend": {"tokens": None},
        "pretrain": {"loss_first": None, "tokens": None, "settings": None},
        "evaluate": {"points": {"base": {"target": None, "original": None, "samples": None}}},
    }
    outline = Outline(page.write(make(tmp_path / "run", changes=changes)).read_text(encoding="utf-8"))
    assert "samples" not in outline.headings() and "None" not in outline.text and "nan" not in outline.text


def test_secrets_in_the_configuration_are_hidden(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "not-shaped-like-one-1234")
    run = make(tmp_path / "run", stages=STAGES[:1])
    (run / "config.yaml").write_text("name: x\nnote: not-shaped-like-one-1234\n", "utf-8")
    text = page.write(run).read_text(encoding="utf-8")
    assert "not-shaped-like-one-1234" not in text and "note: ***" in text


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no run folder"):
        page.write(tmp_path)
    assert not (tmp_path / page.NAME).exists()


def test_the_control_is_a_section_with_a_curve_of_each_arm(tmp_path):
    run = make(tmp_path / "run", changes=with_control(bits=LOST, crossover=None))
    text = page.write(run).read_text(encoding="utf-8")
    outline = Outline(text)
    assert "control" in outline.headings()
    assert (
        "the model without new tokens is better" in outline.text and "Crossover not reached" in outline.text
    )
    (figure,) = re.findall(r"<figure[^>]*Bits per byte over time.*?</figure>", text, re.DOTALL)
    for series in ("var(--series-1)", "var(--series-2)", "var(--series-3)", "the plain way"):
        assert series in figure
    assert text.count("--series-3:") >= 3, "in light, in dark and on paper"


def test_evaluations_on_the_way_are_drawn(tmp_path):
    run = make(tmp_path / "run", stages=STAGES[:4])
    with (run / "40-pretrain" / "log.jsonl").open("a", encoding="utf-8") as log:
        for step, bits in ((60, 1.9), (120, 1.7), (180, 1.6)):
            entry = {"step": step, "target_bits_per_byte": bits, "original_bits_per_byte": 1.3}
            log.write(json.dumps(entry) + "\n")
    outline = Outline(page.write(run).read_text(encoding="utf-8"))
    assert "at the end: 1.600 in the new language and 1.300 in the original language" in outline.text


def test_replies_on_the_way_are_shown_as_text_by_step(tmp_path):
    folder = make(tmp_path / "run")
    with (folder / "50-instruct" / "log.jsonl").open("a", encoding="utf-8") as log:
        for step in (20, 40):
            written = [
                {"prompt": "Що таке мова?", "text": f"Мова <b>{step}</b>"},
                {"prompt": "?", "text": ""},
                "no",
            ]
            log.write(json.dumps({"step": step, "heldout_loss": 2.5, "samples": written}) + "\n")
    text = page.write(folder).read_text(encoding="utf-8")
    assert "Replies to held-out conversations on the way" in text and "step 40</p>" in text
    assert 'lang="uk">Мова &lt;b&gt;40&lt;/b&gt;' in text and "<b>" not in text


def test_a_chat_vector_is_no_training(tmp_path):
    chat = {
        "name": "/srv/models/Chat-7B",
        "folder": "/srv/models/Chat-7B",
        "commit": None,
        "fingerprint": "c" * 64,
    }
    folder = make(tmp_path / "run", log=False, changes={"instruct": {"chat_vector": chat}})
    text = page.write(folder).read_text(encoding="utf-8")
    assert "Instruction tuning" not in text and "Chat-7B, <code>cccc" in text and "/srv/models" not in text
