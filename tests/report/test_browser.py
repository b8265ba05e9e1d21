"""The report in a real browser: nothing is fetched or cut off, everything is legible, in each script, on paper too.

What is asked is in ``scripts/report_checks.py``. Each check is also shown a page that is broken on purpose.
"""

from __future__ import annotations

import io
import json
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_records import STAGES, figures, make, with_control

from fastvocab.report import compare, page

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import report_checks  # noqa: E402
import report_facts  # noqa: E402

REASON = report_checks.missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

#: A sentence in each of many scripts; with marks, without spaces, right-to-left, mixed with Latin.
SENTENCES = (
    "Київ — столиця України, і їхати туди варто навесні.",
    "ምሳሌ፦ አዲስ አበባ የኢትዮጵያ ዋና ከተማ ናት።",
    "القاهرة هي عاصمة مصر (Cairo)، وفيها النيل.",
    "ירושלים נמצאת בהרים, ותל אביב (TLV) ליד הים.",
    "بہار میں لاہور بہت خوبصورت ہوتا ہے۔",
    "भारत की राजधानी नई दिल्ली है।",
    "বাংলাদেশের রাজধানী ঢাকা।",
    "தமிழ்நாட்டின் தலைநகரம் சென்னை.",
    "กรุงเทพฯ เป็นเมืองหลวงของประเทศไทย",
    "រាជធានីរបស់កម្ពុជាគឺភ្នំពេញ។",
    "မြန်မာနိုင်ငံ၏ မြို့တော်မှာ နေပြည်တော် ဖြစ်သည်။",
    "대한민국의 수도는 서울입니다.",
    "日本の首都は東京(Tokyo)です。",
    "中国的首都是北京。",
    "საქართველოს დედაქალაქი თბილისია.",
    "Հայաստանի մայրաքաղաքը Երևանն է։",
    "Hà Nội là thủ đô của Việt Nam; " + "e\N{COMBINING DOT BELOW}\N{COMBINING ACUTE ACCENT} ọ̀rọ̀ àwọn",
    "Donaudampfschifffahrtsgesellschaftskapitän" * 5,
)
NAMES = {
    "whole": "whole",
    "control": "control",
    "half": "half",
    "hostile": r'<b>&"run"<script>1<!-- $x^2$ \frac{a}{b} {{ 7 }} ' + 60 * "n",
    "scripts": "every-script",
    "compared": "compared",
}


def pieces(text: str, size: int) -> list[list[Any]]:
    return [[text[at : at + size], 1 + at % 3] for at in range(0, len(text), size)]


def cloud(count: int, spread: float) -> list[list[float]]:
    draw = random.Random(count)
    return [[draw.gauss(0, spread), draw.gauss(0, spread)] for _ in range(count)]


def of_every_script(folder: Path) -> Path:
    """A run whose page has each section that shows text or rows, with text in all scripts."""
    points = figures()["evaluate"]["points"]
    for at, point in enumerate(points.values()):
        point["samples"] = [
            {"prompt": text, "text": SENTENCES[at - place]} for place, text in enumerate(SENTENCES)
        ]
    curve = {"0": 5.6, "500": 3.1, "2000": 2.4, "8000": 2.12}
    rows = {"rows": 9000, "norm": [1.1, 1.2], "variance": [0.3, 0.31], "cosine": 0.98, "changed": 9000}
    changes = {
        "tokenizer": {
            "method": "continued",
            "methods": [
                {"method": "continued", "unit": "word", "tokens_per_unit": 2.12, "size_because": "so", "curve": curve},
                {"method": "sentencepiece", "unit": "word", "curve": {n: 1.1 * v for n, v in curve.items()}},
            ],
            "frequent": [[f" {text.split()[0]}", 40] for text in SENTENCES],
            "sentence": {
                "text": SENTENCES[0], "base": pieces(SENTENCES[0], 2), "extended": pieces(SENTENCES[0], 7),
            },
        },
        "evaluate": {
            "points": points,
            "rows_view": {
                "first": "extend", "last": "pretrain", "tied": True, "width": 576,
                "old": rows | {"before": cloud(60, 1.0), "after": None},
                "new": rows | {"before": cloud(40, 0.4), "after": cloud(41, 0.9)},
            },
        },
    }  # fmt: skip
    run = make(folder, changes=changes)
    words = [word for text in SENTENCES for word in text.split()]
    short = [word for word in words if len(word) < 12]
    for path, texts in {
        "20-tokenizer/new_tokens.jsonl": [f" {word}" for word in words + 100 * short],
        "10-corpus/train.jsonl": list(SENTENCES),
        "10-corpus/dropped.jsonl": list(SENTENCES[:4]),
    }.items():
        lines = [json.dumps({"text": text, "part": "train", "reason": "too_short"}) for text in texts]
        (run / path).write_text("\n".join(lines), encoding="utf-8")
    return run


def has_font(text: str) -> bool:
    """Does a font of this machine have each character, by fontconfig's own word?"""
    listed = ["fc-list", f":charset={' '.join(f'{ord(char):x}' for char in text)}", "family"]
    return bool(subprocess.run(listed, capture_output=True, check=True).stdout.strip())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with report_checks.browser() as found:
        yield found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages that are looked at."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {
        "whole": make(folder / NAMES["whole"]),
        "control": make(folder / NAMES["control"], changes=with_control()),
        "half": make(folder / NAMES["half"], stages=STAGES[:4]),
        "hostile": make(folder / NAMES["hostile"], stages=STAGES[:6], log=False, changes=with_control()),
        "scripts": of_every_script(folder / NAMES["scripts"]),
    }
    pages = {name: page.write(run) for name, run in runs.items()}
    return pages | {"compared": compare.write(list(runs.values()))}


@pytest.fixture(scope="module")
def opened(browser: Any, written: dict[str, Path]) -> dict[str, report_checks.Page]:
    return {name: report_checks.Page(browser, path) for name, path in written.items()}


@pytest.mark.parametrize("check", report_checks.CHECKS)
@pytest.mark.parametrize("name", NAMES)
def test_a_page_passes(opened: dict[str, report_checks.Page], name: str, check: str) -> None:
    found = report_checks.CHECKS[check](opened[name])
    if check == "without_glyph" and found and not any(map(has_font, found)):
        pytest.skip(f"no font of this machine has {' '.join(found)}")
    assert found == []


def test_what_is_checked_is_there(opened: dict[str, report_checks.Page]) -> None:
    """So that no check passes because it finds nothing to look at."""
    every = opened["scripts"]
    assert every.ask("glyphs")["tried"] > 400
    assert sum(text["direction"] == "rtl" for text in every.ask("directions")) > 10
    series = [len(figure) for figure in every.ask("figures")]
    assert series.count(2) >= 5 and max(len(f) for f in opened["control"].ask("figures")) == 3
    assert every.tab.locator(".piece").count() > 20 and every.tab.locator("details").count() == 2
    assert len(every.ask("contrast")) > 300


#: What breaks a page so that a check must see it, put at the end of it, and what the check says of it.
BROKEN = {
    "cut_off, page": ('<div style="width: 400px">x</div>', "the page is"),
    "cut_off, element": (
        "<style>main { overflow-x: clip } .texts { margin-right: -30px }</style>",
        "out of the window",
    ),
    "cut_off, hidden": ("<style>.cut { overflow: hidden; white-space: nowrap }</style>", "cut: <p class"),
    "cut_off, figure": (
        "<style>svg { overflow: hidden } text { letter-spacing: 1em }</style>",
        "cut by its figure",
    ),
    "cut_off, overlap": ("<style>text { font-size: 25px !important }</style>", "one over the other"),
    "cut_on_paper, table": (
        "<style>@media print { .scroll { overflow: auto } table.points { width: 900px } }</style>",
        "cut: <div class",
    ),
    "cut_on_paper, folded": (
        "<style>details::details-content { content-visibility: hidden !important }</style>",
        "folded away",
    ),
    "faint": ("<style>:root { --soft: #999 }</style>", "light: measured at"),
    "faint, dark": (
        "<style>@media (prefers-color-scheme: dark) { :root { --mark: #0b5d68 } }</style>",
        "dark: ",
    ),
    "faint, figure": ("<style>text { fill: #aaa !important }</style>", "light: uk, before"),
    "faint, curve": ("<style>:root { --series-2: #e0b090 }</style>", "light: --series-2"),
    "told_by_colour, dashes": (
        "<style>svg * { stroke-dasharray: none !important } svg use { display: none }</style>",
        "--series-1 looks like --series-2",
    ),
    "told_by_colour, bars": ("<style>text { display: none }</style>", "bars without a name"),
    "told_by_colour, tokens": ("<style>.piece { outline: 0 }</style>", "a token without an edge"),
    "told_by_colour, edges": (
        "<style>.piece { outline-color: var(--line) }</style>",
        "a token without an edge",
    ),
    "told_by_colour, links": ("<style>a { text-decoration: none }</style>", "a link like other words"),
    # letters that Unicode has had since 2024
    "without_glyph": ("<p>\U000105c0\U00010d4a</p>", "\U000105c0"),
    "misdirected": ("<style>.prompt { text-align: left }</style>", ": rtl, begins"),
    "misdirected, order": ("<style>.text p { direction: ltr }</style>", ": ltr, begins"),
    "unstructured, figure": ("<svg width='9' height='9'></svg>", "without a name: <svg>"),
    "unstructured, order": ("<h2>two</h2><h4>four</h4>", "h4 after h2"),
    "unfocused": ("<style>:focus-visible { outline: none }</style>", "<summary>"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_page_does_not(opened: dict[str, report_checks.Page], case: str) -> None:
    seen, check = opened["scripts"], report_checks.CHECKS[case.partition(",")[0]]
    html, said = BROKEN[case]
    added = seen.tab.evaluate_handle(
        "html => { const added = document.createElement('div'); added.innerHTML = html;"
        " return document.querySelector('main').appendChild(added) }",
        html,
    )
    try:
        assert said in "\n".join(check(seen))
    finally:
        added.evaluate("added => added.remove()")


@pytest.mark.parametrize(
    "content",
    ['<img src="missing.png" alt="">', "<script>console.warn(1)</script>", "<script>nowhere()</script>"],
)
def test_a_page_that_fetches_or_complains_does_not(browser: Any, tmp_path: Path, content: str) -> None:
    (tmp_path / "page.html").write_text(f"<!DOCTYPE html><title>x</title>{content}", encoding="utf-8")
    assert report_checks.loading(report_checks.Page(browser, tmp_path / "page.html"))


def test_every_check_is_shown_a_broken_page() -> None:
    assert {case.partition(",")[0] for case in BROKEN} == set(report_checks.CHECKS) - {"loading"}


def test_a_table_is_one_on_a_phone_as_well(opened: dict[str, report_checks.Page]) -> None:
    """There its rows are laid out by a grid, which must not take from a screen reader what they are."""
    seen = opened["control"]
    roles = []
    for width in (report_checks.WIDTHS[-1], report_checks.WIDTHS[0]):
        seen.show(width=width)
        tree = seen.tab.context.new_cdp_session(seen.tab).send("Accessibility.getFullAXTree")["nodes"]
        roles.append(Counter(node["role"]["value"] for node in tree if not node["ignored"]))
    for role in ("table", "row", "cell", "rowheader", "columnheader"):
        assert roles[0][role] == roles[1][role] > 5


@pytest.mark.parametrize("scheme", report_checks.SCHEMES)
def test_a_picture_of_it_is_not_blank(
    opened: dict[str, report_checks.Page], tmp_path: Path, scheme: str
) -> None:
    from PIL import Image

    seen = opened["scripts"]
    seen.show(width=report_checks.WIDTHS[0], scheme=scheme)
    seen.tab.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
    with Image.open(tmp_path / f"{scheme}.png") as picture:
        assert picture.width == report_checks.WIDTHS[0] and picture.height > 3000
        bands = [
            picture.crop((0, top, picture.width, top + 900)) for top in range(0, picture.height - 900, 900)
        ]
        assert all(len(band.convert("L").getcolors(256)) > 20 for band in bands)


def test_without_colour_it_is_seen_in_grey(opened: dict[str, report_checks.Page]) -> None:
    from PIL import Image, ImageChops

    seen = opened["scripts"]
    seen.show()
    seen.tab.locator(".piece").first.scroll_into_view_if_needed()
    seen.without_colour()
    try:
        with Image.open(io.BytesIO(seen.tab.screenshot())) as picture:
            red, green, blue = picture.convert("RGB").split()
        apart = [ImageChops.difference(red, other).getextrema()[1] for other in (green, blue)]
        assert max(apart) <= 2
        assert report_checks.told_by_colour(seen) == []
    finally:
        seen.without_colour(False)


def test_it_is_printed_on_a_few_pages(opened: dict[str, report_checks.Page]) -> None:
    seen = opened["whole"]
    seen.show()
    paper = seen.tab.pdf(format="A4")
    assert paper.startswith(b"%PDF") and 2 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 8


def test_facts_of_a_run_are_good_and_those_of_another_page_are_not(
    browser: Any, written: dict[str, Path], tmp_path: Path
) -> None:
    run = written["half"].parent
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    found = list(report_facts.facts(report_facts.page_of(run, tmp_path), browser))
    assert len(found) > 15 and all(fact.good for fact in found)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    (tmp_path / "other.html").write_text('<p style="color: #aaa">pale <img src="x.png">', encoding="utf-8")
    wrong = {fact.name for fact in report_facts.facts(tmp_path / "other.html", browser) if not fact.good}
    assert {"lowest contrast of a text, light", "requests to others, errors and warnings"} <= wrong
