"""Cleaning changes nothing that is spelling, in any script, and drops with a reason."""

import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastvocab.corpus.clean import REASONS, Cleaner, clean_text, target_scripts
from fastvocab.corpus.seen import Seen
from fastvocab.errors import ConfigError
from fastvocab.unicode import NEUTRAL, letter_scripts, script_of

PROSE = {
    "uk": "Сьогодні розповім про те, як і навіщо мене занесло в гори.",
    "hi": "क्षत्रिय और ज्ञानी दोनों राज्‍य की सेवा करते हैं।",  # with a zero-width joiner
    "th": "ภาษาไทยเขียนโดยไม่เว้นวรรค\u200bระหว่างคำ",  # with a zero-width space
    "ja": "日本語の文章は、漢字とカタカナとひらがなで書く。",
    "zh-Hans": "中文书写不使用空格，句子之间用句号。",
    "ko": "한국어 문장은 띄어쓰기가 있고 漢字도 가끔 쓴다.",
    "fa": "می‌خواهم کتاب‌هایم را بخوانم؛ نمی‌دانم کجا هستند.",  # with zero-width non-joiners
    "he": "\u200fעברית נכתבת מימין לשמאל, עם English באמצע.",
    "am": "አማርኛ በኢትዮጵያ የሚነገር ቋንቋ ነው።",
    "vi": "Tiếng Việt dùng chữ Quốc ngữ với nhiều dấu thanh.",
    "sr": "Ово је реченица на српском језику.",
    "sr-Latn": "Ovo je rečenica na srpskom jeziku.",
}


@pytest.mark.parametrize("language", PROSE)
def test_real_prose_is_kept_as_it_is_by_its_own_language(language: str) -> None:
    text = unicodedata.normalize("NFC", PROSE[language])
    cleaner = Cleaner(target_scripts(language, letter_scripts("")))
    assert cleaner(text) == (text, None, len(text.encode()), cleaner(text).key)


@pytest.mark.parametrize("language", PROSE)
def test_scripts_are_found_from_the_text_itself(language: str) -> None:
    # one script that the language is written in is not enough: all of it must pass
    scripts = target_scripts(None, letter_scripts(PROSE[language]))
    assert Cleaner(scripts)(PROSE[language]).reason is None
    foreign = PROSE["am"] if language != "am" else PROSE["uk"]
    assert Cleaner(scripts)(foreign).reason == "wrong_script"


def test_katakana_alone_belongs_to_a_corpus_of_kana_and_kanji() -> None:
    scripts = target_scripts(None, letter_scripts("漢字とひらがなの文章を書いている。" * 3))
    assert scripts == {"Hani", "Hira", "Kana"}
    assert Cleaner(scripts)("コンピューター・プログラミング").reason is None


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a\r\nb\rc\x0bd\x0ce\x85f\u2028g\u2029h", "a\nb\nc\nd\ne\nf\ng\nh"),
        ("\ufeffa\x00b\x1b[0m\x7f\x9f\ufdd0\uffff", "ab[0m"),
        ("й".replace("й", "и\u0306") + " e\u0301", "й é"),
        ("fi\u00adnal", "final"),
        ("a \t\n\u3000b\u00a0 \n\n", "a\n\u3000b"),
        ("\n\n  indented", "  indented"),
        ("می\u200cخواهم \u200fא\u200e क्\u200dष", "می\u200cخواهم \u200fא\u200e क्\u200dष"),
        ("👩\u200d👩\u200d👧 ☝\ufe0f", "👩\u200d👩\u200d👧 ☝\ufe0f"),
    ],
)
def test_what_cleaning_does(raw: str, clean: str) -> None:
    assert clean_text(raw) == unicodedata.normalize("NFC", clean)


ODD = st.text(
    st.one_of(
        st.characters(),  # anything, surrogates among them
        st.sampled_from("\r\n\t \x0c\x85\u2028\ufeff\ufffd\u200c\u200d\u0301\u0327\u1100\u1161\u11a8\u0958é"),
    )
)


@settings(max_examples=400, deadline=None)
@given(ODD)
def test_cleaning_is_idempotent_and_never_fails(text: str) -> None:
    once = clean_text(text)
    assert clean_text(once) == once
    assert unicodedata.is_normalized("NFC", once)
    kept = [c for c in once if unicodedata.category(c) == "Cc" and c not in "\n\t"]
    assert not kept
    assert Cleaner(min_chars=0)(text).reason in {None, *REASONS}


@settings(max_examples=200, deadline=None)
@given(ODD)
def test_only_what_is_invisible_is_removed(text: str) -> None:
    def visible(string: str) -> str:
        string = unicodedata.normalize("NFC", "".join(c for c in string if unicodedata.category(c) != "Cn"))
        return "".join(c for c in string if unicodedata.category(c) not in ("Cc", "Cf") and not c.isspace())

    # a soft hyphen or control between a letter and its accent keeps them apart before cleaning, not after
    assert unicodedata.normalize("NFD", visible(clean_text(text))) == unicodedata.normalize(
        "NFD", unicodedata.normalize("NFC", visible(text))
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\ufeff\t", "empty"),
        ("Так.", "too_short"),
        ("12.5 | 13.7 | 99.1 | 45.0 a", "not_text"),
        ("-" * 80, "not_text"),
        ("Речення з половинкою \ud83d емодзі", "not_text"),
        ("Це д\ufffdже погано прочитане речення", "replacement_characters"),
        ("This sentence is English, українське лише слово", "wrong_script"),
        ("Речення українською про Python, Linux та інше.", None),
        ("Одна \ufffd помилка. " + "Довгий добрий текст. " * 30, None),
    ],
)
def test_documents_are_dropped_with_their_reason(text: str, reason: str | None) -> None:
    cleaner = Cleaner(frozenset({"Cyrl"}))
    assert cleaner(text).reason == reason
    assert cleaner.dropped == ({reason: 1} if reason else {})


def test_duplicates_are_found_after_cleaning() -> None:
    cleaner = Cleaner()
    assert cleaner("Їжак і їжачок живуть тут.\r\n").reason is None
    assert cleaner(unicodedata.normalize("NFD", "Їжак і їжачок живуть тут.  ")).reason == "duplicate"
    assert cleaner("Їжак і їжачок живуть тут!").reason is None


def test_the_limits_are_the_users_own() -> None:
    assert Cleaner(min_chars=3)("Так").reason is None
    mixed = "слово word слово word"
    assert Cleaner(frozenset({"Cyrl"}), 0, 0.6)(mixed).reason == "wrong_script"
    assert Cleaner(frozenset({"Cyrl"}), 0, 0.5)(mixed).reason is None
    assert Cleaner(frozenset({"Geor"}), 0, 0)(mixed).reason is None
    for wrong in ({"min_chars": -1}, {"min_script_share": 1.5}):
        with pytest.raises(ConfigError):
            Cleaner(**wrong)  # type: ignore[arg-type]


def test_no_such_language_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"corpus\.language"):
        target_scripts("ukrainian-language", letter_scripts(""))


def test_letters_are_counted_as_one_by_one() -> None:
    # the table against the plain definition, over every code point there is, in no order
    every = [chr(code) for code in range(0x110000)]
    random.Random(0).shuffle(every)
    slow: dict[str, int] = {}
    for char in every:
        if unicodedata.category(char)[0] in "LM" and script_of(char) not in NEUTRAL:
            slow[script_of(char)] = slow.get(script_of(char), 0) + 1
    assert letter_scripts("".join(every)) == slow


@pytest.mark.parametrize("in_memory", [0, 7, 10_000])
def test_duplicates_are_the_same_on_disk_and_in_memory(in_memory: int) -> None:
    chance = random.Random(5)
    keys = [chance.choice([chance.getrandbits(64), chance.randrange(300)]) for _ in range(3000)]
    keys += [0, 2**64 - 1, 0, 2**64 - 1]
    seen, known = Seen(in_memory), set[int]()
    for key in keys:
        assert seen.add(key) == (key not in known)
        known.add(key)
