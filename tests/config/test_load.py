"""Configuration: every mistake is named, all at once; every shipped file parses."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from fastvocab.config import Config, load
from fastvocab.config.load import dump, keys
from fastvocab.errors import ConfigError
from fastvocab.recipes import common

ROOT = Path(__file__).parents[2]

MISTAKES = [
    ("corpus.trian=x", ["corpus.trian: unknown key", "did you mean corpus.train?"]),
    ("pretrain.embedings=full", ["unknown key", "did you mean pretrain.embeddings?"]),
    ("steps=3", ["steps: unknown key", "did you mean pretrain.steps?"]),
    ("pretrain.embeddings=ful", ["'full', 'new_rows' or 'frozen'", "did you mean full?"]),
    ("pretrain.steps=abc", ["pretrain.steps: 'abc'", "valid integer"]),
    ("pretrain.steps=0", ["pretrain.steps: 0", "greater than or equal to 1"]),
    ("pretrain.learning_rate=-1", ["pretrain.learning_rate: -1"]),
    ("pretrain.learning_rate=.nan", ["pretrain.learning_rate"]),
    ("model.base=[1]", ["model.base: [1]", "valid string"]),
    ("corpus.language=Ukrainian", ["corpus.language: 'Ukrainian'", "BCP 47"]),
    ("corpus.heldout=0.9", ["corpus.heldout: 0.9", "less than 0.5"]),
    ("name=../up", ["name: '../up'", "plain folder name"]),
    ("nonsense", ["'nonsense' is no override", "section.key=value"]),
    ("export.to=[gguff]", ["export.to", "'gguff'"]),
    (
        "tokenizer=7",
        ["tokenizer: 7", "this is a section, with the keys tokenizer.new_tokens, tokenizer.method"],
    ),
    ("pretrain.lora=8", ["pretrain.lora: 8", "a section", "pretrain.lora.r"]),
    ("pretrian.steps=3", ["pretrian: unknown section", "did you mean pretrain?"]),
    ("corpus.train=", ["corpus.train: nothing is given; [] means none"]),
    ("instruct.train=7", ["instruct.train: 7: a value, or a list of values, is expected"]),
]


@pytest.mark.parametrize(("override", "expected"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_names_key_value_rule_and_nearest_name(override: str, expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, [override])
    for part in expected:
        assert part in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        *(
            (f"tokenizer.new_tokens={value}", ["mistake in", f"tokenizer.new_tokens: {shown}: ", "or auto"])
            for value, shown in (("many", "'many'"), ("0", "0"), ("true", "True"), ("2.5", "2.5"))
        ),
        ("tokenizer.method=continue", ["'auto', 'continued' or 'sentencepiece'", "did you mean continued?"]),
        ("tokenizer.pretokenizer=no", ["tokenizer.pretokenizer: 'no'", "'auto', 'repair' or 'keep'"]),
        ("tokenizer.sentencepiece=word", ["'bpe' or 'unigram'"]),
        ("tokenizer.sample_mb=0", ["tokenizer.sample_mb: 0", "greater than 0"]),
        ("tokenizer.model=bpe", ["tokenizer.model: unknown key", "did you mean tokenizer.method?"]),
    ],
)
def test_a_mistake_about_the_tokenizer_names_the_choices(override: str, expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, [override])
    assert all(part in str(caught.value) for part in expected)


def test_the_number_of_new_tokens_is_a_number_or_auto() -> None:
    assert load(None, []).tokenizer.new_tokens == "auto"
    assert load(None, ["tokenizer.new_tokens=auto"]).tokenizer.new_tokens == "auto"
    assert load(None, ["tokenizer.new_tokens=800"]).tokenizer.new_tokens == 800


def test_all_mistakes_are_reported_together() -> None:
    several = [m[0] for m in MISTAKES if m[0] not in ("tokenizer=7", "pretrain.lora=8")]
    several.remove("pretrain.steps=0"), several.remove("pretrain.learning_rate=-1")
    with pytest.raises(ConfigError) as caught:
        load(None, several)
    assert f"{len(several)} mistakes" in str(caught.value)


def test_yaml_is_1_2_so_no_is_norwegian_and_1e_4_a_number(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("corpus: {train: x, language: no}\npretrain: {learning_rate: 1e-4}\n")
    config = load(file)
    assert config.corpus.language == "no"
    assert config.pretrain.learning_rate == 1e-4
    assert load(None, ["corpus.language=no"]).corpus.language == "no"


def test_overrides_come_in_three_spellings_and_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("pretrain: {steps: 1, tokens: 2, minutes: 3}\n")
    config = load(file, ["pretrain.steps=10", "--pretrain.tokens=20", "--pretrain.minutes", "30"])
    assert (config.pretrain.steps, config.pretrain.tokens, config.pretrain.minutes) == (10, 20, 30)


@pytest.mark.parametrize("value", ["*.txt", "data/**/*.jsonl", "a:b", "{x}", "@odd", "key: value"])
def test_globs_and_odd_paths_are_plain_strings(value: str) -> None:
    assert load(None, [f"corpus.train={value}"]).corpus.train == (value,)


def test_what_is_dumped_loads_as_the_same(tmp_path: Path) -> None:
    config = load(
        None, ["corpus.train=[a,b]", "corpus.language=no", "evaluate.prompts=[привіт, 'a: b']", "name=x1"]
    )
    file = tmp_path / "config.yaml"
    file.write_text(dump(config), encoding="utf-8")
    assert load(file) == config


@pytest.mark.parametrize("file", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_yaml_goes_through_the_real_parser(file: Path) -> None:
    config = common.named(load(file).recipe).configure(file, [])
    assert config.name == load(file).name, (
        "it names all that its recipe needs: nothing embedded comes in its place"
    )


def test_the_shipped_template_explains_every_key_in_the_words_of_the_configuration() -> None:
    spec = importlib.util.spec_from_file_location("write_yaml", ROOT / "scripts" / "write_yaml.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "recipes" / "new_language.yaml").read_text(encoding="utf-8") == module.text()
    assert load(ROOT / "recipes" / "new_language.yaml").model_dump().keys() == Config().model_dump().keys()


def test_every_key_has_a_sentence_of_help() -> None:
    from fastvocab.config.describe import rows

    assert {key for key, _, _ in rows()} == set(keys())
    for key, _, text in rows():
        assert text.endswith("."), f"{key} is not explained"


BROKEN_FILES = {
    "a: [1": "line 1",
    "- just\n- a list": "holds a list",
    "a: 1\na: 2\n": "line 2",
    "\tname: x": "line 1",
}


@pytest.mark.parametrize("text", BROKEN_FILES)
def test_broken_yaml_names_the_place(tmp_path: Path, text: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=BROKEN_FILES[text]):
        load(file)


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "georgian.yaml").write_text("name: x")
    with pytest.raises(ConfigError, match=r"georgian\.yaml"):
        load(tmp_path / "georgia.yaml")


def test_binary_yaml_names_the_byte(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 6"):
        load(file)
