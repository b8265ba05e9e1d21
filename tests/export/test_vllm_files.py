"""What vLLM reads of an exported folder, checked on the files: it cannot run where these tests do.

What it does with them, by its own threads and code (read in November 2026):

- the class of the model is looked up by ``architectures``; code beside the model (``auto_map``) is run only if asked;
- ``embed_tokens`` and ``lm_head`` have to have ``vocab_size`` rows on disk, or loading stops ("assert
  loaded_weight.shape[output_dim] == self.org_vocab_size", issue 15124); what it pads beyond, to a multiple of 64, is
  its own affair and needs nothing of us;
- whether the two are tied it took from ``tie_word_embeddings`` alone, so that a head on disk of a model that says it
  is tied was dropped without a word (issue 51063, pull request 51665), and an untied one without a head was left as it
  came;
- an id of a prompt has to be at most max(max_token_id of the tokenizer, vocab_size - 1) (pull request 22471), but the
  rows decide: a token beyond the matrix would read outside of it;
- end-of-text ids come from generation_config.json (pull request 4182); ``suppress_tokens`` there is not read, so rows
  without a token must be of no weight by themselves;
- the tokenizer is that of plain ``AutoTokenizer``. Of transformers 4, which releases of 2025 and before bring, a class
  ``TokenizersBackend`` is unknown (unsloth issue 8444), and ``rope_parameters`` is passed over;
- a LoRA adapter has no vocabulary of its own since ``lora_extra_vocab_size`` went (pull request 28382), and
  ``modules_to_save`` is refused: hence the merged folder (`tests/export/test_adapter.py` has the other).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from fastvocab import files
from fastvocab.config.models import NamedToken
from tests.conftest import english, make_llama, sentences, write_jsonl

#: Of vLLM's registry of models (vllm/model_executor/models/registry.py), those that this toolkit is for.
KNOWN = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "GemmaForCausalLM",
         "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"}  # fmt: skip
ROPE = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128}  # fmt: skip
KINDS = ("tied", "untied", "padded", "sentencepiece", "reserved")


@dataclass
class Exported:
    folder: Path
    tokenizer: Path
    base: Path

    def read(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))


def _reserved(folder: Path) -> Path:
    """A base with tokens kept free, as Llama 3 has them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_llama(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = [f"<|reserved_special_token_{i}|>" for i in range(4)]
    tokenizer.add_special_tokens({"additional_special_tokens": names})
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, mistral_like: Path) -> Callable[[str], Exported]:
    made: dict[str, Exported] = {}
    text = tmp_path_factory.mktemp("text")
    texts = sentences(200)
    train = write_jsonl(text / "train.jsonl", texts[:-40])
    heldout, replay = (
        write_jsonl(text / "heldout.jsonl", texts[-40:]),
        write_jsonl(text / "en.jsonl", english(10)),
    )

    def make(kind: str) -> Exported:
        if kind in made:
            return made[kind]
        from fastvocab.export.stage import merged
        from fastvocab.model import reference
        from fastvocab.model.extend import extend
        from fastvocab.tokenizer import named_stage
        from fastvocab.tokenizer.stage import build

        root = tmp_path_factory.mktemp(kind)
        tokenizer, zero, out = (root / name for name in ("tokenizer", "zero", "out"))
        for folder in (tokenizer, zero, out):
            folder.mkdir()
        if kind == "sentencepiece":
            base = mistral_like
        elif kind == "reserved":
            base = _reserved(root / "base")
        else:
            base = make_llama(root / "base", tied=kind != "untied")
        if kind == "untied":
            config = json.loads((base / "config.json").read_text("utf-8"))
            files.write_json(base / "config.json", config | {"rope_parameters": ROPE})
        if kind == "reserved":
            tokens = [NamedToken(token="<think>"), NamedToken(token="</think>")]
            named_stage.build(base, tokenizer, tokens, reuse=True)
        else:
            build(base, train, tokenizer, heldout=heldout, replay=replay, new_tokens=100,
                  scripts=frozenset({"Cyrl"}))  # fmt: skip
        known: dict[str, Any] = {"init": "subtokens", "seed": 3, "load_in_4bit": False}
        if kind == "padded":  # the start that also keeps padded rows from being sampled
            known |= {
                "init": "calibrated",
                "calibration_bytes": 10_000,
                "target_text": train,
                "original_text": replay,
            }
        extend(zero, reference.resolve(str(base)), tokenizer, pad_to_multiple_of=64 if kind == "padded" else None,
               **known)  # fmt: skip
        merged(out, source=zero, records={})
        made[kind] = Exported(out, tokenizer, base)
        return made[kind]

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_the_matrices_have_the_rows_that_the_configuration_says(kind: str, exported) -> None:
    found = exported(kind)
    config = found.read("config.json")
    assert set(config["architectures"]) <= KNOWN and "auto_map" not in config
    with safe_open(found.folder / "model.safetensors", "pt") as tensors:
        shapes = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    assert shapes["model.embed_tokens.weight"][0] == config["vocab_size"]
    tied = kind not in ("untied", "sentencepiece")
    assert config["tie_word_embeddings"] is tied and ("lm_head.weight" in shapes) is not tied
    if not tied:
        assert shapes["lm_head.weight"] == shapes["model.embed_tokens.weight"]
    wanted = {"tied": 800, "untied": 800, "padded": 832, "sentencepiece": 32100, "reserved": 704}[kind]
    assert config["vocab_size"] == wanted
    assert config["dtype"] == config["torch_dtype"] == "bfloat16"


@pytest.mark.parametrize("kind", KINDS)
def test_plain_autotokenizer_reads_it_and_stays_inside_the_matrix(kind: str, exported) -> None:
    from transformers import AutoTokenizer

    found = exported(kind)
    config, settings = found.read("config.json"), found.read("tokenizer_config.json")
    assert "auto_map" not in settings and "TokenizersBackend" not in json.dumps(settings)
    tokenizer = AutoTokenizer.from_pretrained(found.folder, trust_remote_code=False)
    assert (
        max(tokenizer.get_vocab().values()) < config["vocab_size"] and len(tokenizer) <= config["vocab_size"]
    )
    ours = AutoTokenizer.from_pretrained(found.tokenizer, trust_remote_code=False)
    texts = [
        *sentences(20),
        *english(3),
        "<think>мова</think>",
        "a\u0301 \u0915\u094d\u0937 한글 مرحبا ไทย \n\t\x00",
    ]
    assert [tokenizer(t)["input_ids"] for t in texts] == [ours(t)["input_ids"] for t in texts]
    assert tokenizer.all_special_tokens == ours.all_special_tokens
    assert (
        (tokenizer.chat_template is not None) is (ours.chat_template is not None) is (kind != "sentencepiece")
    )
    if kind == "reserved":
        first = AutoTokenizer.from_pretrained(found.base).convert_tokens_to_ids(
            "<|reserved_special_token_0|>"
        )
        assert tokenizer("<think>", add_special_tokens=False)["input_ids"] == [first]


@pytest.mark.parametrize("kind", KINDS)
def test_generation_ends_on_a_token_of_the_vocabulary(kind: str, exported) -> None:
    from transformers import AutoTokenizer

    found = exported(kind)
    size, tokenizer = found.read("config.json")["vocab_size"], AutoTokenizer.from_pretrained(found.folder)
    generation = found.read("generation_config.json")
    ends = generation["eos_token_id"]
    ends = ends if isinstance(ends, list) else [ends]
    assert tokenizer.eos_token_id in ends
    for id_ in [*ends, *(generation.get("suppress_tokens") or [])]:
        assert 0 <= id_ < size
    unused = set(range(size)) - set(tokenizer.get_vocab().values())
    assert set(generation.get("suppress_tokens") or ()) == unused


def test_rows_of_padding_are_not_sampled_by_a_program_that_samples_them_all(exported) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = exported("padded")
    model = AutoModelForCausalLM.from_pretrained(found.folder, dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(found.folder)(" ".join(sentences(3)), return_tensors="pt")[
        "input_ids"
    ]
    with torch.inference_mode():
        share = torch.softmax(model(input_ids=ids[:, :200]).logits.double(), -1)[..., 800:].sum(-1)
    assert share.shape[-1] > 50 and float(share.max()) < 32 / 832


def test_older_names_stand_beside_the_new_ones_and_change_nothing(exported, tmp_path: Path) -> None:
    from transformers import AutoConfig

    found = exported("untied")
    config = found.read("config.json")
    assert config["rope_theta"] == 500000.0
    assert config["rope_scaling"] == {k: v for k, v in ROPE.items() if k != "rope_theta"}
    new_names = {k: v for k, v in config.items() if k not in ("rope_theta", "rope_scaling", "torch_dtype")}
    files.write_json(tmp_path / "config.json", new_names)
    both, new = (AutoConfig.from_pretrained(f).to_dict() for f in (found.folder, tmp_path))
    ignored = {"_name_or_path", "rope_theta", "rope_scaling"}
    assert {k: v for k, v in both.items() if k not in ignored} == {
        k: v for k, v in new.items() if k not in ignored
    }
    assert both["rope_parameters"] == ROPE
