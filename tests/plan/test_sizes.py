"""Parameters by mode: the published ones, and those of real models that train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastvocab.architecture import Architecture
from fastvocab.config import load
from fastvocab.plan import sizes
from tests.conftest import make_llama

QWEN2_7B = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944,
    "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
    "tie_word_embeddings": False, "max_position_embeddings": 32768,
}  # fmt: skip


def of(config: dict[str, Any], new: int, length: int | None, *keys: str) -> sizes.Sizes:
    return sizes.of(Architecture.read(config), load(None, keys).pretrain.lora, new, length)


def test_qwen2_7b_as_published() -> None:
    """LLaMA-Factory's log of three new tokens in padding rows: LoRA alone, and with both matrices."""
    counts = of(QWEN2_7B, 3, 151646, "pretrain.lora.r=8").counts()
    assert counts["frozen"] == {"trainable_parameters": 20_185_088, "parameters": 7_635_801_600}
    assert counts["full"] == {"trainable_parameters": 1_110_179_840, "parameters": 8_725_796_352}
    three = 3 * 3584 * 2
    assert counts["new_rows"] == {
        "trainable_parameters": 20_185_088 + three, "parameters": 7_635_801_600 + three,
    }  # fmt: skip


def test_rows_are_added_where_the_tokenizer_fills_the_matrix() -> None:
    assert of(QWEN2_7B, 500, 151646).rows == 152146
    assert of(QWEN2_7B, 418, 151646).rows == 152064
    unknown = of(QWEN2_7B, 3, None)
    assert (unknown.rows, unknown.as_it_is().rows) == (152067, 152064)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("mode", sizes.MODES)
def test_counts_are_those_of_a_model_that_trains(tmp_path: Path, tied: bool, mode: Any) -> None:
    from fastvocab.model import checkpoint, extend, reference
    from fastvocab.model import load as loader

    base = reference.resolve(str(make_llama(tmp_path / "model", tied=tied, pad_rows=20)))
    expected = sizes.of(
        Architecture.read(base.config, base.folder), load(None, ["pretrain.lora.r=4"]).pretrain.lora, 50, 700
    )
    model, _ = checkpoint.on_base(base, load_in_4bit=False, seed=1)
    extend.resize(model, expected.rows)
    assert len(model.get_input_embeddings().weight) == expected.rows == 750
    model = loader.add_lora(
        model, r=4, alpha=4, dropout=0.0, targets=loader.LINEAR, embeddings=mode, new_ids=range(700, 750), block=64,
        seed=1, gradient_checkpointing=False,
    )  # fmt: skip
    assert expected.counts()[mode] == {
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def test_the_disk_is_reckoned_for_saves_arms_and_export() -> None:
    found = of(QWEN2_7B, 8000, 151646)

    def disk(*keys: str, on_gpu: bool = True) -> dict[str, int]:
        return sizes.disk(load(None, keys), found, text_bytes=10**9, on_gpu=on_gpu)

    full, rows = disk("pretrain.embeddings=full"), disk("pretrain.embeddings=new_rows")
    assert full["pretrain"] > 4 * found.embeddings > rows["pretrain"]
    assert full["export"] == rows["export"] > 2 * found.base.parameters
    assert disk(on_gpu=False)["saves"] > 1.5 * disk()["saves"]  # float32 moments
    assert disk("pretrain.keep_saves=5")["saves"] == 2 * disk("pretrain.keep_saves=2")["saves"]
    assert "instruct" not in full and disk("instruct.train=x.jsonl")["instruct"] == full["pretrain"]
    assert disk("evaluate.control=true", "pretrain.embeddings=new_rows")["saves"] > 3 * 4 * found.embeddings
    assert sum(disk("export.to=[]").values()) < sum(full.values())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("mode", sizes.MODES)
def test_counts_of_layers_that_train_themselves_are_those_of_a_model(
    tmp_path: Path, tied: bool, mode: Any
) -> None:
    from fastvocab.model import checkpoint, extend, layers, reference

    base = reference.resolve(str(make_llama(tmp_path / "model", tied=tied)))
    lora = load(None, []).pretrain.lora
    expected = sizes.of(Architecture.read(base.config, base.folder), lora, 50, 700, own_layers=True)
    model, _ = checkpoint.on_base(base, load_in_4bit=False, seed=1)
    extend.resize(model, expected.rows)
    layers.open_layers(model, embeddings=mode, new_ids=range(700, 750))
    assert expected.counts()[mode] == {
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def test_a_plan_of_tags_and_of_items_reckons_with_their_own_tokens() -> None:
    tags = load(None, ["recipe=special_tokens", 'tokenizer.tokens=["<a>", "<b>"]'])
    assert sizes.new_tokens(tags) == 2
    assert (
        sizes.new_tokens(
            load(None, ["recipe=special_tokens", "tokenizer.tokens=[a]", "tokenizer.reuse_reserved=true"])
        )
        == 0
    )
    assert sizes.new_tokens(load(None, ["recipe=item_tokens", "tokenizer.items.codebook=100"])) > 200
    found = sizes.disk(tags, of(QWEN2_7B, 2, 151646), text_bytes=10**6, on_gpu=True)
    assert "pretrain" not in found and found["instruct"] > 0
