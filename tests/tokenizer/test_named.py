"""Named tokens: in every kind of base each is itself wherever it stands, and nothing else has moved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastvocab.config.models import NamedToken
from fastvocab.errors import ModelError
from fastvocab.tokenizer import named, named_stage
from fastvocab.tokenizer.base import read

#: Llama 3 has its turn below: 128,256 ids take their time.
BASES = ["gpt2_base", "qwen_base", "fallback_base", "mistral_base", "smollm2_base"]
# of many scripts; Latin-1 letters are what a byte-level decoder takes for bytes
TAGS = [
    "</think>",
    "<réfléchir>",
    "<думка>",
    "<생각>",
    "<فكر>",
    "<विचार>",
    "<ความคิด>",
    "<a b>",
    "[TOOL_X]",
    "«µ»",
]
LINES = ["a <t> b", "Він каже: <t>так<t>, <t>.", "<t>你好<t>\n<t>", "x<t>y<t>z", "مرحبا <t> שלום"]


def build(base: Path, out: Path, tokens: list[NamedToken], **how: bool) -> dict:
    out.mkdir()
    return named_stage.build(base, out, tokens, **how)


@pytest.mark.parametrize("name", BASES)
def test_tags_are_found_in_any_text_and_decode_to_themselves(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    base = request.getfixturevalue(name)
    tokens = [NamedToken(token=tag, special=number % 2 == 1) for number, tag in enumerate(TAGS)]
    figures = build(base, tmp_path / "out", tokens)
    assert all(proof["passed"] for proof in figures["proofs"]) and figures["new_tokens"] == len(TAGS)
    loaded, before = AutoTokenizer.from_pretrained(tmp_path / "out"), read(base)
    for number, entry in enumerate(figures["named"]):
        assert entry["id"] == before.next_id + number, "ids follow those of the base"
        assert entry["pieces_before"] > 1
    for tag, entry in zip(TAGS, figures["named"]):
        for line in (text.replace("<t>", tag) for text in LINES):
            ids = loaded(line, add_special_tokens=False)["input_ids"]
            assert ids.count(entry["id"]) == line.count(tag)
            shown = loaded.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            assert shown.count(tag) == line.count(tag)
            hidden = loaded.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            assert hidden.count(tag) == (0 if entry["special"] else line.count(tag))


def test_plain_is_the_default_because_special_ones_are_hidden(gpt2_base: Path, tmp_path: Path) -> None:
    figures = build(gpt2_base, tmp_path / "out", [NamedToken(token="<answer>")])
    assert figures["named"][0]["special"] is False


@pytest.mark.parametrize("name", ["llama3_base", "mistral_base"])
def test_reserved_tokens_give_up_their_places(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    base = request.getfixturevalue(name)
    figures = build(base, tmp_path / "out", [NamedToken(token=tag) for tag in TAGS], reuse=True)
    before, after = read(base), read(tmp_path / "out")
    assert figures["new_tokens"] == 0 and after.next_id == before.next_id, "not a row more"
    rows = [json.loads(line) for line in (tmp_path / "out" / "new_tokens.jsonl").read_text().splitlines()]
    assert [row["token"] for row in rows] == TAGS
    every = before.vocab | before.added
    assert all(every[row["replaces"]] == row["id"] for row in rows)
    assert not {row["replaces"] for row in rows} & (after.vocab | after.added).keys()


def test_a_base_without_reserved_tokens_is_told_so(gpt2_base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has 0 reserved tokens in a row, and 1 tokens"):
        build(gpt2_base, tmp_path / "out", [NamedToken(token="<answer>")], reuse=True)


def test_reserved_tokens_in_use_keep_their_places(llama3_base: Path, tmp_path: Path) -> None:
    """A padding token that is a reserved one is the usual way with Llama 3."""
    import shutil

    base = Path(shutil.copytree(llama3_base, tmp_path / "base"))
    path = base / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"pad_token": "<|reserved_special_token_12|>"}
    path.write_text(json.dumps(config))
    own = read(base)
    found = named.add(own, own, [NamedToken(token=tag) for tag in TAGS], reuse=True)
    assert own.added["<|reserved_special_token_12|>"] not in {tag.id for tag in found.tags}


def test_tokens_that_are_there_stay_as_they_are(
    qwen_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Qwen 3 has <think>; ``def`` is an ordinary token of this base."""
    own = read(qwen_base)
    asked = [NamedToken(token="<think>"), NamedToken(token="</think>"), NamedToken(token="the")]
    figures = build(qwen_base, tmp_path / "out", asked)
    known = {one["token"]: one["id"] for one in figures["named"] if one["was_there"]}
    assert known == {"<think>": own.added["<think>"], "the": own.vocab["the"]}
    assert (
        figures["new_tokens"] == 1 and "<think>  is one token of the base already" in capsys.readouterr().err
    )
    after = read(tmp_path / "out")
    assert after.tokenizer.encode("gather the other").ids == own.tokenizer.encode("gather the other").ids


def test_all_there_is_no_error(qwen_base: Path, tmp_path: Path) -> None:
    assert build(qwen_base, tmp_path / "out", [NamedToken(token="<think>")])["new_tokens"] == 0
    assert (tmp_path / "out" / "new_tokens.jsonl").read_text() == ""


def test_special_can_be_changed_of_one_that_is_there(qwen_base: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    build(qwen_base, tmp_path / "out", [NamedToken(token="<think>", special=True)])
    loaded = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert loaded.decode(loaded("a<think>b")["input_ids"], skip_special_tokens=True) == "ab"


@pytest.mark.parametrize("token", ["<|im_start", "<|im_start|>x"])
def test_beginnings_of_the_base_s_own_tokens_are_refused(qwen_base: Path, tmp_path: Path, token: str) -> None:
    with pytest.raises(ModelError, match="is the beginning of"):
        build(qwen_base, tmp_path / "out", [NamedToken(token=token)])


def test_settings_that_list_added_tokens_a_second_time_are_kept_in_step(
    qwen_base: Path, tmp_path: Path
) -> None:
    """As transformers 4 wrote them: an entry that stayed behind would bring the reserved token back as a new one."""
    import shutil

    from transformers import AutoTokenizer

    base = Path(shutil.copytree(qwen_base, tmp_path / "base"))
    path, first = base / "tokenizer_config.json", read(qwen_base).next_id
    config, spec = json.loads(path.read_text()), json.loads((base / "tokenizer.json").read_text())
    like = spec["added_tokens"][0]
    spec["added_tokens"] += [
        {**like, "id": first + n, "content": f"<|reserved_special_token_{n}|>", "special": True}
        for n in range(4)
    ]
    (base / "tokenizer.json").write_text(json.dumps(spec))
    config["added_tokens_decoder"] = {
        str(e["id"]): {k: v for k, v in e.items() if k != "id"} for e in spec["added_tokens"]
    }
    path.write_text(json.dumps(config))
    figures = build(base, tmp_path / "out", [NamedToken(token="<tool>")], reuse=True)
    assert figures["named"][0]["replaces"] == "<|reserved_special_token_0|>"
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == len(AutoTokenizer.from_pretrained(base))


def test_beside_tokens_that_are_learnt(
    mistral_base: Path, tmp_path: Path, ukrainian_files: tuple[Path, Path]
) -> None:
    from fastvocab.tokenizer.stage import build as learn

    (tmp_path / "out").mkdir()
    figures = learn(
        mistral_base, ukrainian_files[0], tmp_path / "out", heldout=ukrainian_files[1], new_tokens=100,
        method="continued", max_bytes=300_000, tokens=[NamedToken(token="<думка>")],
    )  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "out" / "new_tokens.jsonl").read_text().splitlines()]
    assert len(rows) == figures["new_tokens"] + 1 and rows[-1]["token"] == "<думка>"
    assert [row["id"] for row in rows] == list(range(figures["old_size"], figures["new_size"]))
    assert not (tmp_path / "out" / "tokenizer.model").exists(), (
        "it could not read the tag as tokenizer.json does"
    )
