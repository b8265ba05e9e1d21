"""What cannot be adopted is refused at once, with the value, and no library that runs a folder's code is asked."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fastvocab.errors import CheckpointError, FastvocabError
from fastvocab.model.adopt import adopt, find

Edit = Callable[[dict[str, torch.Tensor]], Any]
PREFIX = "base_model.model."
QUERY = f"{PREFIX}model.layers.0.self_attn.q_proj.lora_A.weight"
EMBED = f"{PREFIX}model.embed_tokens.modules_to_save.weight"


@pytest.fixture(scope="module")
def saved(untied_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter as PEFT writes it, with twelve new tokens."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(untied_llama),
        AutoTokenizer.from_pretrained(untied_llama),
    )
    tokenizer.add_tokens([f"слово{i}" for i in range(12)])
    model.resize_token_embeddings(len(tokenizer))
    config = LoraConfig(
        r=4,
        target_modules=["q_proj", "v_proj"],
        modules_to_save=["embed_tokens", "lm_head"],
        task_type="CAUSAL_LM",
    )
    folder = tmp_path_factory.mktemp("saved") / "adapter"
    get_peft_model(model, config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "left"))


def configure(folder: Path, **fields: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def edit(folder: Path, change: Edit) -> None:
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def refused(folder: Path, **more: Any) -> str:
    out = folder.parent / "made"
    with pytest.raises(FastvocabError) as error:
        adopt(folder, out, **more)
    assert not out.exists() and not list(out.parent.glob(".made*")), "nothing is left behind"
    return str(error.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"use_dora": True}, "use_dora=true cannot be represented"),
        ({"peft_type": "LOHA"}, "peft_type='LOHA' cannot be represented"),
        ({"bias": "all"}, "bias='all' cannot be represented"),
        ({"modules_to_save": ["embed_tokens", "norm", "input_layernorm"]}, "input_layernorm, norm: only"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa' cannot be represented"),
        ({"task_type": "SEQ_CLS"}, "task_type='SEQ_CLS' is no causal"),
        ({"layer_replication": [[0, 1]]}, "layer_replication="),
        ({"r": "many"}, "r='many' is no number"),
        ({"lora_dropout": "x"}, "lora_dropout='x' is no number from 0 to 1"),
        ({"lora_dropout": 7}, "lora_dropout=7 is no number from 0 to 1"),
        ({"trainable_token_indices": {"embed_tokens": "all"}}, "is no list of ids"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "alpha_pattern has the regular expression"),
        ({"base_model_name_or_path": None}, "names no base model"),
        ({"base_model_name_or_path": "../../etc"}, "give it with --base"),
        ({"base_model_name_or_path": "/content/model"}, "give it with --base"),
        ({"base_model_name_or_path": "unsloth/llama-3-8b-unsloth-bnb-4bit"}, "such as unsloth/llama-3-8b"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_config_that_a_checkpoint_cannot_hold(fields: dict[str, Any], said: str, folder: Path) -> None:
    configure(folder, **fields)
    assert said in refused(folder)


def test_all_faults_of_a_config_are_said_at_once(folder: Path) -> None:
    configure(folder, use_dora=True, bias="lora_only", task_type="SEQ_CLS")
    said = refused(folder)
    assert all(word in said for word in ("use_dora", "lora_only", "SEQ_CLS"))


def test_a_quantized_base_is_not_taken_for_the_one_it_was_made_from(
    folder: Path, untied_llama: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(untied_llama, tmp_path / "base"))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(
        json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes"}})
    )
    assert "is quantized (bitsandbytes)" in refused(folder, base=str(base))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.update({QUERY: w[QUERY][:, :32].clone()}), "the base's weight (64, 64)"),
        (lambda w: w.pop(QUERY), "q_proj has no lora_A"),
        (lambda w: [w.pop(n) for n in list(w) if "layers.1.self_attn.q_proj" in n], "LoRA of 1 modules that target"),
        (lambda w: w.update({QUERY.replace("layers.0", "layers.9"): w.pop(QUERY)}), "which the base does not have"),
        (lambda w: w.update({QUERY: torch.zeros(0)}), "a shard that was not gathered"),
        (lambda w: w.update({QUERY: torch.zeros(3, 64)}), "LoRA of model.layers.0.self_attn.q_proj is (3, 64)"),
        (lambda w: w.update({EMBED: torch.zeros(712, 32)}), "has shape (712, 32), the base (700, 64)"),
        (lambda w: w[EMBED].__setitem__((705, 3), float("nan")), "1 rows of embed_tokens hold NaN or infinity: ids"),
        (lambda w: w[QUERY].__setitem__((0, 0), float("inf")), "LoRA of 1 modules holds NaN"),
        (lambda w: w.update({f"{PREFIX}model.norm.weight": torch.zeros(64)}), "model.norm.weight is not the base's"),
        (lambda w: w.update({"evil": torch.zeros(2)}), "evil cannot be represented"),
        (
            lambda w: [w.pop(n) for n in list(w) if "lm_head" in n],
            "lm_head was trained, and its matrix is in no file: all rows, ids 0 to 699",
        ),
        (lambda w: w.update({EMBED: w[EMBED][:706].clone()}), "6 tokens of embed_tokens are in no file: ids 706 to"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit(change: Edit, said: str, folder: Path) -> None:
    edit(folder, change)
    assert said in refused(folder)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"trainable_token_indices": [5, 6, 7]}, "3 rows of embed_tokens trained, and they are in no file: ids 5 to"),
        ({"trainable_token_indices": {"lm_head": [5, 700]}}, "lm_head trained, and they are in no file: ids 5, 700"),
        ({"peft_type": "TRAINABLE_TOKENS", "token_indices": [9]}, "1 rows of embed_tokens trained"),
        ({"target_modules": ["q_proj", "v_proj", "lm_head"]}, "says that lm_head had LoRA, and its tensors are in no"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embed_tokens had LoRA, and its tensors are in no file: all"),
        ({"target_modules": r".*(q_proj|embed_tokens)"}, "embed_tokens had LoRA, and its tensors are in no file: all"),
        ({"modules_to_save": ["lm_head"]}, "lm_head was trained, and its matrix is in no file: all rows"),
    ],
    ids=str,
)  # fmt: skip
def test_rows_that_trained_and_are_in_no_file(
    fields: dict[str, Any], said: str, folder: Path, tied_llama: Path, untied_llama: Path
) -> None:
    configure(folder, modules_to_save=None)
    configure(folder, **fields)
    edit(folder, lambda w: [w.pop(n) for n in list(w) if "embed_tokens" in n or "lm_head" in n])
    # a tied head has its own way through; rows that trained are never begun anew
    for base in [tied_llama, untied_llama][: 2 if "lm_head" in said else 1]:
        assert said in refused(folder, base=str(base), missing="subtokens")


@pytest.fixture
def other_config(untied_llama: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the base whose config.json has other fields (None: left out)."""

    def write(**fields: Any) -> Path:
        folder = Path(shutil.copytree(untied_llama, tmp_path / "model", dirs_exist_ok=True))
        config = json.loads((untied_llama / "config.json").read_text()) | fields
        config = {key: value for key, value in config.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return write


def test_a_merged_model_with_another_config_than_its_base(other_config, untied_llama: Path) -> None:
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}
    folder = other_config(
        rms_norm_eps=0.5, hidden_act="gelu", rope_parameters=rope, max_position_embeddings=99
    )
    said = refused(folder, base=str(untied_llama))
    assert "rms_norm_eps=0.5, in the base 1e-06" in said and "hidden_act='gelu', in the base 'silu'" in said
    assert "rope_parameters.rope_theta=500000.0, in the base 10000.0" in said
    assert "rope_parameters.rope_type='linear'" in said and "max_position_embeddings=99" in said
    folder = other_config(hidden_size="x")
    assert "transformers does not take it" in refused(folder, base=str(untied_llama))


def test_one_config_spelled_in_two_ways(other_config, untied_llama: Path) -> None:
    same = find.settings(untied_llama)
    folder = other_config(
        rope_parameters=None, rope_theta=10000, rope_scaling={"type": "default"}, rms_norm_eps=None,
        attention_dropout=None, pad_token_id=7, dtype="bfloat16", unsloth_version="1", tie_word_embeddings=True,
    )  # fmt: skip
    assert find.settings(folder) == same and same["rms_norm_eps"] == 1e-6


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("[1]", "config.json is list"),
        ('{"vocab_size": 700, "architectures": ["LlamaForCausalLM"]}', "config.json: model_type=None"),
        ('{"model_type": "llama"}', "config.json: vocab_size=None"),
        ('{"model_type": "llama", "vocab_size": 7, "architectures": 5}', "config.json: architectures=5"),
        ('{"model_type": "llama", "vocab_size": 7, "quantization_config": "q"}', "quantization_config='q'"),
    ],
)
def test_a_base_whose_config_is_none(config: str, said: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(config)
    error = refused(folder, base=str(tmp_path / "base"))
    assert said in error and "rule:" in error and "do:" in error


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_file_that_may_not_be_read(name: str, folder: Path, monkeypatch) -> None:
    for method in ("open", "read_text", "read_bytes"):
        usual = getattr(Path, method)

        def forbid(self: Path, *args: Any, usual: Any = usual, **settings: Any) -> Any:
            if self == folder / name:
                raise PermissionError(13, "Permission denied", str(self))
            return usual(self, *args, **settings)

        monkeypatch.setattr(Path, method, forbid)
    error = refused(folder)
    assert "cannot be read" in error and "Permission denied" in error and "do:" in error


def test_an_adapter_of_another_base(folder: Path, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=700, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2,
        )
    ).save_pretrained(tmp_path / "other")  # fmt: skip
    said = refused(folder, base=str(tmp_path / "other"))
    assert "which the base does not have" in said and "the base (700, 32)" in said


def test_rows_without_a_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert "712 rows, 12 more than the base, and there is no tokenizer" in refused(folder)


def test_a_tokenizer_of_another_base(folder: Path) -> None:
    data = json.loads((folder / "tokenizer.json").read_text())
    vocab = data["model"]["vocab"]
    a, b = list(vocab)[300:302]
    vocab[a], vocab[b] = vocab[b], vocab[a]
    (folder / "tokenizer.json").write_text(json.dumps(data))
    assert "2 tokens of the base have another id there" in refused(folder)


def test_a_damaged_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": ')
    assert "the tokenizer in" in refused(folder)


def test_a_truncated_file(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "adapter_model.safetensors cannot be read" in refused(folder)


@pytest.mark.parametrize("name", ["adapter_model", "pytorch_model"])
def test_pickles_are_never_opened(name: str, folder: Path, untied_llama: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(trap),)

    if name == "pytorch_model":
        folder = Path(shutil.copytree(untied_llama, tmp_path / "model"))
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    torch.save(Trap(), folder / f"{name}.bin")
    torch.save(Trap(), folder / "training_args.bin")
    assert f"{name}.bin" in (said := refused(folder)) and "never opened" in said
    assert not trap.exists()


def test_links_and_shard_names_that_lead_out(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer_config.json").symlink_to(secret)
    assert "tokenizer_config.json in" in (said := refused(folder)) and "is a link out of the folder" in said
    (folder / "tokenizer_config.json").unlink()
    (folder / "adapter_model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "../../x.safetensors"}}'
    )
    assert "shards are .safetensors files beside it" in refused(folder)


def test_a_folder_of_the_hub_s_cache_has_links_that_may_stay(saved: Path, tmp_path: Path) -> None:
    repo = tmp_path / "models--someone--adapter"
    snapshot = repo / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    shutil.copytree(saved, repo / "blobs")
    for blob in (repo / "blobs").iterdir():
        (snapshot / blob.name).symlink_to(blob)
    assert find.examine(snapshot).kind == "adapter"


def test_folders_that_are_something_else(tmp_path: Path, saved: Path) -> None:
    assert "is no folder" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "neither adapter_config.json nor config.json (found: nothing)" in refused(tmp_path / "empty")
    for step in (5, 10, 100):
        shutil.copytree(saved, tmp_path / "run" / f"checkpoint-{step}")
    said = refused(tmp_path / "run")
    assert "checkpoint-5, checkpoint-10, checkpoint-100" in said and "checkpoint-100 --out" in said
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "fastvocab.json").write_text("{}")
    assert "needs no adopting" in refused(tmp_path / "ours")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "adapter_config.json").write_text("[1]")
    (tmp_path / "odd" / "adapter_model.safetensors").write_bytes(b"")
    assert "a JSON object" in refused(tmp_path / "odd")


def test_an_existing_out_folder_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for out in ("there", "link", "new/..", "left"):
        with pytest.raises(CheckpointError, match="is there already"):
            adopt(folder, tmp_path / out)


def test_nothing_is_written_into_a_folder_that_is_read(
    folder: Path, untied_llama: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(folder)
    for out in (folder / "made", tmp_path / "link" / "a" / "made", untied_llama / "made"):
        with pytest.raises(CheckpointError, match="nothing is written into a folder that is read"):
            adopt(folder, out)
    assert not (folder / "a").exists() and not list(folder.glob("*made*"))


def test_the_command_says_it_in_lines_without_a_traceback(folder: Path, tmp_path: Path, capsys) -> None:
    from fastvocab.cli import main

    configure(folder, use_dora=True)
    with pytest.raises(SystemExit) as stopped:
        main(["adopt", str(folder), "--out", str(tmp_path / "made")])
    assert stopped.value.code == 5
    said = capsys.readouterr().err
    assert "use_dora=true cannot be represented" in said and "Traceback" not in said
