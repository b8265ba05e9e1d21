"""The pre-tokenizers that llama.cpp knows by name, and which of them cuts text as a given tokenizer does.

A GGUF file has no regex: ``tokenizer.ggml.pre`` is a name, and llama.cpp has the regexes in its code
(``src/llama-vocab.cpp``, read on 2026-11-28 as llama-cpp-python 0.3.36 brings it). Its own converter finds the name
by a hash of ids on one text; here the ids on the whole probe must be equal. The name of the model says nothing:
a base's regex may have been repaired (`fastvocab.tokenizer.pretokenizer`), and then no name may fit.

The regexes below say what llama.cpp does, which is not always what the tokenizer of that name does (tekken: letters
beyond ASCII are of both cases, and combining marks are no letters). They are Oniguruma's, for the tokenizers library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from fastvocab.tokenizer.base import Base

_BATCH = 1024
#: Texts that each is tried on first; those of all scripts and of spaces come first.
_SOME = 1500

#: A text, its ids by the tokenizer, and by llama.cpp.
Row = tuple[str, list[int], list[int]]

# parts that several regexes share
_SHORT = r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_WORD = _BEFORE + r"\p{L}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'(?:[stmd]|re|ve|ll)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def _by_case(letters: str, *, short: bool, digits: str) -> str:
    """Words cut where capitals begin, as llama.cpp tells them: by ASCII alone."""
    upper, lower = rf"[{letters}&&[^a-z]]", rf"[{letters}&&[^A-Z]]"
    end = f"(?:{_SHORT})?" if short else ""
    words = f"{_BEFORE}{upper}*{lower}+{end}|{_BEFORE}{upper}+{lower}*{end}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"


@dataclass(frozen=True)
class Named:
    """One of llama.cpp's pre-tokenizers.

    Attributes:
        name: value of ``tokenizer.ggml.pre``.
        regexes: each cuts what the one before has left; what a regex does not match stays as a part.
        ignore_merges: whether a part that is a token is taken whole, whatever the merges say.
    """

    name: str
    regexes: tuple[str, ...]
    ignore_merges: bool = False

    @cached_property
    def step(self) -> Any:
        """It as a pre-tokenizer of the tokenizers library."""
        from tokenizers import Regex, pre_tokenizers

        splits = [pre_tokenizers.Split(Regex(regex), behavior="isolated") for regex in self.regexes]
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([*splits, level])


#: By name; those first that most programs built on llama.cpp know (the last five came in 2025 and 2026). Names that
#: only repeat another's rule are left out, and those whose rule is code and no regex (kimi-k2, afmoe, superbpe).
KNOWN = {
    known.name: known
    for known in (
        Named("llama-bpe", (rf"{_SHORT}|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|{_BLANKS}",), ignore_merges=True),
        Named("smaug-bpe", (rf"{_SHORT}|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|{_BLANKS}",)),
        Named("qwen2", (rf"{_SHORT}|{_WORD}|\p{{N}}|{_SIGNS}|{_BLANKS}",)),
        Named("gpt-2", (_GPT2,)),
        Named("smollm", (r"\p{N}", _GPT2)),
        Named("tekken", (_by_case(r"\p{L}", short=False, digits=r"\p{N}"),), ignore_merges=True),
        Named("gpt-4o", (_by_case(r"\p{L}", short=True, digits=r"\p{N}{1,3}"),)),
        Named("falcon", (r"[\p{P}$+<=>^~|`]+", _GPT2, "[0-9]{3}")),
        Named("bloom", (r" ?[^(\s|.,!?…。，、।۔،)]+",)),
        Named(
            "deepseek-v3",
            (
                r"\p{N}{1,3}",
                "[一-龥぀-ゟ゠-ヿ]+",
                r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|" + _BLANKS,
            ),
        ),
        Named("seed-coder", (rf"{_SHORT}|{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_BLANKS}",)),
        Named(
            "qwen35",
            (rf"{_SHORT}|{_BEFORE}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_BLANKS}",),
        ),
        Named("minicpm5", (r"\p{N}{1,3}", rf"{_SHORT}|{_WORD}|\p{{N}}+|{_SIGNS}|{_BLANKS}"), ignore_merges=True),
        Named(
            "granite-embed-multi-97m", (_by_case(r"\p{L}\p{M}", short=True, digits=r"\p{N}{1,3}"),)
        ),
        Named("ufakzeka", (rf"{_WORD}|\p{{N}}|{_SIGNS}|{_BLANKS}",)),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """How a named pre-tokenizer fits.

    Attributes:
        named: which.
        lines: probe texts.
        unequal: how many of them have other ids; 0 if it fits.
        example: the shortest text with other ids, with ids by the tokenizer and by llama.cpp; None where there is none.
    """

    named: Named
    lines: int
    unequal: int
    example: Row | None


def choose(base: Base, lines: Sequence[str]) -> Fit:
    """The named pre-tokenizer with which llama.cpp gives the ids of ``base``, else the closest.

    Of several that give them (SmolLM2 has no merges of digits, so that it does not matter whether they are cut apart)
    it is the one that cuts most texts where ``base`` does.

    Args:
        base: a byte-level tokenizer.
        lines: texts that its normaliser leaves as they are (llama.cpp has none).
    """
    plain: dict[bool, Tokenizer] = {}

    def try_on(named: Named, texts: Sequence[str], ours: Sequence[list[int]]) -> list[Row]:
        if named.ignore_merges not in plain:
            plain[named.ignore_merges] = without_pre_tokenizer(base, ignore_merges=named.ignore_merges)
        tokenizer = plain[named.ignore_merges]
        tokenizer.pre_tokenizer = named.step
        return [row for row in zip(texts, ours, encode_all(tokenizer, texts)) if row[1] != row[2]]

    ours = encode_all(base.tokenizer, lines)
    some = lines[:_SOME]
    own = base.cutting.pre_tokenizer
    cuts = [own.pre_tokenize_str(line) for line in some]
    unequal: dict[Named, int] = {}
    apart: dict[Named, int] = {}
    for named in KNOWN.values():
        unequal[named] = len(try_on(named, some, ours))
        if not unequal[named] and not try_on(named, lines, ours):
            apart[named] = sum(named.step.pre_tokenize_str(line) != cut for line, cut in zip(some, cuts))
            if not apart[named]:
                break
    if apart:
        return Fit(min(apart, key=apart.__getitem__), len(lines), 0, None)
    closest = min(unequal, key=unequal.__getitem__)
    wrong = try_on(closest, lines, ours)
    return Fit(closest, len(lines), len(wrong), min(wrong, key=lambda row: len(row[0])))


def without_pre_tokenizer(base: Base, *, ignore_merges: bool) -> Tokenizer:
    """The base's tokens and merges, its added tokens too, with neither normaliser nor pre-tokenizer."""
    from fastvocab.tokenizer.base import load_spec

    model = base.spec["model"] | {"ignore_merges": ignore_merges}
    return load_spec(base.spec | {"model": model, "normalizer": None, "pre_tokenizer": None}, base.folder)


def encode_all(tokenizer: Tokenizer, lines: Sequence[str]) -> list[list[int]]:
    """Ids of each text, without special tokens around it."""
    ids: list[list[int]] = []
    for start in range(0, len(lines), _BATCH):
        batch = list(lines[start : start + _BATCH])
        ids += [encoding.ids for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False)]
    return ids
