"""Folders that the real libraries wrote become checkpoints whose logits are those of the live model that was saved."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from fastvocab.errors import CheckpointError
from fastvocab.model import backend, checkpoint, load
from fastvocab.model.adopt import adopt, build, lines
from tests.conftest import sentences

#: AddedTokens as people add them; ids 700 to 711 of the tiny models.
NEW = [f"слово{i}" for i in range(11)] + [" мова"]
IDS = list(range(700, 712))
BOTH = ["embed_tokens", "lm_head"]


@dataclass
class Left:
    """What a tool left: the folder, and the logits of the model that it was saved from."""

    folder: Path
    logits: torch.Tensor


def logits(model: Any, rows: int) -> torch.Tensor:
    """(n, rows) of ids from everywhere below ``rows``, the new ones included."""
    ids = torch.cat([torch.arange(0, rows, 9), torch.arange(max(0, rows - 12), rows)])[None]
    model.eval()
    with torch.inference_mode():
        return vars(model).get("_original_forward", model)(input_ids=ids).logits[0].float().clone()


def apart(made: Path, left: Left) -> float:
    """Largest logit difference of a reloaded checkpoint from the live model that was saved."""
    model, _ = checkpoint.load(made)
    rows = left.logits.shape[1]
    return float((logits(model, rows)[:, :rows] - left.logits).abs().max())


def stir(model: Any) -> Any:
    """Move everything that trains, as training would: no tensor is at its default, tied copies drift apart."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


def extended(base: Path, *, multiple: int | None = None, tokens: list[str] = NEW) -> tuple[Any, Any]:
    """Plain transformers: add_tokens and resize_token_embeddings."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    backend.unsloth()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    if tokens:
        tokenizer.add_tokens(tokens)
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=multiple)
    return model, tokenizer


@pytest.fixture
def peft(tmp_path: Path) -> Callable[..., Left]:
    """Save an adapter of an extended model with PEFT; keywords are LoraConfig's."""

    def build(
        base: Path,
        *,
        embedding: bool | str = "auto",
        multiple: int | None = None,
        tokens: list[str] = NEW,
        **settings: Any,
    ) -> Left:
        from peft import LoraConfig, get_peft_model

        model, tokenizer = extended(base, multiple=multiple, tokens=tokens)
        config = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
        model = stir(get_peft_model(model, LoraConfig(**(config | settings))))
        folder = tmp_path / "left"
        model.save_pretrained(folder, save_embedding_layers=embedding)
        tokenizer.save_pretrained(folder)
        return Left(folder, logits(model, model.get_input_embeddings().weight.shape[0]))

    return build


#: label: LoraConfig's own words, whether embeddings are saved, and where the rows must be found.
ADAPTERS: dict[str, dict[str, Any]] = {
    "modules_to_save": {"modules_to_save": BOTH},
    "modules_to_save, plain names": {"modules_to_save": BOTH, "embedding": False},
    "input matrix alone": {"modules_to_save": ["embed_tokens"]},
    "token rows": {"trainable_token_indices": IDS},
    "token rows by name": {"trainable_token_indices": {"embed_tokens": IDS, "lm_head": IDS}},
    "token rows, nothing beneath": {
        "trainable_token_indices": {"embed_tokens": IDS, "lm_head": IDS},
        "embedding": False,
    },
    "rows not trained": {"embedding": True},
    "padded to 64, as LLaMA-Factory does": {"modules_to_save": BOTH, "multiple": 64},
    "rslora": {"use_rslora": True},
    "alpha 0": {"lora_alpha": 0},
    "some layers": {"layers_to_transform": [1]},
    "regular expression": {"target_modules": r".*layers\.1\..*(q|down)_proj"},
    "all-linear": {"target_modules": "all-linear"},
    "old tokens trained, none added": {"modules_to_save": BOTH, "tokens": [], "embedding": False},
}
#: Rounded: folded into rows, or added up in another order.
ROUNDED: dict[str, dict[str, Any]] = {
    "LoRA on the embeddings": {"target_modules": ["q_proj", *BOTH]},
    "ranks and scalings of their own": {
        "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {"layers.0.self_attn.v_proj": 3},
    },
}


#: What has nothing to do with tying is tried once.
BODY = {
    "rslora",
    "alpha 0",
    "some layers",
    "regular expression",
    "all-linear",
    "ranks and scalings of their own",
}


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> None:
    """add_new_tokens collects garbage three times, half a second each with all libraries loaded."""
    backend.unsloth()
    gc.collect()
    gc.freeze()


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        (label, kind)
        for label in [*ADAPTERS, *ROUNDED]
        for kind in ("tied_llama", "untied_llama")
        if label not in BODY or kind == "untied_llama"
    ],
)
def test_an_adapter_gives_the_logits_of_the_model_it_was_saved_from(
    label: str, kind: str, peft, request, tmp_path: Path
) -> None:
    left = peft(request.getfixturevalue(kind), **(ADAPTERS | ROUNDED)[label])
    report = adopt(left.folder, tmp_path / "made")
    # float32: the sums of a 64-wide model at logits of about 1
    bound = 2e-6 if label in ROUNDED else 0.0
    assert apart(tmp_path / "made", left) <= bound
    assert report["difference"] <= bound and report["compared_with"] == "PEFT"
    assert checkpoint.read(tmp_path / "made")["lineage"][0]["found"] == report["found"]


def test_rows_of_old_tokens_over_a_base_beside_the_adapter_that_peft_cannot_load(
    peft, untied_llama: Path, tmp_path: Path, monkeypatch
) -> None:
    from peft import PeftModel

    left = peft(untied_llama, tokens=[], trainable_token_indices=[5, 6, 7], embedding=False)
    (tmp_path / "base").symlink_to(untied_llama)
    listing = left.folder / "adapter_config.json"
    config = json.loads(listing.read_text())
    listing.write_text(json.dumps(config | {"base_model_name_or_path": "../base"}))

    def refuse(*args: Any, **settings: Any) -> None:
        raise NotImplementedError(f"{left.folder} is of no kind\nthat is known")

    monkeypatch.setattr(PeftModel, "from_pretrained", refuse)
    report = adopt(left.folder, tmp_path / "made")
    assert report["base"] == str(untied_llama.resolve()) and report["difference"] is None
    assert "difference  not known: PEFT cannot load it: left is of no kind" in lines(report)
    facts = checkpoint.read(tmp_path / "made")
    assert facts["embeddings"] == "full" and set(facts["lineage"][0]) == {
        "stage", "kind", "tool", "from", "found", "ignored", "initialised", "notes", "difference", "compared_with",
    }  # fmt: skip
    assert facts["lineage"][0]["from"] == "left" and str(tmp_path) not in json.dumps(facts["lineage"])
    model, _ = checkpoint.load(tmp_path / "made", trainable=True)
    assert model.get_input_embeddings().modules_to_save["default"].weight.requires_grad
    assert float((logits(model, 700) - left.logits).abs().max()) == 0


def test_other_logits_than_those_of_the_folder_are_an_error(
    peft, untied_llama: Path, tmp_path: Path, monkeypatch
) -> None:
    left = peft(untied_llama, tokens=[], embedding=False)
    as_it_is = build.as_its_library

    def moved(*args: Any) -> tuple[Any, str]:
        found, by = as_it_is(*args)
        return found + 0.01, by

    monkeypatch.setattr(build, "as_its_library", moved)
    with pytest.raises(CheckpointError, match=r"differs in logits by 0\.01 from the folder as PEFT loads it"):
        adopt(left.folder, tmp_path / "made")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"modules_to_save": ["embed_tokens"]},
        {"trainable_token_indices": IDS},
        {"target_modules": ["q_proj", "embed_tokens"]},
    ],
    ids=lambda s: next(iter(s)),
)
def test_a_pair_that_was_kept_tied_stays_one_matrix(settings, peft, tied_llama: Path, tmp_path: Path) -> None:
    left = peft(tied_llama, ensure_weight_tying=True, **settings)
    report = adopt(left.folder, tmp_path / "made")
    assert report["tied"] and set(checkpoint.read(tmp_path / "made")["rows"]) == {"embed_tokens"}
    assert apart(tmp_path / "made", left) <= (2e-6 if "target_modules" in settings else 0)


def test_copies_of_a_tied_pair_that_drifted_apart_are_both_kept(
    peft, tied_llama: Path, tmp_path: Path
) -> None:
    left = peft(tied_llama, modules_to_save=BOTH)
    report = adopt(left.folder, tmp_path / "made")
    assert not report["tied"] and "rows of its own" in " ".join(report["notes"])
    model, _ = checkpoint.load(tmp_path / "made")
    assert not torch.equal(model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    checkpoint.merge(tmp_path / "made", tmp_path / "merged")  # plain transformers must not tie it again
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["tie_word_embeddings"] is False


def test_the_trained_copy_is_taken_and_the_others_are_accounted_for(
    peft, untied_llama: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    left = peft(untied_llama, modules_to_save=BOTH)
    report = adopt(left.folder, tmp_path / "made")
    assert all("modules_to_save" in where for where in report["found"].values())
    reasons = {i["tensor"].removeprefix("base_model.model."): i["why"] for i in report["ignored"]}
    assert reasons["lm_head.original_module.weight"] == "what it was before training"
    assert reasons["model.embed_tokens.weight"].startswith("the same as")
    weights = load_file(left.folder / "adapter_model.safetensors")
    weights["base_model.model.lm_head.weight"] += 1
    save_file(weights, left.folder / "adapter_model.safetensors", metadata={"format": "pt"})
    report = adopt(left.folder, tmp_path / "again")
    assert "differ: the first was taken" in " ".join(report["notes"])
    assert report["difference"] > 0.1  # PEFT takes the other
    assert apart(tmp_path / "again", left) == 0


@pytest.mark.parametrize("kind", ["tied_llama", "untied_llama"])
def test_trainable_tokens_without_lora(kind: str, request, tmp_path: Path) -> None:
    from peft import TrainableTokensConfig, get_peft_model

    model, tokenizer = extended(request.getfixturevalue(kind))
    model = stir(get_peft_model(model, TrainableTokensConfig(token_indices=IDS, task_type="CAUSAL_LM")))
    if kind == "untied_llama":  # PEFT leaves the head's new rows out of the file
        with torch.no_grad():
            model.get_output_embeddings().weight[700:].normal_()
    left = Left(tmp_path / "left", logits(model, 712))
    model.save_pretrained(left.folder)
    tokenizer.save_pretrained(left.folder)
    if kind == "untied_llama":
        with pytest.raises(CheckpointError, match="12 tokens of lm_head are in no file: ids 700 to 711"):
            adopt(left.folder, tmp_path / "made")
        return
    report = adopt(left.folder, tmp_path / "made")
    assert report["lora"] is None and apart(tmp_path / "made", left) == 0


def test_a_padded_base_and_a_matrix_that_was_cut_to_its_tokens(
    peft, padded_llama: Path, tmp_path: Path
) -> None:
    # 736 rows for 700 tokens; 12 new ones fit in, and resize_token_embeddings(len(tokenizer)) cuts the rest off
    left = peft(padded_llama, modules_to_save=["embed_tokens"], ensure_weight_tying=True)
    assert left.logits.shape[1] == 712
    report = adopt(left.folder, tmp_path / "made")
    assert (report["rows"], report["new_tokens"]) == (736, 12) and "was cut to 712 rows" in " ".join(
        report["notes"]
    )
    assert apart(tmp_path / "made", left) == 0


def test_new_tokens_in_the_spare_rows_of_a_padded_base_need_no_rows_of_their_own(
    padded_llama: Path, tmp_path: Path, capsys
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from fastvocab.cli import main

    tokenizer = AutoTokenizer.from_pretrained(padded_llama)
    tokenizer.add_tokens(NEW)
    model = AutoModelForCausalLM.from_pretrained(padded_llama)
    model = stir(get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")))
    left = Left(tmp_path / "left", logits(model, 736))
    model.save_pretrained(left.folder)
    tokenizer.save_pretrained(left.folder)
    with pytest.raises(SystemExit) as done:
        main(["adopt", str(left.folder), "--out", str(tmp_path / "made")])
    said = capsys.readouterr().err
    assert not done.value.code, said
    assert "712 tokens, 12 of them new; 736 rows, the base 736" in said
    assert "0 at most, in logits, from PEFT" in said
    assert apart(tmp_path / "made", left) == 0


@pytest.mark.parametrize("kind", ["tied_llama", "untied_llama"])
def test_unsloth_and_its_trainer_s_checkpoints(kind: str, request, tmp_path: Path) -> None:
    """FastLanguageModel, add_new_tokens, embed_tokens and lm_head as target modules, UnslothTrainer."""
    package = backend.unsloth()
    from datasets import Dataset
    from unsloth import UnslothTrainer, UnslothTrainingArguments
    from unsloth_zoo.tokenizer_utils import add_new_tokens

    model, tokenizer = package.FastLanguageModel.from_pretrained(
        str(request.getfixturevalue(kind)), max_seq_length=64, dtype=torch.float32, load_in_4bit=False
    )
    add_new_tokens(model, tokenizer, new_tokens=list(NEW))
    model = package.FastLanguageModel.get_peft_model(
        model, r=4, lora_alpha=8, target_modules=["q_proj", "down_proj", *BOTH], max_seq_length=64
    )
    run = tmp_path / "run"
    UnslothTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"text": sentences(8)}),
        args=UnslothTrainingArguments(
            output_dir=str(run), max_steps=2, save_steps=1, per_device_train_batch_size=2, learning_rate=1e-2,
            embedding_learning_rate=1e-2, report_to="none", max_length=48, dataset_num_proc=1,
        ),
    ).train()  # fmt: skip
    left = Left(run / "checkpoint-2", logits(model, 712))
    with pytest.raises(CheckpointError, match=r"2 checkpoints of a trainer.*checkpoint-1, checkpoint-2"):
        adopt(run, tmp_path / "made")
    report = adopt(left.folder, tmp_path / "made")
    assert {"optimizer.pt", "training_args.bin"} <= set(report["unopened"])
    assert report["difference"] == 0 and apart(tmp_path / "made", left) == 0
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    adopt(tmp_path / "saved", tmp_path / "saved-made")
    assert apart(tmp_path / "saved-made", left) == 0


def test_a_trl_checkpoint_whose_tokenizer_lies_beside_it(untied_llama: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = extended(untied_llama)
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"text": sentences(8)}),
        peft_config=LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=BOTH, task_type="CAUSAL_LM"),
        args=SFTConfig(
            output_dir=str(tmp_path / "run"), max_steps=2, save_steps=2, per_device_train_batch_size=2,
            learning_rate=1e-2, report_to="none", max_length=48, use_cpu=True, bf16=False,
        ),
    )  # fmt: skip
    trainer.train()
    left = Left(tmp_path / "run" / "checkpoint-2", logits(trainer.model, 712))
    for file in [*left.folder.glob("token*"), *left.folder.glob("*.jinja")]:
        file.unlink()
    with pytest.raises(CheckpointError, match="12 more than the base, and there is no tokenizer"):
        adopt(left.folder, tmp_path / "made")
    tokenizer.save_pretrained(tmp_path / "run")
    report = adopt(left.folder, tmp_path / "made")
    assert report["tool"] in ("TRL", "transformers Trainer") and apart(tmp_path / "made", left) == 0


@pytest.mark.parametrize("tool", ["llama-factory", "axolotl"])
def test_the_layouts_of_llama_factory_and_axolotl(tool: str, untied_llama: Path, tmp_path: Path) -> None:
    """The PEFT calls that LLaMA-Factory 0.9.5 and Axolotl 0.19 make, which need other versions of transformers.

    LLaMA-Factory (resize_vocab, additional_target): rows padded to a multiple of 64, noisy mean, LoRA on all linear
    modules; compared with a folder that it wrote in an environment of its own. Axolotl (tokens,
    lora_modules_to_save): no padding, and the base's config.json with the grown vocab_size beside the adapter.
    """
    from peft import LoraConfig, get_peft_model

    model, tokenizer = extended(untied_llama, multiple=64 if tool == "llama-factory" else None)
    linear = [*load.LINEAR]
    model = stir(
        get_peft_model(
            model,
            LoraConfig(
                task_type="CAUSAL_LM", r=4, target_modules=linear, modules_to_save=BOTH, lora_dropout=0.1
            ),
        )
    )
    left = Left(tmp_path / "left", logits(model, model.get_input_embeddings().weight.shape[0]))
    model.save_pretrained(left.folder)
    tokenizer.save_pretrained(left.folder)
    (left.folder / "README.md").write_text(f"---\nlibrary_name: peft\ntags:\n- {tool}\n- lora\n---\n")
    if tool == "axolotl":
        model.config.save_pretrained(left.folder)
    report = adopt(left.folder, tmp_path / "made")
    assert report["tool"].lower() == tool and report["kind"] == "adapter"
    assert report["rows"] == (768 if tool == "llama-factory" else 712)
    assert apart(tmp_path / "made", left) == 0


@pytest.mark.parametrize(
    ("missing", "kind"),
    [("subtokens", "tied_llama"), ("subtokens", "untied_llama"), ("mean", "tied_llama")],
)
def test_rows_in_no_file_are_named_and_can_be_begun_anew(
    missing: str, kind: str, peft, request, tmp_path: Path
) -> None:
    left = peft(request.getfixturevalue(kind), embedding=False)
    parts = ["embed_tokens"] if kind == "tied_llama" else BOTH
    with pytest.raises(CheckpointError) as error:
        adopt(left.folder, tmp_path / "made")
    for part in parts:
        assert f"the rows of 12 tokens of {part} are in no file: ids 700 to 711" in str(error.value)
    assert not (tmp_path / "made").exists() and not list(tmp_path.glob(".made*"))
    report = adopt(left.folder, tmp_path / "made", missing=missing)
    assert report["initialised"] == {"how": missing, "tokens": 12, "ids": "700 to 711"}
    assert report["difference"] is None
    model, _ = checkpoint.load(tmp_path / "made")
    weight = model.get_input_embeddings().weight
    mean = weight[:700].mean(0)
    assert torch.allclose(weight[705], mean) == (missing == "mean")
    if missing == "subtokens":
        from transformers import AutoTokenizer

        pieces = AutoTokenizer.from_pretrained(request.getfixturevalue(kind))("слово5").input_ids
        assert torch.allclose(weight[705], weight[pieces].mean(0))


def test_a_tokenizer_longer_than_the_matrix(peft, untied_llama: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    left = peft(untied_llama, modules_to_save=BOTH)
    tokenizer = AutoTokenizer.from_pretrained(left.folder)
    tokenizer.add_tokens(["пізніше", "додане"])
    tokenizer.save_pretrained(left.folder)
    with pytest.raises(CheckpointError, match=r"2 tokens of lm_head are in no file: ids 712 to 713"):
        adopt(left.folder, tmp_path / "made")
    report = adopt(left.folder, tmp_path / "made", missing="subtokens")
    assert (
        report["rows"] == 714 and apart(tmp_path / "made", left) == 0
    )  # the rows that were there are untouched


@pytest.fixture
def merged(tmp_path: Path) -> Callable[..., Left]:
    """A plain folder: rows moved, and where ``body`` the linear weights as well; in two or more shards."""

    def build(base: Path, *, body: bool = False, tokens: list[str] = NEW) -> Left:
        model, tokenizer = extended(base, tokens=tokens)
        with torch.no_grad():
            for part in (model.get_input_embeddings(), model.get_output_embeddings()):
                part.weight.add_(torch.randn_like(part.weight) * 0.02)
            if body:
                model.model.layers[0].mlp.up_proj.weight.mul_(1.01)
        folder = tmp_path / "left"
        model.save_pretrained(folder, max_shard_size="200KB")
        tokenizer.save_pretrained(folder)
        assert (folder / "model.safetensors.index.json").is_file()
        return Left(folder, logits(model, model.get_input_embeddings().weight.shape[0]))

    return build


@pytest.mark.parametrize("kind", ["tied_llama", "untied_llama"])
def test_a_merged_model_is_a_base_itself_or_rows_over_its_base(
    kind: str, merged, request, tmp_path: Path
) -> None:
    base = request.getfixturevalue(kind)
    left = merged(base)
    with pytest.raises(CheckpointError, match=r"plain model already, 712 rows for 712 ids") as error:
        adopt(left.folder, tmp_path / "made")
    assert f"model.base={left.folder}" in str(error.value)
    report = adopt(left.folder, tmp_path / "made", base=str(base))
    assert report["compared_with"] == "transformers" and report["difference"] == 0
    assert apart(tmp_path / "made", left) == 0
    again = tmp_path / "again"
    shutil.copytree(left.folder, again)
    from safetensors.torch import load_file, save_file

    for shard in again.glob("*.safetensors"):
        weights = load_file(shard)
        if name := next((n for n in weights if "up_proj" in n), None):
            weights[name] *= 1.01
            save_file(weights, shard, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"tensors besides the embedding rows differ from the base"):
        adopt(again, tmp_path / "no", base=str(base))


@pytest.mark.parametrize("kind", ["tied_llama", "untied_llama"])
def test_a_merge_with_the_old_size_becomes_the_base_of_its_own_new_rows(
    kind: str, merged, request, tmp_path: Path
) -> None:
    left = merged(request.getfixturevalue(kind), tokens=[], body=True)
    _, tokenizer = extended(request.getfixturevalue(kind))
    tokenizer.save_pretrained(left.folder)
    with pytest.raises(CheckpointError, match=r"12 tokens of embed_tokens are in no file: ids 700 to 711"):
        adopt(left.folder, tmp_path / "made")
    report = adopt(left.folder, tmp_path / "made", missing="subtokens")
    assert report["initialised"]["tokens"] == 12 and report["base"] == str(left.folder)
    assert apart(tmp_path / "made", left) == 0
    model, _ = checkpoint.load(tmp_path / "made")
    weight = model.get_input_embeddings().weight
    pieces = extended(request.getfixturevalue(kind), tokens=[])[1]("слово5").input_ids
    assert torch.allclose(weight[705], weight[pieces].mean(0))


def test_a_merge_that_lost_its_head_is_told_so(merged, untied_llama: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    left = merged(untied_llama)
    listing = left.folder / "model.safetensors.index.json"
    index = json.loads(listing.read_text())
    shard = left.folder / index["weight_map"].pop("lm_head.weight")
    weights = load_file(shard)
    del weights["lm_head.weight"]
    save_file(weights, shard, metadata={"format": "pt"})
    listing.write_text(json.dumps(index))
    for base in (None, str(untied_llama)):
        with pytest.raises(
            CheckpointError, match=r"lm_head.weight is in no file: the output rows of 712 tokens"
        ):
            adopt(left.folder, tmp_path / "made", base=base)


def test_a_tied_merge_that_still_has_the_trained_head_gets_it_back(tied_llama: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model, tokenizer = extended(tied_llama)
    folder = tmp_path / "left"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] * 1.1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    report = adopt(folder, tmp_path / "made", base=str(tied_llama))
    assert not report["tied"] and report["difference"] == 0
    made, _ = checkpoint.load(tmp_path / "made")
    assert torch.equal(made.get_output_embeddings().weight, weights["lm_head.weight"])
