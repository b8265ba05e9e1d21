"""Text: everything without the target script is tokenized as before, and everything decodes to itself."""

from __future__ import annotations

from itertools import chain
from typing import Any

from fastvocab.tokenizer import probes, samples
from fastvocab.tokenizer.base import Base, Kind
from fastvocab.tokenizer.bpe import from_alphabet
from fastvocab.tokenizer.guard import ENGLISH_LOANS, Guard, protectable, shared_prefix
from fastvocab.tokenizer.measure import encode_all
from fastvocab.tokenizer.proofs.common import EXAMPLES, Proof, Texts, differences, new_ids

_GROUP = 24


def other_text(base: Base, extended: Base, scripts: frozenset[str], replay: list[str]) -> Proof:
    """Text without the target script has the same ids as before.

    Compared: the replay lines, code, English, emoji, digits, spacing, made-up words of every other Unicode
    script, letters of each with joiners, foreign marks and apostrophes between them, and the assigned
    characters one by one. The two may cut text by different patterns; then they must cut all the built-in
    text alike too, since where the base has no merge across a cut its loss shows in no id. Characters that
    share their first bytes with the target script where the base does not merge these bytes (``shared``) are
    exempt, and counted.
    """
    guard = Guard(scripts)
    prefixes = tuple(sorted(_shared_prefixes(base, extended, scripts)))

    def target(text: str) -> bool:
        return guard.has_target(text)

    kept_whole = protectable(replay, scripts)
    own = [line for line in replay if kept_whole or not target(line)]
    english = [*samples.built_in(), ENGLISH_LOANS]
    others = [*samples.other_scripts(scripts), *probes.mixed(scripts), *probes.spaces()]
    fixed = [*english, *(line for line in others if not target(line))]
    if "Latn" not in scripts:
        fixed = [line for line in fixed if not target(line)]  # such as Greek, for its mathematical letters
    chars = [char for char in samples.assigned() if not target(char)]
    every = {*chars, *chain(*own, *fixed)} if prefixes else set()
    normalizer = base.cutting.normalizer

    def shares(char: str) -> bool:
        read = normalizer.normalize_str(char) if normalizer else char  # NFC makes 〈 (U+2329) U+3008
        return any(c.encode("utf-8", "replace").startswith(prefixes) for c in (char, *read))

    exempt = {char for char in every if shares(char)}
    compared = [line for line in [*own, *fixed] if exempt.isdisjoint(line)]
    singles = [char for char in chars if char not in exempt]
    wrong = differences(base, extended, compared)
    wrong_singles = _changed_characters(base, extended, singles)
    wrong_cuts = _cut_differently(base, extended, [*fixed, *_grouped(singles)])
    detail: dict[str, Any] = {
        "replay_lines": len(own),
        "replay_lines_in_target_script": len(replay) - len(own),
        "built_in_lines": len(fixed),
        "characters": len(singles),
        "lines_changed": len(wrong),
        "characters_changed": len(wrong_singles),
        "cuts_changed": len(wrong_cuts),
        "examples": (wrong + wrong_singles + wrong_cuts)[:EXAMPLES],
    }
    if prefixes:
        shared = _changed_characters(base, extended, [char for char in chars if char in exempt])
        detail["shared"] = {
            "first_bytes": [prefix.hex(" ") for prefix in prefixes],
            "characters_one_step_shorter": len(shared),
            "examples": shared[:50],
        }
    return Proof("other_text_identical", not (wrong or wrong_singles or wrong_cuts), detail)


def _cut_differently(base: Base, extended: Base, lines: list[str]) -> list[str]:
    """The lines that the two pre-tokenizers cut in different places; none where they are the same."""
    if base.spec.get("pre_tokenizer") == extended.spec.get("pre_tokenizer"):
        return []
    before, after = base.tokenizer.pre_tokenizer, extended.tokenizer.pre_tokenizer
    if before is None or after is None:
        return lines
    return [line for line in lines if before.pre_tokenize_str(line) != after.pre_tokenize_str(line)]


def _shared_prefixes(base: Base, extended: Base, scripts: frozenset[str]) -> set[bytes]:
    if base.kind is not Kind.BYTE_LEVEL:
        return set()
    raws = (from_alphabet(token) for token in new_ids(base, extended))
    return {p for raw in raws if raw is not None and (p := shared_prefix(raw, scripts)) is not None}


def round_trip(base: Base, extended: Base, texts: Texts) -> Proof:
    """Encoding and decoding gives the text back: on held-out and replay lines, spaces and random Unicode.

    Where the base itself does not (a normaliser, a byte it lacks), the result must be the base's own. Strings
    that are no text (lone surrogates) must be refused, not turned into something else.
    """
    lines = [
        *texts.heldout,
        *texts.replay,
        *samples.built_in(),
        *probes.spaces(),
        *probes.random_unicode(),
    ]
    wrong: list[str] = []
    as_base = 0
    heldout_exact = len(texts.heldout)
    after = extended.tokenizer.decode_batch(
        list(encode_all(extended.tokenizer, lines)), skip_special_tokens=False
    )
    for place, (line, result) in enumerate(zip(lines, after)):
        if result != line:
            heldout_exact -= place < len(texts.heldout)
            ids = base.tokenizer.encode(line, add_special_tokens=False).ids
            as_base += 1
            if base.tokenizer.decode(ids, skip_special_tokens=False) != result:
                wrong.append(line)
    refused = all(_refuses(extended, text) for text in probes.lone_surrogates())
    detail = {
        "heldout_lines": len(texts.heldout),
        "heldout_exact": heldout_exact,
        "lines": len(lines),
        "exact": len(lines) - as_base,
        "inexact_in_the_base_too": as_base - len(wrong),
        "wrong": len(wrong),
        "lone_surrogates_refused": refused,
        "examples": wrong[:EXAMPLES],
    }
    return Proof("round_trip_exact", not wrong and refused, detail)


def _refuses(extended: Base, text: str) -> bool:
    try:
        extended.tokenizer.encode(text)
    except TypeError:  # what the tokenizers library says of a string that is not UTF-8
        return True
    return False


def _changed_characters(base: Base, extended: Base, chars: list[str]) -> list[str]:
    """The characters that the two tokenize differently: alone, after a space, doubled.

    Two dozen go into one text, and are taken apart where it differs: the library's cost is by text.
    """
    texts = _grouped(chars)
    suspects = [char for text in differences(base, extended, list(texts)) for char in texts[text]]
    single = {f"{c} {c}{c}": c for c in suspects}
    return [single[text] for text in differences(base, extended, list(single))]


def _grouped(chars: list[str]) -> dict[str, list[str]]:
    """Texts of two dozen characters, with the characters of each."""
    groups = [chars[start : start + _GROUP] for start in range(0, len(chars), _GROUP)]
    return {"\n".join(f"{c} {c}{c}" for c in group): group for group in groups}
