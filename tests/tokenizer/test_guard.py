from __future__ import annotations

from collections import Counter

import pytest

from fastvocab.tokenizer.guard import Guard, protectable, shared_prefix, split_fragment


@pytest.mark.parametrize(
    ("scripts", "raw", "allowed"),
    [
        ({"Cyrl"}, "слово".encode(), True),
        ({"Cyrl"}, b" the", False),
        ({"Cyrl"}, "ქართ".encode(), False),
        ({"Cyrl"}, b" \xd0", True),  # U+0400 to U+043F: Cyrillic alone
        ({"Geor"}, b"\xe1\x83", True),  # Georgian and its own punctuation
        ({"Geor"}, b"\xe1\x82", False),  # Myanmar as well
        ({"Thai"}, b"\xe0\xb8", True),  # Thai, and the common sign ฿
        ({"Thai"}, b"\x81\xe0", False),
        ({"Latn"}, "ię".encode(), True),
        ({"Latn"}, b"nie", False),
        ({"Latn"}, "café".encode(), False),
        ({"Latn"}, "afé".encode(), False),
        ({"Latn"}, "e\u0301".encode(), True),
        ({"Latn"}, b"e\xcc", True),  # a letter and the first byte of a combining mark
    ],
)
def test_a_merge_is_allowed_only_where_it_fires_in_the_target_script(
    scripts: set[str], raw: bytes, allowed: bool
) -> None:
    assert Guard(frozenset(scripts)).allows(raw) is allowed


def test_words_of_the_replay_text_are_protected_from_a_latin_target() -> None:
    assert Guard(frozenset({"Latn"})).allows_text("łódź")
    assert not Guard(frozenset({"Latn"}), ["the city of Łódź, or łódź"]).allows_text("łódź")


def test_a_prefix_shared_with_another_script_is_used_only_where_most_of_the_text_needs_it() -> None:
    adlam = frozenset({"Adlm"})
    assert not Guard(adlam).allows(b"\xf0\x9e")
    assert Guard(adlam, frequent=Counter("𞤀𞤁𞤂")).allows(b"\xf0\x9e")
    assert shared_prefix(b"\xf0\x9e", adlam) == b"\xf0\x9e"
    assert shared_prefix(b" \xd0", frozenset({"Cyrl"})) is None


def test_english_can_be_kept_beside_a_latin_target_and_polish_cannot() -> None:
    latin = frozenset({"Latn"})
    assert protectable(
        ["There is a café in the old town, and then a good many more plain words follow it to the end."],
        latin,
    )
    assert not protectable(["Zażółć gęślą jaźń, proszę, później będą łódź i żółw."], latin)


@pytest.mark.parametrize("text", ["a", "я", "ქ", "😀", "слово"])
@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_splitting_a_fragment_finds_whole_characters(text: str, cut: int) -> None:
    raw = text.encode()
    body, tail = split_fragment(raw[: len(raw) - cut] if cut else raw)
    assert text.startswith(body.decode())  # decodes: no half characters
    assert body + tail == (raw[: len(raw) - cut] if cut else raw)
