"""Each proof holds for a sound extension of every kind of base, and fails for the damage that it is there for."""

from __future__ import annotations

import copy
import json
import shutil
import unicodedata
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from fastvocab.errors import DataError, ModelError
from fastvocab.tokenizer import folder, probes
from fastvocab.tokenizer.base import Kind, read
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.merge import assemble, grow
from fastvocab.tokenizer.verify import Proof, Texts, check, require, rows, verify
from tests.conftest import UKRAINIAN, english, sentences

CYRILLIC = frozenset({"Cyrl"})
BASES = ["gpt2_base", "qwen_base", "fallback_base", "mistral_base", "mistral_json_base"]
Spec = dict[str, Any]


@pytest.fixture(scope="module")
def mistral_json_base(mistral_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mistral uploaded again without its SentencePiece file: what transformers saves."""
    place = tmp_path_factory.mktemp("bases") / "mistral-json"
    AutoTokenizer.from_pretrained(mistral_base).save_pretrained(place)
    assert not (place / "tokenizer.model").exists()
    return place


def extend(base: Path, out: Path, damage: Callable[[Spec], None] | None = None) -> Path:
    """``base`` with 200 Ukrainian tokens, written as the tokenizer stage writes it."""
    source = read(base)
    words = dict.fromkeys(word for line in UKRAINIAN for word in line.split())
    wanted = [*(f" {word}" for word in words), *(word[:3] for word in words)]
    merged = assemble(source, source, grow(source, wanted, limit=200, guard=Guard(CYRILLIC)))
    spec = copy.deepcopy(merged.spec)
    if damage:
        damage(spec)
    out.mkdir(parents=True)
    folder.copy_settings(base, out, folder.load_auto(base), spec)
    (out / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    if merged.proto:
        (out / "tokenizer.model").write_bytes(merged.proto)
    return out


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Any:
    place = tmp_path_factory.mktemp("extended")

    @cache
    def get(fixture: str) -> tuple[Path, Path]:
        base = request.getfixturevalue(fixture)
        return base, extend(base, place / fixture)

    return get


def prove(base: Path, out: Path) -> dict[str, Proof]:
    texts = Texts(replay=[line for text in english(5) for line in text.splitlines()], heldout=sentences(20))
    return {proof.name: proof for proof in verify(read(base), read(out), CYRILLIC, texts)}


def failed(base: Path, out: Path) -> set[str]:
    return {name for name, proof in prove(base, out).items() if not proof.passed}


@pytest.mark.parametrize("fixture", BASES)
def test_every_proof_holds_for_every_kind_of_base(fixture: str, extended: Any) -> None:
    base, out = extended(fixture)
    results = prove(base, out)
    require(list(results.values()))
    assert ("sentencepiece_file_agrees" in results) is (fixture == "mistral_base")
    assert results["new_tokens_reachable"].detail["new_tokens"] == 200
    assert results["round_trip_exact"].detail["heldout_exact"] == 20
    assert results["round_trip_exact"].detail["lone_surrogates_refused"]
    if fixture == "mistral_base":
        assert results["sentencepiece_file_agrees"].detail["unequal"] == 0
    if fixture == "mistral_json_base":
        assert read(base).kind is Kind.SENTENCEPIECE_JSON


def _vocab_swap(spec: Spec) -> None:
    vocab = spec["model"]["vocab"]
    vocab["Ġthe"], vocab["Ġof"] = vocab["Ġof"], vocab["Ġthe"]


def _merge_first(spec: Spec) -> None:
    spec["model"]["merges"].insert(0, spec["model"]["merges"].pop())


def _merge_lost(spec: Spec) -> None:
    spec["model"]["merges"].pop()


def _added_token(spec: Spec) -> None:
    spec["added_tokens"].append(spec["added_tokens"][-1] | {"id": 3, "content": "ing", "special": False})


def _special_gone(spec: Spec) -> None:
    spec["added_tokens"].pop(0)


def _lower(spec: Spec) -> None:
    spec["normalizer"] = {"type": "Lowercase"}


def _decoder(spec: Spec) -> None:
    spec["decoder"] = {"type": "Fuse"}


def _digits(spec: Spec) -> None:
    digits = {"type": "Digits", "individual_digits": True}
    spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, spec["pre_tokenizer"]]}


def _bos(spec: Spec) -> None:
    bos = next(token["id"] for token in spec["added_tokens"] if token["content"] == "<|im_start|>")
    parts = [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    named = {"id": "<|im_start|>", "ids": [bos], "tokens": ["<|im_start|>"]}
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": parts,
        "pair": [*parts, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_start|>": named},
    }


def _whole_numbers(spec: Spec) -> None:
    spec["pre_tokenizer"] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (_vocab_swap, {"old_ids_identical", "other_text_identical"}),
        (_merge_first, {"old_ids_identical"}),
        (_merge_lost, {"new_tokens_reachable"}),
        (_added_token, {"special_tokens_identical", "other_text_identical"}),
        (_special_gone, {"special_tokens_identical"}),
        (_lower, {"other_text_identical", "round_trip_exact"}),
        (_decoder, {"round_trip_exact"}),
        (_digits, {"other_text_identical"}),
        (_bos, {"settings_identical"}),
    ],
)
def test_damage_is_found_by_its_proof(
    damage: Callable[[Spec], None], names: set[str], gpt2_base: Path, tmp_path: Path
) -> None:
    assert names <= failed(gpt2_base, extend(gpt2_base, tmp_path / "out", damage))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"padding_side": "right"}, "settings_identical"),
        ({"eos_token": "<|im_start|>"}, "settings_identical"),
        ({"model_max_length": 17}, "settings_identical"),
    ],
)
def test_changed_settings_are_found(
    changes: dict[str, Any], name: str, gpt2_base: Path, tmp_path: Path
) -> None:
    out = extend(gpt2_base, tmp_path / "out")
    path = out / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert name in failed(gpt2_base, out)


def test_a_changed_chat_template_is_found(gpt2_base: Path, tmp_path: Path) -> None:
    out = extend(gpt2_base, tmp_path / "out")
    (out / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert {"chat_template_identical", "settings_identical"} <= failed(gpt2_base, out)


def test_a_sentencepiece_file_that_knows_one_merge_more_is_found(mistral_base: Path, tmp_path: Path) -> None:
    proof = prove(mistral_base, extend(mistral_base, tmp_path / "out", _merge_lost))[
        "sentencepiece_file_agrees"
    ]
    assert not proof.passed and 0 < proof.detail["unequal"] < 10


def test_a_sentencepiece_file_with_two_scores_swapped_is_found(mistral_base: Path, tmp_path: Path) -> None:
    from fastvocab.tokenizer.base import parse_proto

    out = extend(mistral_base, tmp_path / "out")
    proto = parse_proto((out / "tokenizer.model").read_bytes())
    by_piece = {piece.piece: piece for piece in proto.pieces}
    by_piece["▁t"].score, by_piece["th"].score = by_piece["th"].score, by_piece["▁t"].score
    (out / "tokenizer.model").write_bytes(proto.SerializeToString())
    proof = prove(mistral_base, out)["sentencepiece_file_agrees"]
    assert not proof.passed and "give different ids" in proof.detail["examples"][0]


#: The regex of the ``qwen_base``, its first ``\p{L}+`` taking in Cyrillic marks: for one script alone.
def _widen(script: str) -> Callable[[Spec], None]:
    def change(spec: Spec) -> None:
        split = spec["pre_tokenizer"]["pretokenizers"][0]["pattern"]
        old = r"[^\r\n\p{L}\p{N}]?\p{L}+"
        assert old in split["Regex"]
        split["Regex"] = split["Regex"].replace(old, rf"[^\r\n\p{{L}}\p{{N}}]?{script}|{old}")

    return change


def test_another_pattern_for_the_target_script_alone_passes(qwen_base: Path, tmp_path: Path) -> None:
    change = _widen(
        r"(?:\p{Cyrillic}[\u0300-\u036F]*)*\p{Cyrillic}[\u0300-\u036F]+(?:\p{Cyrillic}[\u0300-\u036F]*)*"
    )
    out = extend(qwen_base, tmp_path / "out", change)
    assert read(out).spec["pre_tokenizer"] != read(qwen_base).spec["pre_tokenizer"]
    assert failed(qwen_base, out) == set()
    joined = "и\u0301".join("слво")
    one, two = (Tokenizer.from_file(str(f / "tokenizer.json")) for f in (qwen_base, out))
    assert one.pre_tokenizer.pre_tokenize_str(joined) != two.pre_tokenizer.pre_tokenize_str(joined)


@pytest.mark.parametrize(
    "pattern",
    [r"[\p{L}\p{M}]+", r"\p{L}+(?:\u200d\p{L}+)+", r"\p{L}+(?:\u200c\p{L}+)+", r"\p{L}+(?:’\p{L}+)+"],
)
def test_a_pattern_that_reaches_into_other_scripts_is_found(
    pattern: str, qwen_base: Path, tmp_path: Path
) -> None:
    # this base has no merge across the sign, so no id differs yet: the cuts alone tell
    proof = prove(qwen_base, extend(qwen_base, tmp_path / "out", _widen(pattern)))["other_text_identical"]
    assert not proof.passed and proof.detail["cuts_changed"] > 50


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@pytest.mark.parametrize("fixture", ["gpt2_base", "mistral_base", "mistral_json_base"])
def test_any_unicode_decodes_as_before_and_other_text_keeps_its_ids(
    text: str, fixture: str, extended: Any
) -> None:
    one, two = (_loaded(place) for place in extended(fixture))
    ids = two.encode(text, add_special_tokens=False).ids
    old = one.encode(text, add_special_tokens=False).ids
    assert two.decode(ids, skip_special_tokens=False) == one.decode(old, skip_special_tokens=False)
    if not any(unicodedata.name(char, "").startswith("CYRILLIC") for char in text):
        assert ids == old


@cache
def _loaded(place: Path) -> Tokenizer:
    return read(place).tokenizer


def test_random_unicode_holds_what_it_says() -> None:
    lines = probes.random_unicode()
    text = "".join(lines)
    categories = {unicodedata.category(char) for char in text}
    assert {"Mn", "Mc", "Co", "Cn", "Cf", "Cc", "Lo", "So"} <= categories and "Cs" not in categories
    assert (
        "\x00" in text and "\u202e" in text and "\u200d" in text and "\U0010fffd" > max(text) > "\U000f0000"
    )
    assert max(map(len, lines)) == 20_000
    assert any(unicodedata.combining(a) and unicodedata.combining(b) for a, b in pairwise(text))
    # what is kept from call to call is what another process makes
    assert lines == probes.random_unicode.__wrapped__() != probes.random_unicode(seed=1)


@pytest.mark.parametrize("text", probes.lone_surrogates())
def test_lone_surrogates_are_refused_by_the_libraries_and_with_a_reason_by_check(
    text: str, extended: Any
) -> None:
    base, out = extended("gpt2_base")
    with pytest.raises(TypeError):
        Tokenizer.from_file(str(out / "tokenizer.json")).encode(text)
    with pytest.raises(TypeError):
        AutoTokenizer.from_pretrained(out)(text)
    with pytest.raises(DataError, match="text 2 holds a lone surrogate"):
        check(base, out, ["fine", text])


def test_check_measures_on_a_corpus(extended: Any) -> None:
    base, out = extended("gpt2_base")
    report = check(base, out, [*UKRAINIAN, "Plain English, and not a word more."])
    assert report["passed"] and report["scripts"] == ["Cyrl"] and report["new_tokens"] == 200
    corpus = report["corpus"]
    assert corpus["extended"]["tokens"] * 1.5 < corpus["base"]["tokens"]
    used = set(Tokenizer.from_file(str(out / "tokenizer.json")).encode("\n".join(UKRAINIAN)).ids)
    first = read(base).next_id
    assert abs(corpus["never_fired"] - len(set(range(first, first + 200)) - used)) <= 5
    detail = {proof["name"]: proof["detail"] for proof in report["proofs"]}
    assert detail["other_text_identical"]["replay_lines"] == 1
    assert detail["round_trip_exact"]["heldout_lines"] == len(UKRAINIAN)
    assert "corpus" not in check(base, out)


def test_check_reads_what_other_tools_have_extended(gpt2_base: Path, tmp_path: Path) -> None:
    """AddedTokens: found to be tokens of the script, and to change text."""
    tokenizer = AutoTokenizer.from_pretrained(gpt2_base)
    tokenizer.add_tokens(["земля", "слово", "zebra-like", "ing"])  # the last is an ordinary token of the base
    tokenizer.save_pretrained(tmp_path)
    report = check(gpt2_base, tmp_path, UKRAINIAN)
    assert report["scripts"] == ["Cyrl"] and report["new_tokens"] == 3
    assert report["corpus"]["never_fired"] == 2  # all but земля
    bad = {proof["name"] for proof in report["proofs"] if not proof["passed"]}
    assert {"special_tokens_identical", "other_text_identical"} <= bad
    names = {name: (verdict, figure) for name, verdict, figure in rows(report["proofs"])}
    assert names["other text identical"][0] == "FAILED"
    assert names["old ids identical"][0] == "ok"
    with pytest.raises(ModelError, match="does not hold up"):
        require([Proof(**proof) for proof in report["proofs"]])


def test_rows_name_each_proof_with_a_figure(extended: Any) -> None:
    base, out = extended("mistral_base")
    table = rows(check(base, out)["proofs"])
    assert len(table) == 9 and all(verdict == "ok" and figure for _, verdict, figure in table)
    figures = {name: figure for name, _, figure in table}
    assert figures["new tokens reachable"] == "200 tokens, 0 unreachable, 0 byte fragments"
    assert figures["old ids identical"] == "32,768 tokens, 0 moved"


def test_the_reload_is_tried_beside_the_models_config(qwen_base: Path, tmp_path: Path) -> None:
    """A Qwen2 folder without its auto_map loads right alone, and wrong beside the model."""
    from transformers import AutoConfig

    base = tmp_path / "base"
    shutil.copytree(qwen_base, base)
    AutoConfig.for_model("qwen2").save_pretrained(base)
    out = extend(base, tmp_path / "out", _whole_numbers)
    assert failed(base, out) == {"other_text_identical"}
    path = out / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["auto_map"]
    path.write_text(json.dumps(config))
    assert "same_ids_after_reload" in failed(base, out)
