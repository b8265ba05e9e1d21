"""A SentencePiece file and the tokenizer.json made from it: equal ids and equal text on everything."""

from __future__ import annotations

import io
import json
import random
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from fastvocab.errors import ModelError
from fastvocab.tokenizer import probes, samples
from fastvocab.tokenizer.base import Base, Kind, parse_proto, read
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.merge import assemble, grow
from tests.conftest import english, sentences
from tests.tokenizer.conftest import letters, made_up, package

MISTRAL = {
    "v1": "tokenizer.model.v1",
    "v3": "mistral_instruct_tokenizer_240323.model.v3",
    "v7": "mistral_instruct_tokenizer_241114.model.v7",
}

#: Ways to train a model. Identity is what Llama and Mistral have; the trainer's own default is nmt_nfkc.
VARIANTS: dict[str, dict[str, Any]] = {
    "identity": {"normalization_rule_name": "identity", "remove_extra_whitespaces": False},
    "no dummy prefix": {
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": False,
    },
    "extra whitespace removed": {"normalization_rule_name": "identity"},
    "whole lines": {
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "split_by_whitespace": False,
        "split_by_unicode_script": False,
        "split_by_number": False,
        "allow_whitespace_only_pieces": True,
    },
    "user-defined": {
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "user_defined_symbols": ["<think>", "</think>", "\n\n", "ing", "[A]", "[A][B]", "ж"],
        "control_symbols": ["<|im_start|>", "<|im_end|>"],
    },
    "spaces user-defined": {  # as Gemma has them
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": False,
        "user_defined_symbols": ["▁▁", "▁▁▁", "▁▁▁▁", "\n", "\t"],
    },
}


def train(folder: Path, **options: Any) -> Path:
    """A folder with a small SentencePiece BPE file trained on English."""
    model = io.BytesIO()
    lines = [line for text in english(12) for line in text.splitlines() if line.strip()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=900,
        byte_fallback=True,
        minloglevel=2,
        num_threads=1,
        **options,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    return folder


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A base by name: a Mistral file, or one of the variants."""
    place = tmp_path_factory.mktemp("spm")

    @cache
    def get(name: str) -> Base:
        folder = place / name.replace(" ", "-")
        if name in MISTRAL:
            folder.mkdir()
            shutil.copy(package("mistral_common") / "data" / MISTRAL[name], folder / "tokenizer.model")
        else:
            train(folder, **VARIANTS[name])
        return read(folder)

    return get


@cache
def processor(folder: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def reference(base: Base) -> sentencepiece.SentencePieceProcessor:
    return processor(base.folder)


def ids(base: Base, text: str) -> list[int]:
    return base.tokenizer.encode(text, add_special_tokens=False).ids


def require_equal(base: Base, lines: list[str]) -> None:
    other = reference(base)
    for line, encoding in zip(lines, base.tokenizer.encode_batch(lines, add_special_tokens=False)):
        expected = other.encode(line)
        assert encoding.ids == expected, repr(line[:200])
        assert base.tokenizer.decode(expected) == other.decode(expected), repr(line[:200])


LINES = [
    "",
    " ",
    "\x00",
    "a\x00b \x00",
    "\n",
    " \n \t x",
    "\ufffd",
    "a \ufffd",
    "▁",
    " ▁ ▁▁x▁",
    "x▁y z",
    "ends with spaces   ",
    "   begins with spaces",
    "<0x41> <0xE2><0x96>",
    "日本語 and ру́сский 😀👍🏽",
    "x" * 5000,
    "-" * 300,
    "word " * 3000,
    "ab" * 4000 + " " * 3000 + "c",
]


@pytest.mark.parametrize("name", [*MISTRAL, *VARIANTS])
def test_ids_and_text_are_sentencepieces_own(name: str, bases: Any) -> None:
    base = bases(name)
    assert base.kind is Kind.SENTENCEPIECE and base.converted and base.disagreement is None
    lines = [*LINES, *samples.built_in(), *samples.other_scripts(frozenset()), *probes.spaces()]
    lines += [
        *probes.random_unicode(200, seed=7),
        *(line for text in english(60) for line in text.splitlines()),
    ]
    if (
        name == "extra whitespace removed"
    ):  # real ▁ at the start is kept, and one of them is eaten on decoding
        lines = [line for line in lines if not line.lstrip(" ").startswith("▁")]
    require_equal(base, lines)


@pytest.mark.parametrize("name", ["v1", "v3", "whole lines"])
def test_every_piece_and_every_overlap_of_a_piece_with_itself(name: str, bases: Any) -> None:
    base = bases(name)
    pieces = [p.piece for p in parse_proto(base.proto).pieces if p.type == 1 and len(p.piece) > 1]
    lines = [piece.replace("▁", " ") for piece in pieces]
    for piece in pieces:  # aba -> ababa: two ways to begin, and the leftmost goes first
        for length in range(1, len(piece)):
            if piece[:length] == piece[-length:]:
                lines += [
                    (piece + piece[length:]).replace("▁", " "),
                    (piece[:-length] + piece * 2).replace("▁", " "),
                ]
    assert len(lines) > len(pieces)
    require_equal(base, lines)


ALPHABET = st.sampled_from(
    [
        *"ab the▁\n\t-=*.()[]{}<>0xеїñ日",
        " ",
        "  ",
        " " * 7,
        " " * 15,
        " " * 16,
        "▁" * 3,
        "the",
        "ing",
        " of",
        "\r\n",
    ]
)


@settings(max_examples=400, deadline=None)
@given(parts=st.lists(ALPHABET, max_size=60))
@pytest.mark.parametrize("name", ["v1", "whole lines", "no dummy prefix", "spaces user-defined"])
def test_spaces_mixed_with_words(name: str, parts: list[str], bases: Any) -> None:
    require_equal(bases(name), ["".join(parts)])


@settings(max_examples=400, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
@pytest.mark.parametrize("name", ["v3", "identity"])
def test_any_unicode(name: str, text: str, bases: Any) -> None:
    # SentencePiece never reads a special token's name as the token; every tokenizer.json does
    assume(not any(special in text for special in bases(name).added))
    require_equal(bases(name), [text])


@settings(max_examples=300, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(
            ["<think>", "</think>", "\n\n", "\n", "ing", "[A]", "[A", "[B]", "ж", " ", "x", "th", "sing"]
        ),
        max_size=20,
    )
)
def test_user_defined_pieces_in_text(parts: list[str], bases: Any) -> None:
    # at the very start SentencePiece puts its ▁ before the symbol, and an added token has nothing before it
    require_equal(bases("user-defined"), ["x" + "".join(parts)])


def test_a_user_defined_piece_at_the_very_start_lacks_the_dummy_prefix(bases: Any) -> None:
    """The one place where the two forms part (see `convert`), pinned so that a change is noticed."""
    base = bases("user-defined")
    theirs = reference(base).encode("<think>x")
    assert theirs == [base.vocab["▁"], *ids(base, "<think>x")]


def test_control_pieces_are_text_to_sentencepiece_and_tokens_to_tokenizer_json(bases: Any) -> None:
    base = bases("user-defined")
    assert ids(base, "x<|im_end|>")[-1] == base.vocab["<|im_end|>"]
    assert base.vocab["<|im_end|>"] not in reference(base).encode("x<|im_end|>")
    plain = Tokenizer.from_str(json.dumps(base.spec))
    plain.encode_special_tokens = True  # `split_special_tokens` of transformers
    for line in ("<|im_start|>user x<|im_end|>", "a<s> </s>b<unk>"):
        assert plain.encode(line, add_special_tokens=False).ids == reference(base).encode(line)


def test_only_the_first_text_gets_the_dummy_prefix(bases: Any) -> None:
    """After a special token nothing is put in front, as LlamaTokenizer of transformers 5 does."""
    base = bases("v3")
    assert base.tokenizer.encode("[INST] hi[/INST]hi", add_special_tokens=False).tokens == [
        "[INST]",
        "▁hi",
        "[/INST]",
        "hi",
    ]


@pytest.mark.parametrize("name", ["v1", "v3"])
def test_special_tokens_are_as_autotokenizer_has_them(name: str, bases: Any, tmp_path: Path) -> None:
    base = bases(name)
    shutil.copytree(base.folder, tmp_path / "b")
    config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": True}
    (tmp_path / "b" / "tokenizer_config.json").write_text(json.dumps(config))
    auto = AutoTokenizer.from_pretrained(tmp_path / "b")
    mine = read(tmp_path / "b")
    assert mine.added == auto.get_added_vocab()
    assert mine.tokenizer.encode("hi there").ids == auto("hi there")["input_ids"]
    assert mine.tokenizer.encode("hi").ids[0] == auto.bos_token_id
    assert mine.tokenizer.encode("hi").ids[-1] == auto.eos_token_id


def test_transformers_own_conversion_would_differ(bases: Any) -> None:
    """Why there is a conversion of our own: if this fails, transformers has caught up."""
    base = bases("v1")
    auto = AutoTokenizer.from_pretrained(base.folder)
    lines = probes.spaces()
    assert any(
        auto(line, add_special_tokens=False)["input_ids"] != reference(base).encode(line) for line in lines
    )
    require_equal(base, lines)


def test_one_merge_for_each_piece_that_can_form(bases: Any) -> None:
    base = bases("v1")
    longer = [p.piece for p in parse_proto(base.proto).pieces if p.type == 1 and len(p.piece) > 1]
    assert sorted(a + b for a, b in base.merges) == sorted(longer)


@pytest.mark.parametrize("rule", ["nfkc", "nmt_nfkc", "nmt_nfkc_cf"])
def test_a_normaliser_is_taken_over_or_the_difference_is_said(rule: str, tmp_path: Path) -> None:
    base = read(train(tmp_path / "b", normalization_rule_name=rule))
    other = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "b" / "tokenizer.model"))
    for line in ["Plain words, twice  spaced.", "ﬁne ① Ａ", " e\u0301 "]:
        assert ids(base, line) == other.encode(line)
    if base.disagreement is None:
        require_equal(base, probes.random_unicode(100, seed=3))
    else:
        assert base.proto is None and base.kind is Kind.SENTENCEPIECE_JSON
        assert base.disagreement.unequal < 0.2 * base.disagreement.lines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"treat_whitespace_as_suffix": True}, "spaces at the end of words"),
        ({"byte_fallback": False}, "without byte fallback"),
        ({"model_type": "unigram"}, "Unigram"),
        ({"model_type": "char", "hard_vocab_limit": False}, "character"),
    ],
)
def test_what_tokenizer_json_cannot_say_is_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model = io.BytesIO()
    settings = {"model_type": "bpe", "vocab_size": 700, "byte_fallback": True} | options
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(english(5)),
        model_writer=model,
        minloglevel=2,
        max_sentence_length=9999,
        **settings,
    )
    (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
    with pytest.raises(ModelError, match=message):
        read(tmp_path)


TARGETS = {
    "Cyrl": sentences(200),
    "Geor": made_up(letters(0x10D0, 0x10F0)),
    "Deva": made_up(letters(0x915, 0x939), letters(0x93E, 0x94D)),
    "Hani": made_up(letters(0x4E00, 0x4F00), space=""),
}


@pytest.mark.parametrize("script", TARGETS)
@pytest.mark.parametrize("name", ["v3", "identity", "whole lines"])
def test_extended_the_two_forms_stay_equal(name: str, script: str, bases: Any, tmp_path: Path) -> None:
    """A new piece has one merge in tokenizer.json, and SentencePiece would take any two neighbours."""
    base, lines = bases(name), TARGETS[script]
    words = [word for line in lines for word in line.split()]
    wanted = list(dict.fromkeys(" " + word[:k] for word in words[:400] for k in range(2, len(word) + 1)))
    wanted += [word[i : i + 3] for word in words[:100] for i in range(1, len(word) - 3)]
    guard = Guard(frozenset({script}))
    merged = assemble(base, base, grow(base, wanted, limit=600, guard=guard))
    assert len(merged.tokens) > 100 and merged.proto is not None
    (tmp_path / "tokenizer.json").write_text(json.dumps(merged.spec), encoding="utf-8")
    (tmp_path / "tokenizer.model").write_bytes(merged.proto)
    extended = read(tmp_path)
    assert extended.kind is Kind.SENTENCEPIECE and extended.disagreement is None
    require_equal(extended, [*lines, *LINES, *probes.spaces(), *samples.other_scripts(frozenset())])
    draw = random.Random(5)
    alphabet = [*sorted(set("".join(lines))), " ", "  ", "▁", *(token.token for token in merged.tokens)]
    require_equal(extended, ["".join(draw.choices(alphabet, k=draw.randint(1, 30))) for _ in range(3000)])


def test_tokens_added_beyond_the_file_get_places_in_it(mistral_base: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(mistral_base)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.add_tokens(["<think>"])
    tokenizer.save_pretrained(tmp_path / "base")
    path = tmp_path / "base" / "tokenizer.json"
    spec, own = json.loads(path.read_text(encoding="utf-8")), read(mistral_base).spec
    spec |= {key: own[key] for key in ("normalizer", "pre_tokenizer", "decoder", "model")}
    path.write_text(json.dumps(spec), encoding="utf-8")
    shutil.copy(mistral_base / "tokenizer.model", tmp_path / "base")
    base = read(tmp_path / "base")
    assert base.kind is Kind.SENTENCEPIECE and base.next_id == 32770
    merged = assemble(base, base, grow(base, [" слово"], limit=20, guard=Guard(frozenset({"Cyrl"}))))
    assert merged.proto is not None
    new = sentencepiece.SentencePieceProcessor(model_proto=merged.proto)
    assert [new.id_to_piece(i) for i in (32768, 32769)] == ["<pad>", "<think>"]
    assert new.is_control(32768) and not new.is_control(32769)
    file = Tokenizer.from_str(json.dumps(merged.spec))
    for line in ["x<think> слово</think>", "слово  слово"]:
        assert file.encode(line, add_special_tokens=False).ids == new.encode(line)
