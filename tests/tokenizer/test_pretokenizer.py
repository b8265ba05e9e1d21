"""The repair of a pre-tokenizer: words of the target script whole, everything else cut as before."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from fastvocab.tokenizer import patterns, probes, samples
from fastvocab.tokenizer.base import Base, Kind
from fastvocab.tokenizer.byte_level import cutter
from fastvocab.tokenizer.pretokenizer import Repair, repair
from fastvocab.tokenizer.words import Words, draw
from fastvocab.unicode import script_of
from tests import texts
from tests.tokenizer.conftest import QWEN, read_once, words_of

_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_S = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#: The regexes of published tokenizer.json files; None is GPT-2's, which ByteLevel has built in.
REGEXES: dict[str, list[str] | None] = {
    "gpt2": None,
    "llama3": [rf"{_S}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_TAIL}"],
    "qwen": [QWEN],
    "tekken": [
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
        rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_TAIL}"
    ],
    "gpt4o": [
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_S}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_S}?"
        rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_TAIL}"
    ],
    "deepseek3": [
        r"\p{N}{1,3}",
        "[一-龥\u3040-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_TAIL}",
    ],
}

#: Words that must come out whole, by script.
WHOLE: dict[str, list[str]] = {
    "Deva": ["किताब", "क्षत्रिय", "हूँ", "र्\u200dया"],
    "Beng": ["বাংলা", "ক্ষুদ্র", "ৎ\u200dক"],
    "Taml": ["தமிழ்", "கொண்டு"],
    "Khmr": ["ខ្មែរ", "ភាសា\u200bខ្មែរ"],
    "Thai": ["ที่นี่", "น้ำ"],
    "Arab": ["كِتَابٌ", "مُحَمَّد", "می\u200cخواهم", "کتاب\u200cها"],
    "Hebr": ["שָׁלוֹם", "צה״ל", "צ׳יפס", 'צה"ל'],
    "Sinh": ["ශ්\u200dරී", "සිංහල"],
    "Mlym": ["അവന്\u200d", "അവൻ", "മലയാളം"],
    "Tibt": ["བོད་", "བོད་སྐད་"],
    "Cyrl": ["об’єкт", "п'ять", "зо\u0301лото", "комп\u02bcютер"],
    "Mymr": ["မြန်မာ", "ကျွန်ုပ်"],
}


def step_of(name: str) -> dict[str, Any]:
    """The pre-tokenizer of a tokenizer.json, written by the tokenizers library."""
    regexes = REGEXES[name]
    made: Any = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if regexes is not None:
        splits = [pre_tokenizers.Split(Regex(one), behavior="isolated") for one in regexes]
        last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made = pre_tokenizers.Sequence([*splits, last])
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = made
    return json.loads(tokenizer.to_str())["pre_tokenizer"]


def with_step(step: dict[str, Any] | None) -> Base:
    """A base of which only the pre-tokenizer matters."""
    model = {"type": "BPE", "vocab": {}, "merges": []}
    spec = {"version": "1.0", "model": model, "normalizer": None, "pre_tokenizer": step, "added_tokens": []}
    return Base(Path("made up"), Kind.BYTE_LEVEL, spec)


def words_in(script: str) -> Words:
    return words_of([f"{word} {word}, {word}" for word in WHOLE[script]], script)


@cache
def repaired(name: str, script: str) -> Repair:
    return repair(with_step(step_of(name)), words_in(script), "repair")


def cuts(base: Base, text: str) -> list[str]:
    """The parts by the library."""
    found = base.tokenizer.pre_tokenizer.pre_tokenize_str(text)
    return [text[start:end] for _, (start, end) in found]


@pytest.mark.parametrize("script", WHOLE)
@pytest.mark.parametrize("name", REGEXES)
def test_words_come_out_whole(name: str, script: str) -> None:
    found = repaired(name, script)
    for word in WHOLE[script]:
        assert cuts(found.base, f" {word}") == [f" {word}"]
        assert cuts(found.base, word) == [word]
    if found.changed:
        assert found.after.tokens < found.before.tokens
        assert any(len(cuts(with_step(step_of(name)), word)) > 1 for word in WHOLE[script])
    assert found.after.tokens == 1.0 or found.after.unit == "character"


_JOINERS = "'’‘׳״\"՚\u200c\u200d\u0f0b\u200b\u0301\u0323\u064b\u0651\u093c\u05b8\u02bc-_·"
_OTHER = "abEé ßжїΩאבجعكकখதสខ가ꮳ你かア🏽👩❤\ufe0f1٣२\n\r\t  .,!?/()$+"


@settings(max_examples=40, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("script", ["Deva", "Arab", "Hebr", "Cyrl", "Tibt"])
@pytest.mark.parametrize("name", REGEXES)
def test_any_text_without_the_script_is_cut_as_before(name: str, script: str, data: st.DataObject) -> None:
    one = st.one_of(st.sampled_from(_JOINERS + _OTHER), st.characters(exclude_categories=["Cs"]))
    text = data.draw(st.text(one.filter(lambda char: script_of(char) != script), max_size=40))
    found = repaired(name, script)
    assert cuts(found.base, text) == cuts(_before(name), text)


@cache
def _before(name: str) -> Base:
    return with_step(step_of(name))


@pytest.mark.parametrize("script", WHOLE)
@pytest.mark.parametrize("name", REGEXES)
def test_english_emoji_and_all_other_scripts_are_cut_as_before(name: str, script: str) -> None:
    found, before = repaired(name, script), _before(name)
    lines = [
        *samples.built_in(),
        *samples.other_scripts(frozenset({script})),
        *probes.mixed(frozenset({script})),
    ]
    lines = [line for line in lines if script not in map(script_of, line)]
    assert len(lines) > 100
    for line in lines:
        assert cuts(found.base, line) == cuts(before, line)
    for tail in (" don't stop", " it's café o'clock", " 👩\u200d👩\u200d👧\u200d👦 x", "\n\n  12345"):
        word = WHOLE[script][0]
        assert cuts(found.base, word + tail) == [word, *cuts(before, tail)]


@pytest.mark.parametrize(("script", "word"), [("Cyrl", "НАТО"), ("Hebr", "צהל")])
@pytest.mark.parametrize("name", REGEXES)
def test_an_apostrophe_joins_two_letters_of_the_script_alone(name: str, script: str, word: str) -> None:
    found = repaired(name, script)
    for tail in ("'s", "’x", "'", "'12", '"abc"'):
        assert cuts(found.base, word + tail) == cuts(_before(name), word + tail)


YORUBA = "Ọmọ náà ń lọ sí ilé ìwé ní òwúrọ̀ Wọ́n fẹ́ràn láti kọ́ ẹ̀kọ́ púpọ̀ nípa àṣà àti ìtàn ilẹ̀ Yorùbá"
VIETNAMESE = "Tiếng Việt là ngôn ngữ của người Việt và là ngôn ngữ chính thức tại Việt Nam"


@pytest.mark.parametrize("line", [YORUBA, VIETNAMESE])
@pytest.mark.parametrize("name", REGEXES)
def test_decomposed_latin_words_come_out_whole_and_english_as_before(name: str, line: str) -> None:
    line = unicodedata.normalize("NFD", line)
    found = repair(with_step(step_of(name)), words_of([line] * 3, "Latn"))
    assert [part.strip() for part in cuts(found.base, line)] == line.split()
    assert found.changed is (name in ("gpt2", "llama3", "qwen"))
    before = _before(name)
    for english in (
        "I don't know; it's 'quoted' o'clock, they'd've",
        "café naïve l'été d’état DON'T",
        "rock’n’roll Zoë's résumé",
        "👩\u200d👩\u200d👧 a\u200db x\u200cy",
        *samples.built_in(),
    ):
        if not regex.search(r"[A-Za-z]\p{M}", english):
            assert cuts(found.base, english) == cuts(before, english)


@pytest.mark.parametrize("script", ["Deva", "Hebr"])
@pytest.mark.parametrize("name", ["gpt2", "llama3"])
def test_keep_leaves_the_base_and_reports_the_same_floor(name: str, script: str) -> None:
    base = with_step(step_of(name))
    kept = repair(base, words_in(script), "keep")
    assert kept.base is base and not kept.changed and kept.reason == "kept, as asked"
    assert kept.before == kept.after == repaired(name, script).before
    assert kept.before.tokens > 1.3


@pytest.mark.parametrize("language", ["hi", "ta"])
@pytest.mark.parametrize("name", ["gpt2", "llama3", "qwen"])
def test_the_floor_is_the_number_of_parts_of_each_word(name: str, language: str) -> None:
    counts = Counter(
        word for line in texts.lines(language)[:400] for word in regex.findall(r"[\p{L}\p{M}]+", line)
    )
    script = {"hi": "Deva", "ta": "Taml"}[language]
    counts = Counter({w: n for w, n in counts.items() if all(script_of(char) == script for char in w)})
    lines = [f" {word}" for word, number in counts.items() for _ in range(number)]
    found = repair(_before(name), words_of(lines, script))
    brute = sum(n * len(cuts(_before(name), f" {word}")) for word, n in counts.items()) / counts.total()
    assert found.before.tokens == pytest.approx(brute, abs=1e-4) and brute > 1.5
    assert found.changed and found.after.tokens == 1.0
    assert found.before.causes.keys() == {"combining mark"}
    assert sum(found.before.causes.values()) == pytest.approx(1000 * (brute - 1), abs=0.1)


@pytest.mark.parametrize(
    ("line", "script"),
    [(unicodedata.normalize("NFD", VIETNAMESE), "Latn"), ("\u0958लम ला\u095cी \u095dाबा", "Deva")],
)
def test_the_floor_is_that_of_the_text_as_the_base_normalises_it(line: str, script: str) -> None:
    """NFC makes one character of a letter and its marks, and two of the Devanagari letters with a nukta."""
    base = _before("qwen")
    base = replace(base, spec=base.spec | {"normalizer": {"type": "NFC"}})
    found = repair(base, words_of([line] * 3, script))
    plain = repair(_before("qwen"), words_of([unicodedata.normalize("NFC", line)] * 3, script))
    assert (found.before, found.after, found.changed) == (plain.before, plain.after, plain.changed)
    assert found.changed is (script == "Deva") and found.after.tokens == 1.0


def test_ukrainian_is_left_as_it_is_unless_a_repair_is_asked_for() -> None:
    lines = [f"{word} " * 120 + "п'ять" for word in ("слово", "мова", "земля", "річка", "небо")]
    words = words_of(lines)
    auto, asked = (repair(_before("llama3"), words, mode) for mode in ("auto", "repair"))
    assert not auto.changed and auto.base is _before("llama3")
    assert "0.8%" in auto.reason and "2%" in auto.reason
    assert asked.changed and asked.after.tokens == 1.0 < asked.before.tokens < 1.02
    assert cuts(asked.base, "п'ять don't") == ["п'ять", *cuts(_before("llama3"), " don't")]


def _left(step: dict[str, Any] | None) -> str:
    base = with_step(step)
    found = repair(base, words_in("Deva"), "repair")
    assert found.base is base and not found.changed and found.before == found.after
    return found.reason


def test_what_cannot_be_repaired_is_left_with_a_reason() -> None:
    split = step_of("llama3")["pretokenizers"][0]
    level = step_of("llama3")["pretokenizers"][1]
    unread = split | {"pattern": {"Regex": r"[\H]?\p{L}+|\s+"}}
    assert patterns.extend(r"[\H]?\p{L}+|\s+", patterns.Signs(frozenset({"Deva"}))) is None
    assert "regex" in _left({"type": "Sequence", "pretokenizers": [unread, level]})
    prefixed = step_of("gpt2") | {"add_prefix_space": True}
    assert "space before each text" in _left(prefixed)
    digits = {"type": "Digits", "individual_digits": True}
    assert "space before each text" in _left({"type": "Sequence", "pretokenizers": [digits, prefixed]})


def test_a_reluctant_quantifier_is_left_alone() -> None:
    signs = patterns.Signs(frozenset({"Arab"}), shared_marks="\u064e")
    assert patterns.extend(r"\p{L}+?(?=\s)|\s+", signs) is None
    assert patterns.extend(r"\p{L}+(?=\s)|\s+", signs) is not None


@pytest.mark.parametrize("name", REGEXES)
def test_a_script_without_marks_and_signs_has_nothing_to_repair(name: str) -> None:
    words = draw(["漢字仮名交文" * 3 + " 漢字"], scripts=frozenset({"Hani"}), max_bytes=1000, seed=0)
    base = with_step(step_of(name))
    found = repair(base, words, "repair")
    assert not found.changed and found.base is base and found.reason


def test_a_base_that_does_not_cut_is_left_with_a_reason(fallback_base: Path) -> None:
    base = read_once(fallback_base)
    found = repair(base, words_in("Deva"), "repair")
    assert found.base is base and not found.changed and "does not cut" in found.reason
    assert found.before.tokens == 1.0


def test_what_stands_around_the_regex_stays(gpt2_base: Path) -> None:
    source = read_once(gpt2_base)
    digits = {"type": "Digits", "individual_digits": True}
    step = {"type": "Sequence", "pretokenizers": [digits, source.spec["pre_tokenizer"]]}
    base = replace(source, spec=source.spec | {"pre_tokenizer": step})
    found = repair(base, words_in("Deva"))
    assert found.changed
    steps = found.base.spec["pre_tokenizer"]["pretokenizers"]
    assert steps[0] == digits and [one["type"] for one in steps] == ["Digits", "Split", "ByteLevel"]
    assert {k: v for k, v in found.base.spec.items() if k != "pre_tokenizer"} == {
        k: v for k, v in source.spec.items() if k != "pre_tokenizer"
    }
    assert cuts(found.base, "किताब 123 don't") == ["किताब", " ", "1", "2", "3", " don", "'t"]
    assert cutter(found.base)("किताब") == ["किताब"]
