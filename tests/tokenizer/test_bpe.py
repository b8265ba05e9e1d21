from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from fastvocab.tokenizer.bpe import byte_alphabet, encode, from_alphabet, to_alphabet


def test_the_byte_alphabet_is_that_of_the_tokenizers_library() -> None:
    assert set(byte_alphabet().values()) == set(ByteLevel.alphabet())


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_spelling_in_the_alphabet_is_that_of_the_tokenizers_library(text: str) -> None:
    pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    assert to_alphabet(text) == "".join(part for part, _ in pre_tokenizer.pre_tokenize_str(text))
    assert from_alphabet(to_alphabet(text)) == text.encode("utf-8")


@settings(max_examples=200, deadline=None)
@given(word=st.text(st.sampled_from("etainosрук "), min_size=1, max_size=30))
def test_encoding_is_that_of_the_tokenizers_library(word: str, gpt2_base: Path) -> None:
    spec = json.loads((gpt2_base / "tokenizer.json").read_text(encoding="utf-8"))
    ranks = {tuple(merge.split(" ")): place for place, merge in enumerate(spec["model"]["merges"])}
    spec["pre_tokenizer"]["use_regex"] = False  # one pre-token, so that merging alone is compared
    library = Tokenizer.from_str(json.dumps(spec)).encode(word, add_special_tokens=False).tokens
    assert encode(to_alphabet(word), lambda a, b: ranks.get((a, b))) == library
