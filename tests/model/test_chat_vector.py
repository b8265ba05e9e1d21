"""A chat model's difference from its base, added: by hand with plain transformers, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fastvocab.errors import ModelError
from fastvocab.model import chat_vector, checkpoint, reference
from tests.conftest import CHAT_TEMPLATE, make_llama, tune_llama
from tests.model.conftest import Made

KINDS = ["tied_llama", "untied_llama", "padded_llama"]
Tuned = Callable[..., Path]


@pytest.fixture
def tuned(tmp_path: Path) -> Tuned:
    return partial(tune_llama, folder=tmp_path / "chat")


def add(made: Made, chat: Path, out: Path, **more: Any) -> dict[str, Any]:
    out.mkdir()
    return chat_vector.add(out, previous=made.pretrain, chat=reference.resolve(str(chat)), seed=3, **more)


def plain(folder: Path) -> dict[str, torch.Tensor]:
    """Weights by name, the head apart from the input embedding."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def merged(folder: Path) -> dict[str, torch.Tensor]:
    model, _ = checkpoint.load(folder)
    model = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
    return {name: weight.clone() for name, weight in model.state_dict().items()}


@pytest.mark.parametrize(
    ("kind", "rows"), [*((kind, rows) for kind in KINDS for rows in (0, 30)), ("padded_llama", -5)]
)
def test_it_is_the_sum_of_all_weights(
    kind: str, rows: int, make: Any, tuned: Tuned, request: Any, tmp_path: Path
) -> None:
    """Checkpoint + (chat - base), also where the chat model's matrices are longer or shorter."""
    base = request.getfixturevalue(kind)
    made, chat = make(base), tuned(base, rows=rows)
    figures = add(made, chat, tmp_path / "out")
    before, ours, theirs, after = merged(made.pretrain), plain(base), plain(chat), merged(tmp_path / "out")
    new = checkpoint.read(made.pretrain)["vocabulary"]
    assert before.keys() == after.keys()
    for name, weight in before.items():
        wanted = weight.clone()
        same = min(len(ours[name]), len(theirs[name]))
        step = theirs[name][:same] - ours[name][:same]
        if "embed_tokens" in name or "lm_head" in name:
            step = step[: new["new_first"]]
            fresh = slice(new["new_first"], new["new_stop"])
            assert torch.equal(after[name][fresh], weight[fresh])
        wanted[: len(step)] += step
        assert torch.allclose(
            after[name][: len(wanted)][: new["new_stop"]], wanted[: new["new_stop"]], atol=1e-6
        ), name
    assert 0.01 < figures["difference"] < 0.1
    # with all rows open, the softmax moves each of them
    assert all(0 < count <= new["new_first"] for count in figures["moved_rows"].values())


@pytest.mark.parametrize("embeddings", ["frozen", "new_rows"])
def test_only_what_is_not_the_chat_model_s_is_written(
    embeddings: str, make: Any, tuned: Tuned, tied_llama: Path, tmp_path: Path
) -> None:
    made, chat = make(tied_llama, embeddings), tuned(tied_llama)
    figures = add(made, chat, tmp_path / "out")
    facts = checkpoint.read(tmp_path / "out")
    added = facts["vocabulary"]["new_stop"] - facts["vocabulary"]["new_first"]
    assert facts["rows"] == {"embed_tokens": added} and figures["moved_rows"] == {"embed_tokens": 0}
    assert facts["base"]["fingerprint"] == figures["chat_vector"]["fingerprint"]
    assert facts["stage"] == "instruct" and facts["lineage"][-1]["stage"] == "pretrain"
    assert facts["lineage"][-1]["base"] == checkpoint.read(made.pretrain)["base"]["fingerprint"]
    one, other = (folder / "adapter_model.safetensors" for folder in (made.pretrain, tmp_path / "out"))
    assert one.read_bytes() == other.read_bytes()
    assert json.loads((tmp_path / "out/adapter_config.json").read_text())["base_model_name_or_path"] == str(
        chat
    )


def test_checkpoint_0_and_4_bit_and_training_on_top(
    make: Any, tuned: Tuned, tied_llama: Path, tmp_path: Path
) -> None:
    made, chat = make(tied_llama, load_in_4bit=True), tuned(tied_llama)
    add(made, chat, tmp_path / "out")
    model, _ = checkpoint.load(tmp_path / "out", trainable=True, embeddings="new_rows")
    assert any(p.requires_grad for p in model.parameters())
    checkpoint.merge(tmp_path / "out", tmp_path / "plain")
    zero = Made(made.base, made.corpus, made.tokenizer, made.extend, made.extend)
    add(zero, chat, tmp_path / "zero")
    assert checkpoint.read(tmp_path / "zero")["lora"] is None


def test_the_conversation_is_marked_as_the_chat_model_knows_it(
    make: Any, tuned: Tuned, tied_llama: Path, tmp_path: Path
) -> None:
    """Its template, and a mark that is an ordinary piece of text to the base."""
    own = AutoTokenizer.from_pretrained(tied_llama)
    pieces = [token for token in own.get_vocab() if len(token) > 2 and token.isalpha()]
    mark = next(t for t in pieces if own.convert_tokens_to_ids(t) not in own(f"x{t}x")["input_ids"])
    made, chat = make(tied_llama), tuned(tied_llama, mark=mark)
    add(made, chat, tmp_path / "out")
    _, tokenizer = checkpoint.load(tmp_path / "out")
    theirs = AutoTokenizer.from_pretrained(chat)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    for text in (f"x{mark}x", mark, "The quick brown fox"):
        assert tokenizer(text)["input_ids"] == theirs(text)["input_ids"]
    assert theirs(f"x{mark}x")["input_ids"] != own(f"x{mark}x")["input_ids"]
    assert tokenizer.decode(tokenizer(f"x{mark}x")["input_ids"], skip_special_tokens=True) == "xx"
    add(made, chat, tmp_path / "other", template="{{ messages[0]['content'] }}")
    _, tokenizer = checkpoint.load(tmp_path / "other")
    assert tokenizer.chat_template == "{{ messages[0]['content'] }}"


def _edit(folder: Path, **keys: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | keys))


def test_what_was_not_tuned_from_the_base_is_refused(
    make: Any, tuned: Tuned, tied_llama: Path, untied_llama: Path, tmp_path: Path
) -> None:
    made, chat = make(tied_llama), tuned(tied_llama, size=0.01)

    def refusal(folder: Path) -> str:
        with pytest.raises(ModelError) as caught:
            add(made, folder, tmp_path / "out")
        shutil.rmtree(tmp_path / "out")
        return str(caught.value)

    assert "differ from the base's by 1" in refusal(make_llama(tmp_path / "stranger", seed=9))  # root of two
    assert "is the base model itself" in refusal(tied_llama)
    assert "is a checkpoint of an extended model" in refusal(made.extend)
    checkpoint.merge(made.extend, tmp_path / "own")
    assert "is one that was added here; its token" in refusal(tmp_path / "own")
    assert "matrices is 2, the base's 1" in refusal(untied_llama)
    wide = refusal(make_llama(tmp_path / "wide", width=128))
    assert "width is 128, the base's 64" in wide and "intermediate is 256" in wide
    rope = shutil.copytree(chat, tmp_path / "rope")
    _edit(rope, rope_parameters={"rope_type": "default", "rope_theta": 5e5}, hidden_act="gelu")
    both = refusal(rope)
    assert "rope_parameters is" in both and "hidden_act is gelu, the base's silu" in both
    tokenizer = AutoTokenizer.from_pretrained(chat)
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    more = shutil.copytree(chat, tmp_path / "more")
    tokenizer.save_pretrained(more)
    told = refusal(more)
    assert "its token '<|im_start|>' has id 700, which is no token here; its token '<|im_end|>'" in told
    silent = shutil.copytree(chat, tmp_path / "silent")
    (silent / "chat_template.jinja").unlink()
    assert "has no chat template" in refusal(silent) and "instruct.template=FILE" in refusal(silent)


def test_a_checkpoint_on_a_chat_model_gets_neither_that_nor_the_base_once_more(
    make: Any, tuned: Tuned, tied_llama: Path, tmp_path: Path
) -> None:
    """Found before training: by the run's base, which is that checkpoint."""
    made, chat = make(tied_llama), tuned(tied_llama)
    add(made, chat, tmp_path / "out")
    base = reference.resolve(str(tmp_path / "out"))
    for again, told in (
        (chat, "is the base model itself"),
        (tied_llama, "stood on before another chat model"),
    ):
        with pytest.raises(ModelError, match=told):
            chat_vector.check(base, reference.resolve(str(again)))
    other = tune_llama(tied_llama, tmp_path / "other", size=0.02)
    chat_vector.check(base, reference.resolve(str(other)))
