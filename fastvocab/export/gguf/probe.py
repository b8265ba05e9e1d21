"""The probe: the ids that a GGUF file gives must be those of the tokenizer that the model was trained with.

What llama.cpp cannot do at all is told apart from a wrong file: it has no normaliser, and before text behind a special
token it puts a space where it puts one before a text. Lines that differ for one of these reasons alone, which is
checked by taking the rule away from our own tokenizer, are counted and told; any other difference is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from fastvocab import console
from fastvocab.errors import ModelError
from fastvocab.export.gguf import pretokenizers
from fastvocab.export.gguf.llama_cpp import Reader
from fastvocab.export.gguf.vocabulary import Vocabulary, puts_space
from fastvocab.tokenizer import probes, samples
from fastvocab.tokenizer.base import Base, load_spec
from fastvocab.tokenizer.bpe import META_SPACE, from_alphabet, to_text
from fastvocab.tokenizer.kinds import Kind

#: Of the tokens, as many as this are probed: the newest (the highest ids), and as many evenly spread.
_MOST_TOKENS = 20_000
#: Characters of a random line: those of 20,000 took half of the time, and find nothing that the short ones do not.
_LONGEST = 1000

_SERVE = "serve the Hugging Face folder instead: vLLM and transformers read tokenizer.json"
_KEEP = (
    f"{_SERVE}; or, if the base's regex was repaired for the new script, train with tokenizer.pretokenizer=keep, which "
    "leaves it, and export that"
)

#: A text, its ids by the tokenizer, and by llama.cpp.
Rows = Sequence[tuple[str, list[int], list[int]]]
Pairs = list[tuple[list[int], list[int]]]
Again = Callable[[Rows], Pairs]


@dataclass(frozen=True)
class Known:
    """Lines that differ for a reason that no file could mend.

    Attributes:
        rule: what llama.cpp does otherwise.
        lines: how many.
        example: the shortest of them.
    """

    rule: str
    lines: int
    example: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.lines:,} probe lines, such as {self.example[:40]!r}"


NORMALISER = "llama.cpp does not normalise text as this tokenizer does"
NO_BYTE = "this tokenizer has no token for a byte: unknown to it, left out by llama.cpp"
MADE_UP = (
    "in text that nobody writes (other scripts' letters with joiners and foreign marks, random code points) llama.cpp "
    "cuts otherwise"
)
SPACE = "llama.cpp puts a space before text behind a special token, this tokenizer only before the whole text"
NO_SPACE = (
    "the file says that no space goes before a text, so that conversations are read as they were learnt; this "
    "tokenizer puts one before plain text: begin a plain prompt with a space"
)


def lines_for(base: Base) -> list[str]:
    """Text of all scripts, code, emoji, runs of spaces, each token, and special tokens within text."""
    texts = [
        *samples.built_in(),
        *samples.other_scripts(frozenset()),
        *probes.spaces(),
    ]
    by_id = sorted(base.vocab, key=base.vocab.__getitem__)
    spread = by_id[:: max(1, len(by_id) // _MOST_TOKENS)]
    for token in dict.fromkeys([*spread, *by_id[-_MOST_TOKENS:]]):
        if token in base.added:
            continue
        if base.kind is Kind.BYTE_LEVEL:
            raw = from_alphabet(token)
            text = None if raw is None else to_text(raw)
        else:
            text = None if re.fullmatch("<0x[0-9A-F]{2}>", token) else token.replace(META_SPACE, " ")
        texts += [text] if text else []
    special = [token["content"] for token in base.spec.get("added_tokens") or ()]
    for token in special[:200]:
        texts += [token, f"{token}text", f"text {token} text", f"a{token}{token}\n b"]
    texts += [f"{a}{b} {b}\n{a}" for a, b in pairwise(special[:50])]
    return texts


def odd_lines() -> list[str]:
    """Text that nobody writes: letters of each script with joiners and foreign marks between, random code points."""
    random = (line for line in probes.random_unicode() if len(line) < _LONGEST)
    return [*probes.mixed(frozenset()), *random]


def choose(base: Base, lines: Sequence[str]) -> str:
    """The pre-tokenizer with which llama.cpp gives the ids of a byte-level tokenizer.

    Raises:
        ModelError: there is none, with the closest one and the first text that differs.
    """
    normalizer = base.cutting.normalizer
    plain, odd = (
        [line for line in texts if normalizer is None or normalizer.normalize_str(line) == line]
        for texts in (lines, odd_lines())
    )
    fit = pretokenizers.choose(base, plain, odd)
    if fit.example is None:
        return fit.named.name
    text, ours, theirs = fit.example
    raise ModelError(
        f"{base.folder}: llama.cpp has no pre-tokenizer that cuts text as this tokenizer does. The closest of "
        f"{len(pretokenizers.KNOWN)}, {fit.named.name}, gives other ids on {fit.unequal:,} of {fit.lines:,} probe "
        f"texts, such as {_shown(base, text, ours, theirs)}",
        rule="a GGUF file names one of the regexes in llama.cpp's code and cannot bring its own",
        fix=_KEEP,
    )


def settle(base: Base, vocabulary: Vocabulary, lines: Sequence[str], chats: Sequence[str]) -> Vocabulary:
    """What has to be tried: the name of the pre-tokenizer, and whether a text gets a space in front.

    A SentencePiece base puts a space before a text and none behind special tokens; llama.cpp puts it before both or
    neither. Where there is a chat template, it is as conversations need it.

    Raises:
        ModelError: as `choose`.
    """
    if base.kind is Kind.BYTE_LEVEL:
        return replace(vocabulary, pre=choose(base, [*lines, *chats]))
    if vocabulary.space_prefix and chats:
        ours = pretokenizers.encode_all(base.tokenizer, chats)
        for prefix in (True, False):
            tried = replace(vocabulary, space_prefix=prefix)
            if Reader(tried).encode_all(chats) == ours:
                return tried
    return vocabulary


def compare(base: Base, vocabulary: Vocabulary, lines: Sequence[str], odd: Sequence[str] = ()) -> list[Known]:
    """Compare the ids by llama.cpp's rule with those of ``base``.

    Args:
        lines: texts that have to come out equal.
        odd: texts whose differences are only counted (`odd_lines`).

    Returns:
        Where they differ for a reason that lies in llama.cpp alone, and how many odd ones.

    Raises:
        ModelError: they differ for any other reason.
    """
    reader = Reader(vocabulary)
    lines = [*lines, *odd]
    ours = pretokenizers.encode_all(base.tokenizer, lines)
    wrong = [row for row in zip(lines, ours, reader.encode_all(lines)) if row[1] != row[2]]
    known = []
    for rule, again in _rules(base, reader, vocabulary):
        explained = [ours == theirs for ours, theirs in again(wrong)] if wrong else []
        if any(explained):
            texts = [row[0] for row, fits in zip(wrong, explained) if fits]
            known.append(Known(rule, len(texts), min(texts, key=len)))
            wrong = [row for row, fits in zip(wrong, explained) if not fits]
    made_up = {row[0] for row in wrong} & set(odd)
    if made_up:
        known.append(Known(MADE_UP, len(made_up), min(made_up, key=len)))
        wrong = [row for row in wrong if row[0] not in made_up]
    if wrong:
        text, one, other = min(wrong, key=lambda row: len(row[0]))
        raise ModelError(
            f"{base.folder}: by llama.cpp's rule the GGUF file gives other ids on {len(wrong):,} of {len(lines):,} "
            f"probe texts, such as {_shown(base, text, one, other)}",
            rule="a file that reads text otherwise than the model was trained to is not written",
            fix=_SERVE,
        )
    return known


def _rules(base: Base, reader: Reader, vocabulary: Vocabulary) -> list[tuple[str, Again]]:
    """What may explain a difference: each gives the two lists of ids again, with llama.cpp's rule in ours."""
    rules: list[tuple[str, Again]] = []
    if base.kind is Kind.BYTE_LEVEL:
        unknown = base.vocab.get(str(base.spec["model"].get("unk_token")))
        if unknown is not None:
            rules.append((NO_BYTE, lambda rows: [([i for i in a if i != unknown], b) for _, a, b in rows]))
        if base.cutting.normalizer is not None:
            bare = load_spec(base.spec | {"normalizer": None}, base.folder)

            def unnormalised(rows: Rows) -> Pairs:
                return list(
                    zip(pretokenizers.encode_all(bare, [row[0] for row in rows]), [row[2] for row in rows])
                )

            rules.append((NORMALISER, unnormalised))
    elif vocabulary.space_prefix:

        def spaced(rows: Rows) -> Pairs:
            texts = [_spaced(row[0], reader) for row in rows]
            return list(zip(pretokenizers.encode_all(base.tokenizer, texts), [row[2] for row in rows]))

        rules.append((SPACE, spaced))
    elif puts_space(base):
        rules.append(
            (
                NO_SPACE,
                lambda rows: list(zip([r[1] for r in rows], reader.encode_all([f" {r[0]}" for r in rows]))),
            )
        )
    return rules


def _spaced(line: str, reader: Reader) -> str:
    """A text with the space that llama.cpp puts behind each special token."""
    found = [re.escape(token) for token in reader.special if token in line]
    if not found:
        return line
    pattern = re.compile("|".join(found))
    ends = [match.end() for match in pattern.finditer(line)]
    parts = [line[start:stop] for start, stop in zip([0, *ends], [*ends, len(line)])]
    return "".join(
        part if place == 0 or not part or pattern.match(part) else f" {part}"
        for place, part in enumerate(parts)
    )


def _shown(base: Base, text: str, ours: list[int], theirs: list[int]) -> str:
    """Where two lists of ids part: a few ids from there on, and the text."""
    first = next((n for n, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    before = base.tokenizer.decode(ours[:first], skip_special_tokens=False)
    rest = text[len(before) :] if text.startswith(before) else text
    ids = [" ".join(map(str, some[first : first + 8])) or "nothing" for some in (ours, theirs)]
    return f"{rest[:40]!r}: ids {ids[0]} by tokenizer.json, {ids[1]} by llama.cpp"


def tell(known: Sequence[Known], folder: Path) -> None:
    """Say what llama.cpp will do otherwise with ordinary text."""
    for one in known:
        if one.rule != NO_BYTE:  # bytes of planes without characters: nobody writes them
            console.warn(f"{folder.name}: {one}")


def tell_of_transformers(found: Mapping[str, Any], name: str) -> None:
    """Say where transformers would read a file otherwise than llama.cpp does (`readback.by_transformers`)."""
    who = f"{name}: transformers {found['version']}"
    if "not_read" in found:
        console.warn(
            f"{who} does not read such a file ({found['not_read']}): it was compared by llama.cpp's rule alone"
        )
    elif (other := found["lines"] - found["as_loaded"]) > 0:
        console.warn(
            f"{who} cuts text by a regex of its own, whatever the file names: {other:,} of {found['lines']:,} probe "
            "texts get other ids there"
        )


def figures(lines: Sequence[str], known: Sequence[Known]) -> dict[str, Any]:
    """What was compared and equal, for the record."""
    differing = sum(one.lines for one in known)
    return {
        "lines": len(lines),
        "equal": len(lines) - differing,
        "not_in_llama_cpp": [{"rule": one.rule, "lines": one.lines, "example": one.example} for one in known],
    }


def require_same(wanted: Vocabulary, found: Vocabulary, path: Path) -> None:
    """Refuse a file that does not say what it was made of.

    Raises:
        ModelError: naming the key.
    """
    for one in fields(Vocabulary):
        ours, theirs = getattr(wanted, one.name), getattr(found, one.name)
        if one.name == "template" and not isinstance(ours, str):
            continue  # several templates are several keys
        if ours != theirs:
            raise ModelError(f"{path.name} read back has other {one.name} than were written", fix="try again")
