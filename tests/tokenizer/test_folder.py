"""The written folder, as AutoTokenizer loads it beside the config.json of each kind of model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoTokenizer

from fastvocab.tokenizer import folder, probes, samples
from fastvocab.tokenizer.base import read

MODEL_TYPES = ["llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "gemma", "gemma2"]
MODEL_TYPES += ["gemma3_text", "smollm3", "gpt2", "phi3", "olmo2", "granite", "cohere", "starcoder2"]
CLASSES = {
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "gpt2": "GPT2Tokenizer",
    "llama": "LlamaTokenizer",
}
LINES = ["in 1996, x = 12345", "it’s किताब e\u0301 DON'T", *samples.built_in(), *probes.spaces()[::9]]


def written(base: Path, out: Path, model_type: str, change: Any = None) -> Tokenizer:
    """A folder as the tokenizer stage writes it, with the model's config.json; and its tokenizer.json."""
    loaded = folder.load_auto(base)
    spec = json.loads(json.dumps(read(base).spec))
    if change:
        change(spec)
    out.mkdir()
    folder.copy_settings(base, out, loaded, spec)
    (out / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    AutoConfig.for_model(model_type).save_pretrained(out)
    return Tokenizer.from_file(str(out / "tokenizer.json"))


def one_digit_each(spec: dict[str, Any]) -> None:
    """A pre-tokenizer that is nobody's default."""
    digits = {"type": "Digits", "individual_digits": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    spec["normalizer"] = None
    spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, level]}


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_beside_a_config_json_the_files_own_pattern_is_kept(
    model_type: str, qwen_base: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(qwen_base, base)
    AutoConfig.for_model(model_type).save_pretrained(base)
    config = json.loads((base / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = CLASSES.get(model_type, "PreTrainedTokenizerFast")
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    file = written(base, tmp_path / "out", model_type, one_digit_each)
    auto = AutoTokenizer.from_pretrained(tmp_path / "out")
    auto.save_pretrained(tmp_path / "again")
    shutil.copy(tmp_path / "out" / "config.json", tmp_path / "again")
    again = AutoTokenizer.from_pretrained(tmp_path / "again")
    for line in LINES:
        assert auto(line)["input_ids"] == file.encode(line).ids == again(line)["input_ids"]


@pytest.mark.parametrize("trust", [None, False, True])
def test_a_qwen2_folder_keeps_its_pattern_with_and_without_trust(
    trust: bool | None, qwen_base: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(qwen_base, base)
    (base / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    file = written(base, tmp_path / "out", "qwen2", one_digit_each)
    auto = AutoTokenizer.from_pretrained(tmp_path / "out", trust_remote_code=trust)
    assert [auto(line)["input_ids"] for line in LINES] == [file.encode(line).ids for line in LINES]


def test_without_the_auto_map_transformers_would_override_it(qwen_base: Path, tmp_path: Path) -> None:
    """Why there is code in a Qwen2 folder: if this fails, transformers has mended it."""
    base = tmp_path / "base"
    shutil.copytree(qwen_base, base)
    (base / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    file = written(base, tmp_path / "out", "qwen2", one_digit_each)
    path = tmp_path / "out" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["auto_map"]
    path.write_text(json.dumps(config))
    auto = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert [auto(line)["input_ids"] for line in LINES] != [file.encode(line).ids for line in LINES]


def test_a_qwen2_pattern_that_is_the_classes_own_needs_no_code(qwen_base: Path, tmp_path: Path) -> None:
    from transformers import Qwen2Tokenizer

    own = json.loads(Qwen2Tokenizer().backend_tokenizer.to_str())
    base = tmp_path / "base"
    shutil.copytree(qwen_base, base)
    (base / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')

    def as_the_class(spec: dict[str, Any]) -> None:
        spec["normalizer"], spec["pre_tokenizer"] = own["normalizer"], own["pre_tokenizer"]

    file = written(base, tmp_path / "out", "qwen2", as_the_class)
    assert not list((tmp_path / "out").glob("*.py"))
    auto = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert [auto(line)["input_ids"] for line in LINES] == [file.encode(line).ids for line in LINES]


@pytest.mark.parametrize("model_type", ["llama", "mistral", "gemma3_text"])
def test_a_sentencepiece_folder_loads_as_its_tokenizer_json_says(
    model_type: str, mistral_base: Path, tmp_path: Path
) -> None:
    file = written(mistral_base, tmp_path / "out", model_type)
    shutil.copy(mistral_base / "tokenizer.model", tmp_path / "out")
    auto = AutoTokenizer.from_pretrained(tmp_path / "out")
    bos = [auto.bos_token_id]
    for line in LINES:
        assert auto(line)["input_ids"] == bos + file.encode(line, add_special_tokens=False).ids


def test_the_class_is_known_to_transformers_4(gpt2_base: Path, mistral_base: Path, tmp_path: Path) -> None:
    """There it is `PreTrainedTokenizerFast`; `TokenizersBackend` came with 5."""
    for place, base in enumerate((gpt2_base, mistral_base)):
        written(base, tmp_path / str(place), "llama")
        config = json.loads((tmp_path / str(place) / "tokenizer_config.json").read_text())
        assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
