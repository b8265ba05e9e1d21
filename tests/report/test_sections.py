"""Sections of the page: each says what its figures are, is left out without them, and takes text as text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_records import STAGES, make, with_control, with_view, write_texts

from fastvocab.numbers import size
from fastvocab.report import jsonl, page
from fastvocab.report.sections import top
from fastvocab.report.sections.texts import opening
from fastvocab.run import read_records
from tests.report.outline import FETCHING, Outline


def joined(*changes: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for one in changes:
        for stage, figures in one.items():
            out[stage] = out.get(stage, {}) | figures
    return out


def long_log(path: Path, steps: int) -> None:
    """A log as a long training leaves it: a line a step, and evaluations between them."""
    lines = []
    for step in range(1, steps + 1):
        entry = {"step": step, "tokens": 2048 * step, "bytes": 9000 * step, "seconds": round(0.7 * step, 2),
                 "loss": 3 + step % 7 / 10, "learning_rate": 1e-4, "new_rows_learning_rate": 2e-4,
                 "grad_norm": 1.0, "memory_bytes": 3_000_000_000 + step}  # fmt: skip
        lines.append(json.dumps(entry))
        if step % (steps // 20) == 0:
            look = {"target_bits_per_byte": 2 - step / steps, "original_bits_per_byte": 1.2}
            lines.append(json.dumps(entry | look | {"loss": None}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all that a page can show, a long log, and text that is not to be trusted."""
    folder = tmp_path_factory.mktemp("runs") / "$x^2$ <b>&"
    run = write_texts(make(folder, changes=joined(with_control(), with_view())))
    long_log(run / "40-pretrain" / "log.jsonl", 20_000)
    return run


@pytest.fixture(scope="module")
def text(run: Path) -> str:
    return page.write(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outline(text: str) -> Outline:
    return Outline(text)


def figure(text: str, label: str) -> str:
    """The figure whose caption begins so."""
    (found,) = re.findall(rf'<figure role="img" aria-label="{label}.*?</figure>', text, re.DOTALL)
    return str(found)


def test_sections_come_in_the_order_of_the_work(text: str) -> None:
    ids = re.findall(r'<h2 id="([^"]+)"', text)
    assert ids == [
        "before-after", "corpus", "vocabulary", "rows", "training", "control", "samples", "data", "environment",
    ]  # fmt: skip


def test_a_whole_page_is_small_fetches_nothing_and_is_the_same_each_time(
    run: Path, text: str, outline: Outline
) -> None:
    assert len(text.encode()) < 1_000_000
    assert page.write(run).read_text(encoding="utf-8") == text
    tags = {tag for tag, _ in outline.elements}
    assert not tags & {"script", "link", "iframe", "img", "object", "b", "i"}
    for tag, attrs in outline.elements:
        assert not FETCHING & attrs.keys() and not any(name.startswith("on") for name in attrs)
        assert tag == "a" or (attrs.get("href") or "#").startswith("#")
    ids = [attrs["id"] for _, attrs in outline.elements if attrs.get("id")]
    assert len(ids) == len(set(ids))
    wanted = {attrs["href"][1:] for tag, attrs in outline.elements if tag == "use" and attrs["href"]}
    assert wanted and wanted <= set(ids)


def test_the_head_is_three_sentences(run: Path, text: str) -> None:
    head = text[text.index("<header>") : text.index("</header>")]
    assert head.count("<p>") == 3
    first, rest = top.sentences(read_records(run))
    assert len(first) == 3 and first[2].startswith("At equal time") and first[2].endswith("%).")
    assert len(rest) == 2 and rest[0].startswith("It then had") and rest[1].startswith("It came below")


def test_without_a_control_the_third_sentence_is_of_the_training(tmp_path: Path) -> None:
    first, rest = top.sentences(read_records(make(tmp_path / "run")))
    assert len(first) == 3 and first[2].startswith("It then had") and rest == []


def test_openings_of_documents_and_of_dropped_ones_are_shown_as_text(text: str, outline: Outline) -> None:
    corpus = text[text.index('id="corpus"') : text.index('id="vocabulary"')]
    assert "alert(&#39;text&#39;)" in corpus and "{{ 7 * 7 }}" in corpus and "\x1b" not in text
    shown = re.findall(r'<p dir="auto"(?: lang="\w+")?>(.*?)</p>', corpus)
    assert len(shown) == 2 + 1 + 4, "most of the file is one document"
    assert max(map(len, shown)) < 320
    assert "new language: too few letters in the script of the language" in outline.text
    assert "new language: strange new reason" in outline.text
    assert '<p dir="auto" lang="uk">слово' in corpus and "<p dir=\"auto\">القاهرة" in corpus  # fmt: skip


def test_the_curve_of_sizes_points_out_what_was_taken(text: str) -> None:
    sizes = figure(
        text, "Tokens of a held-out word alone by the number of new tokens: 5.02 without any, 1.63"
    )
    assert "8,000 taken" in sizes and "found by continued" in sizes and "found by sentencepiece" in sizes
    assert "Why so many: as asked" in sizes


def test_lengths_are_those_of_the_file_without_the_space(text: str) -> None:
    lengths = figure(text, "New tokens by length in characters")
    # і; не; відповідальність; <b>; a joiner alone; forty letters; a part of a character and a named one do not count
    assert "half have 3 or fewer" in lengths and "12+" in lengths
    assert re.findall(r">(\d+)</text>", lengths)[-12:] == ["2", "1", "1", *8 * ["0"], "2"]


def test_tokens_are_listed_by_length_and_by_frequency(text: str) -> None:
    (frequent, longest) = re.findall(r'<ul class="chips">(.*?)</ul>', text, re.DOTALL)
    words = [re.sub(r"<[^>]+>", "", one) for one in re.findall(r"<li>(.*?)</li>", frequent)]
    assert words == ["␣і 937", "&lt;b&gt; 41", "U+200D 9", "␣не 7"]
    words = [re.sub(r"<[^>]+>", "", one).strip() for one in re.findall(r"<li>(.*?)</li>", longest)]
    assert words[:2] == ["␣" + "о" * 40, "␣відповідальність"] and "&lt;think&gt;" not in words


def test_the_sentence_is_cut_as_it_was_recorded(text: str) -> None:
    before, after = re.findall(r'<p class="cut[^"]*" dir="auto"[^>]*>(.*?)</p>', text)
    assert re.sub(r"<sup>\d</sup>|<[^>]+>", "", before) == "Діти &lt;b&gt;їдять&lt;/b&gt; &amp; сплять."
    assert before.count("<sup>2</sup>") == 4 and "<sup>" not in after
    assert re.findall(r'class="piece p(\d)"', after) == ["0", "1", "2", "3", "0"]
    assert "before: 31 tokens" in text and "after: 5 tokens" in text


def test_letters_that_join_and_marks_are_not_torn_apart(tmp_path: Path) -> None:
    for name, pieces, apart in (
        ("latin", [["Ki", 1], ["siwa", 1]], True),
        ("arabic", [["مر", 1], ["حبا", 1]], False),
        ("marks", [["क", 1], ["्ष", 1]], False),
    ):
        sentence = {"text": "".join(p for p, _ in pieces), "base": pieces, "extended": pieces}
        run = make(tmp_path / name, stages=STAGES[:2], changes={"tokenizer": {"sentence": sentence}})
        text = page.write(run).read_text(encoding="utf-8")
        assert ('class="cut apart"' in text) is apart, name


def test_rows_are_drawn_before_and_after_on_the_same_axes(text: str) -> None:
    rows = text[text.index('id="rows"') : text.index('id="training"')]
    before, after = re.findall(r"<svg.*?</svg>", rows, re.DOTALL)
    ticks = [re.findall(r"<text[^>]*>([−\d.]+)</text>", svg) for svg in (before, after)]
    assert ticks[0] == ticks[1] and len(ticks[0]) > 6
    assert before != after and 900 < before.count("<use") <= 1030
    assert "400 of 8,000 new rows among 600 of 49,152 old ones, before training" in rows
    assert "14% of the variance of the old ones and 8% of the variance of the new ones" in rows
    plain = " ".join(re.sub(r"<[^>]+>", " ", rows).split())
    for line in ("mean length of all 8,000 new rows 2.62 2.71", "new rows that training changed 8,000",
                 "old rows that training changed 0", "with themselves before 0.9431", "the head as well"):  # fmt: skip
        assert line in plain, line


def test_bits_per_byte_are_drawn_over_tokens_and_over_time(text: str) -> None:
    tokens = figure(
        text, "Bits per byte over tokens trained on, of held-out text; at the end: 1.000 in the new"
    )
    time = figure(text, "Bits per byte over time, of held-out text")
    assert ">tokens</text>" in tokens and ">minutes</text>" in time
    for svg in (tokens, time):
        assert "new language" in svg and "original language" in svg and svg.count("<use") >= 40


def test_throughput_and_memory_are_drawn_over_time(text: str) -> None:
    speed = figure(text, "Tokens per second over time, over 334 steps each; the median is 2,926")
    assert ">minutes</text>" in speed  # 2,048 tokens each 0.7 s
    figure(text, f"Memory in GB over time; at most {size(3_000_020_000)} after a step")


def test_a_log_without_time_or_memory_is_drawn_by_steps(tmp_path: Path) -> None:
    run = make(tmp_path / "run", stages=STAGES[:4])
    lines = [{"step": n, "loss": 3.0, "target_bits_per_byte": 2.0 - n / 10} for n in range(1, 5)]
    (run / "40-pretrain" / "log.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    text = page.write(run).read_text(encoding="utf-8")
    figure(text, "Bits per byte on the way")
    assert "Tokens per second over" not in text and "Memory in GB" not in text


@pytest.mark.parametrize("stage", ["tokenizer", "evaluate", "corpus"])
def test_figures_of_a_wrong_kind_leave_their_place_empty(tmp_path: Path, stage: str) -> None:
    wrong = [None, 7, "x", [], [1, None, "x"], {}, {"text": 3}, {"text": "x", "base": [["x"], 3, [None, 1]]}]
    keys = {
        "tokenizer": ("sentence", "frequent", "methods"),
        "evaluate": ("rows_view", "examples"),
        "corpus": ("scripts",),
    }[stage]
    for number, value in enumerate(wrong):
        changes = {
            stage: {key: value for key in keys if not isinstance(value, (int, str)) or key == "sentence"}
        }
        text = page.write(make(tmp_path / str(number), changes=changes, log=False)).read_text(
            encoding="utf-8"
        )
        Outline(text)
        assert 'id="rows"' not in text and "None" not in text


def test_numbers_that_are_none_leave_gaps(tmp_path: Path) -> None:
    changes = with_view()
    view = changes["evaluate"]["rows_view"]
    view["new"] |= {"norm": [None, 2.0], "cosine": None, "variance": [None], "after": [[None, 1], [1.0, 2.0]]}
    view["old"] |= {"variance": [], "norm": None}
    changes["tokenizer"]["methods"][0] |= {"tokens_per_unit": None, "curve": {"0": None, "x": 3, "8000": 1.6}}
    run = make(tmp_path / "run", stages=("corpus", "tokenizer", "evaluate"), changes=changes)
    outline = Outline(page.write(run).read_text(encoding="utf-8"))
    assert "mean length of all 8,000 new rows – 2.00" in outline.text
    assert "None" not in outline.text and "nan" not in outline.text.lower().split()


def test_an_untrained_view_is_one_figure(tmp_path: Path) -> None:
    changes = with_view()
    for group in ("old", "new"):
        changes["evaluate"]["rows_view"][group] |= {
            "after": None,
            "changed": None,
            "cosine": None,
            "norm": [2.0],
        }
    run = make(tmp_path / "run", stages=("tokenizer", "evaluate"), changes=changes)
    text = page.write(run).read_text(encoding="utf-8")
    rows = text[text.index('id="rows"') : text.index('id="samples"')]
    assert rows.count("<svg") == 1 and "after" not in rows.partition("</figure>")[0]


def test_recommendations_are_shown_beside_what_was_taken(tmp_path: Path) -> None:
    example = {
        "user": "7 <i>", "history": ["Місто", "<b>Ріка</b>"], "wanted": "Гора",
        "recommended": [{"text": "Поле", "score": -1.0}, {"text": "Гора", "score": -2.0}, 5],
    }  # fmt: skip
    found = {"users": 28, "items": 30, "interactions": 218, "dropped": {"at_once_again": 10}, "train": None}
    tokens = {
        "named": [{"token": "<a_0>", "id": 700, "pieces_before": 4}],
        "items": {"items": 30, "levels": 1},
    }
    changes = {"corpus": found, "evaluate": {"examples": [example], "points": {}}, "tokenizer": tokens}
    run = make(tmp_path / "run", stages=("corpus", "tokenizer", "evaluate"), changes=changes)
    outline = Outline(page.write(run).read_text(encoding="utf-8"))
    assert {"recommendations", "corpus", "named"} <= outline.headings()
    assert "user 7 <i>" in outline.text and "<b>Ріка</b>" in outline.text and "Гора ✓" in outline.text
    assert "interactions at once again 10" in outline.text and "users 28" in outline.text


def test_an_opening_is_short_and_keeps_marks_with_their_letters() -> None:
    assert opening("  два\n\nрядки ") == "два рядки"
    long = opening("слово " * 100)
    assert len(long) <= 201 and long.endswith("…")
    marked = opening("e\N{COMBINING ACUTE ACCENT}" * 300, 99)
    assert marked.removesuffix("…").endswith("\N{COMBINING ACUTE ACCENT}")
    assert len(opening("а" * 10**6)) == 201


def test_lines_are_spread_over_a_file_without_reading_it_all(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"n": n, "text": "я" * (n % 50)} for n in range(1000)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    found = [row["n"] for row in jsonl.spread(path, 4)]
    assert len(found) == 4 and found[0] == 0 and found == sorted(set(found))
    assert all(abs(n - 250 * place) < 30 for place, n in enumerate(found))
    path.write_text('{"n": 1}\n{"n": 2}', encoding="utf-8")
    assert [row["n"] for row in jsonl.spread(path, 8)] == [1, 2]
    path.write_text('[1]\n{"n": NaN}\n' + "[" * 100_000 + "\n", encoding="utf-8")
    assert len(jsonl.every(path)) == 1 and jsonl.spread(tmp_path / "none", 3) == []
    ends_no_line = {"text": "one\u2028two\u0085three"}
    path.write_text(json.dumps(ends_no_line, ensure_ascii=False) + "\n", encoding="utf-8")
    assert jsonl.every(path) == jsonl.spread(path, 1) == [ends_no_line]
