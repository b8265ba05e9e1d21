"""The pre-tokenizers that llama.cpp knows by name.

A GGUF file has no regex: ``tokenizer.ggml.pre`` is a name, and llama.cpp has the regexes in its code
(``src/llama-vocab.cpp``, read on 2026-11-28 as llama-cpp-python 0.3.36 brings it).

The regexes below say what llama.cpp does, which is not always what the tokenizer of that name does (tekken: letters
beyond ASCII are of both cases, and combining marks are no letters). They are Oniguruma's, for the tokenizers library.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

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
