"""What tests share: no network, tiny real Llamas with real tokenizers, text of real languages."""

from __future__ import annotations

import os

# before any library looks: the hub is out of reach and every attempt costs a time-out
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
# as fastvocab.model.load does beside other programs; tests import torch before that
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores

import json
from pathlib import Path

import pytest

#: Files of minutes come first, or one worker ends with them alone.
LONG = (
    "test_smollm2.py",
    "test_gpu_classes.py",
    "test_interruptions.py",
    "test_checkpoint.py",
    "test_extend.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


UKRAINIAN = [
    "Мова є найважливішим засобом людського спілкування, і кожен народ береже свою мову.",
    "Сьогодні вранці ми пішли на ринок і купили свіжі овочі, молоко та хліб.",
    "Українська земля славиться своїми чорноземами, широкими степами й глибокими річками.",
    "Діти грали у дворі, а бабуся сиділа біля вікна й розповідала давні казки.",
    "Кожного літа вони їздили до моря, де вода була тепла, а вечори тихі.",
    "Учитель пояснив нову тему, і учні записали приклади у свої зошити.",
    "Після дощу повітря стало чистим, і над полем з'явилася різнобарвна веселка.",
    "Книги допомагають нам зрозуміти інших людей і побачити світ їхніми очима.",
]


def sentences(count: int) -> list[str]:
    """Distinct documents of real Ukrainian words, reordered: enough of them for splits and merges."""
    import random

    rng = random.Random(7)
    words = [word for line in UKRAINIAN for word in line.split()]
    return [" ".join(rng.choices(words, k=rng.randint(12, 40))) for _ in range(count)]


def english(count: int = 40) -> list[str]:
    """Documents of real English from the standard library."""
    import pydoc_data.topics as topics

    return [text[:3000] for text in list(topics.topics.values())[:count]]


def write_jsonl(path: Path, texts: list[str]) -> Path:
    path.write_text(
        "".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in texts), encoding="utf-8"
    )
    return path


def make_llama(
    folder: Path, *, tied: bool = True, pad_rows: int = 0, bare: bool = False, seed: int = 0, width: int = 64
) -> Path:
    """A tiny real Llama with a real byte-level BPE trained on English, a chat template, BOS and EOS."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(english(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    if bare:  # like GPT-2: one token ends a text, none begins or pads it
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>")
    tokenizer.chat_template = (
        "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer) + pad_rows,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            tie_word_embeddings=tied,
            bos_token_id=None if bare else 0,
            eos_token_id=1,
            pad_token_id=None if bare else 1,
        )
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


CHAT_TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}assistant: "


def tune_llama(
    base: Path, folder: Path, *, size: float = 0.03, rows: int = 0, mark: str | None = None
) -> Path:
    """A descendant of a base: every weight is another one, and so is the chat template.

    Args:
        size: of the difference, as a share of the weights.
        rows: so many more in each embedding matrix.
        mark: a piece of the base that is a special token here.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += size * weight.std(unbiased=False).clamp_min(0.01) * torch.randn_like(weight)
    if rows:
        model.resize_token_embeddings(len(model.get_input_embeddings().weight) + rows)
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = CHAT_TEMPLATE
    if mark:
        tokenizer.add_special_tokens({"additional_special_tokens": [mark]})
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tied_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("tied") / "model")


@pytest.fixture(scope="session")
def untied_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("untied") / "model", tied=False)


@pytest.fixture(scope="session")
def padded_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("padded") / "model", pad_rows=36)


@pytest.fixture(scope="session")
def bare_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without BOS and pad token."""
    return make_llama(tmp_path_factory.mktemp("bare") / "model", bare=True)


@pytest.fixture(scope="session")
def mistral_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mistral's own SentencePiece tokenizer (32,000 pieces) on a tiny untied model."""
    import shutil
    from importlib.util import find_spec

    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("mistral") / "model"
    folder.mkdir()
    (package,) = find_spec("mistral_common").submodule_search_locations  # type: ignore[union-attr]
    shutil.copy(Path(package) / "data" / "tokenizer.model.v1", folder / "tokenizer.model")
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "LlamaTokenizer", "add_bos_token": true}'
    )
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32000,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=256,
            tie_word_embeddings=False,
        )
    ).save_pretrained(folder)
    assert len(AutoTokenizer.from_pretrained(folder)) == 32000
    return folder


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with training text, replay text and chat rows."""
    folder = tmp_path_factory.mktemp("text")
    write_jsonl(folder / "uk.jsonl", sentences(400))
    write_jsonl(folder / "en.jsonl", english())
    rows = [
        {"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]}
        for a, b in zip(sentences(40)[::2], sentences(40)[1::2])
    ]
    (folder / "chat.jsonl").write_text(
        "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8"
    )
    return folder


def tiny_run(base: Path, text: Path, runs: Path, *more: str) -> list[str]:
    """Arguments of a whole run on a tiny model, a few seconds of work."""
    return [
        f"model.base={base}", f"runs={runs}", "name=tiny", "corpus.language=uk",
        f"corpus.train={text / 'uk.jsonl'}", f"corpus.replay={text / 'en.jsonl'}",
        f"instruct.train={text / 'chat.jsonl'}", "tokenizer.new_tokens=120", "extend.calibration_bytes=10000",
        "pretrain.block=64", "pretrain.steps=6", "pretrain.batch=2", "pretrain.lora.r=4",
        "pretrain.learning_rate=1e-3", "pretrain.embedding_learning_rate=1e-3",
        "instruct.max_length=128", "instruct.steps=3", "instruct.batch=2",
        "evaluate.heldout_bytes=2000", "evaluate.replay_bytes=2000", "evaluate.piece_bytes=200",
        "evaluate.sample_tokens=4", *more,
    ]  # fmt: skip
