"""What is passed to unsloth exists in its GPU classes too, and means there what is meant here.

Read from the installed sources, which need a GPU to be imported as a GPU gets them; `test_gpu_classes` runs them.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
#: Name of the called -> (module of unsloth, function or class, where the defaults and bodies are).
GPU = {
    "from_pretrained": ("unsloth.models.loader", "FastLanguageModel.from_pretrained"),
    "get_peft_model": ("unsloth.models.llama", "FastLlamaModel.get_peft_model"),
    "for_inference": ("unsloth.models.llama", "FastLlamaModel.for_inference"),
    "for_training": ("unsloth.models.llama", "FastLlamaModel.for_training"),
    "add_new_tokens": ("unsloth_zoo.tokenizer_utils", "add_new_tokens"),
}
#: Keywords that reach the GPU class through ``**kwargs``, and where they are taken out of it by name.
TAKEN = {
    ("from_pretrained", "tokenizer_name"): (
        "unsloth.models.loader_utils",
        "_resolve_checkpoint_tokenizer_name",
    )
}


def source_of(module: str) -> str:
    # of the package alone: find_spec of a part would import what it lies in
    package, _, rest = module.partition(".")
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], *rest.split(".")).with_suffix(".py").read_text("utf-8")


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(source_of(module))


def function(module: str, name: str) -> ast.FunctionDef:
    body: Any = tree(module).body
    for part in name.split("."):
        (found,) = (n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part)
        body = found.body
    assert isinstance(found, ast.FunctionDef)
    return found


def text(module: str, name: str) -> str:
    return ast.unparse(function(module, name))


def parameters(module: str, name: str) -> dict[str, str | None]:
    """Names and defaults of what can be given by keyword."""
    given = function(module, name).args
    defaults: list[Any] = [None] * (len(given.args) - len(given.defaults)) + given.defaults
    pairs = [*zip(given.args, defaults), *zip(given.kwonlyargs, given.kw_defaults)]
    return {arg.arg: None if default is None else ast.unparse(default) for arg, default in pairs}


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """(file, name, call) of everything in fastvocab and its scripts that has the name of one of unsloth's."""
    for path in [*REPOSITORY.glob("fastvocab/**/*.py"), *REPOSITORY.glob("scripts/*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            owner = ast.unparse(called.value) if isinstance(called, ast.Attribute) else ""
            alone = ("add_new_tokens", "UnslothTrainer", "UnslothTrainingArguments")
            if name in alone or (name in GPU and "FastLanguageModel" in owner):
                yield str(path.relative_to(REPOSITORY)), name, node


CALLS = [(file, name, node) for file, name, node in calls()]


def test_the_calls_are_found() -> None:
    ours = {(file, name) for file, name, _ in CALLS if file.startswith("fastvocab")}
    assert ours >= {
        ("fastvocab/model/load.py", "from_pretrained"),
        ("fastvocab/model/load.py", "get_peft_model"),
        ("fastvocab/model/backend.py", "for_inference"),
        ("fastvocab/model/backend.py", "for_training"),
        ("fastvocab/model/extend.py", "add_new_tokens"),
        ("fastvocab/train/trainer.py", "UnslothTrainingArguments"),
    }


@pytest.mark.parametrize(
    ("file", "name", "call"),
    [c for c in CALLS if c[1] in GPU],
    ids=[f"{file}:{name}:{node.lineno}" for file, name, node in CALLS if name in GPU],
)
def test_every_keyword_is_a_parameter_of_the_gpu_class(file: str, name: str, call: ast.Call) -> None:
    known = parameters(*GPU[name])
    for keyword in (k.arg for k in call.keywords if k.arg):
        if keyword in known:
            continue
        assert (name, keyword) in TAKEN, f"{file}: {name} of the GPU class does not know {keyword}"
        assert f"kwargs.pop('{keyword}'" in text(*TAKEN[name, keyword])


def test_training_arguments_are_fields_of_trl_s_or_unsloth_s_own() -> None:
    from fastvocab.model import backend

    backend.unsloth()  # it asks to be imported first
    from trl import SFTConfig

    own = parameters("unsloth.trainer", "UnslothTrainingArguments.__init__")
    known = set(inspect.signature(SFTConfig).parameters) | set(own)
    for file, name, call in CALLS:
        if name == "UnslothTrainingArguments":
            unknown = {k.arg for k in call.keywords if k.arg} - known
            assert not unknown, f"{file}: {unknown}"


def test_the_loader_hands_on_what_decides_how_a_model_is_loaded() -> None:
    loader = text(*GPU["from_pretrained"])
    for name in ("max_seq_length", "trust_remote_code", "random_state", "tokenizer_name"):
        assert f"{name}={name}" in loader
    # to be resized later, a model must keep its input matrix where it is: unsloth does so for its own resize alone
    assert "offload_embedding=False if resize_model_vocab is not None" in loader


def test_what_is_longer_than_max_seq_length_is_cut_off_by_the_gpu_forward() -> None:
    """Hence evaluation loads a model for the longest piece it scores (tests/evaluate/test_stage.py)."""
    forward = text("unsloth.models.llama", "LlamaModel_fast_forward")
    assert "input_ids = input_ids[:, :self.max_seq_length]" in forward


def test_ensure_weight_tying_is_given_to_peft_as_it_is_and_none_would_be_unsloth_s_own_choice() -> None:
    known = parameters(*GPU["get_peft_model"])
    assert known["ensure_weight_tying"] == "None"
    body = text(*GPU["get_peft_model"])
    assert "ensure_weight_tying=ensure_weight_tying" in body and "if ensure_weight_tying:" in body
    (call,) = (c for f, n, c in CALLS if f == "fastvocab/model/load.py" and n == "get_peft_model")
    given = {k.arg: ast.unparse(k.value) for k in call.keywords}
    assert given["ensure_weight_tying"].startswith("bool("), "never None"


def test_checkpointing_is_unsloth_s_own_word_and_false_is_taken_as_such() -> None:
    applied = text("unsloth.models._utils", "apply_unsloth_gradient_checkpointing")
    assert "use_gradient_checkpointing == 'unsloth'" in applied and "in (True, False)" in applied
    assert parameters(*GPU["get_peft_model"])["use_gradient_checkpointing"] == "'unsloth'"


def test_embeddings_are_written_to_disk_under_the_model_s_own_path() -> None:
    """Why `load.add_lora` gives it another meanwhile: `os.path.join` drops what precedes an absolute path."""
    assert "os.path.join(temporary_location, model.config._name_or_path)" in text(
        "unsloth.models._utils", "offload_to_disk"
    )
    assert "offload_input_embeddings(model, temporary_location)" in text(*GPU["get_peft_model"])


def test_the_flag_of_add_new_tokens_is_what_opens_both_matrices_unasked() -> None:
    flag = "_need_to_train_embeddings"
    assert text(*GPU["add_new_tokens"]).count(f"internal_model.{flag} = True") == 2
    assert f"hasattr(model, '{flag}')" in text(*GPU["get_peft_model"])
    readers = {
        path.relative_to(root).as_posix()
        for package in ("unsloth", "unsloth_zoo")
        for root in [Path(importlib.util.find_spec(package).submodule_search_locations[0])]  # type: ignore
        for path in root.rglob("*.py")
        if flag in path.read_text("utf-8", errors="replace")
    }
    # a new reader may look at a part of the model that `load.add_lora` does not clear
    assert readers == {"models/llama.py", "models/vision.py", "tokenizer_utils.py"}


@pytest.mark.parametrize("mode", ["new_rows", "frozen"])
def test_the_flag_is_taken_off_every_part(mode: Any, tied_llama: Path) -> None:
    from transformers import AutoTokenizer

    from fastvocab.model import load, reference
    from fastvocab.model.extend import grow

    model, _ = load.base_model(reference.resolve(str(tied_llama)), load_in_4bit=False, block=32, seed=1)
    rows = len(model.get_input_embeddings().weight)
    grow(model, AutoTokenizer.from_pretrained(tied_llama), range(rows, rows + 2), ["привіт", "світ"])
    flagged = [part for part in model.modules() if "_need_to_train_embeddings" in vars(part)]
    assert len(flagged) == 2, "the model and its decoder"
    opened = load.add_lora(
        model, r=2, alpha=4, dropout=0.0, targets=load.LINEAR, embeddings=mode, new_ids=range(rows, rows + 2),
        block=32, seed=1, gradient_checkpointing=False,
    )  # fmt: skip
    assert not any("_need_to_train_embeddings" in vars(part) for part in opened.modules())
    assert not any(w.requires_grad for w in load.embedding_weights(opened).values())


def test_the_loss_of_the_new_rows_goes_round_unsloth_s_fused_one() -> None:
    """`chunked_loss._forward` stops unsloth's forward before the head, whose rows would get no gradient from it."""
    forward = text("unsloth.models.llama", "CausalLM_fast_forward")
    hidden = forward.index("os.environ.get('UNSLOTH_RETURN_HIDDEN_STATES', '0') == '1'")
    assert hidden < forward.index("unsloth_fused_ce_loss(")
    assert "logits=hidden_states" in forward[hidden : hidden + 500]
    assert "lm_head = self.lm_head.weight" in forward, "the weight itself, past the head's forward"
    assert "os.environ.get('UNSLOTH_RETURN_LOGITS', '0') == '1'" in forward
    # the PEFT wrapper hands on what it does not know (counted), and calls what stands in the model's `forward`
    wrapper = text("unsloth.models.llama", "PeftModel_fast_forward")
    assert "self.base_model(" in wrapper and "**kwargs" in wrapper


def test_a_mask_of_ones_is_dropped_in_training_and_borders_are_read_from_one_row_alone() -> None:
    forward = text("unsloth.models.llama", "LlamaModel_fast_forward")
    assert "attention_mask = None" in forward and "_unsloth_keep_padding_mask" in forward
    assert "batch_size == 1" in forward and "get_packed_info_from_kwargs" in forward


def test_a_decoder_that_is_called_by_itself_looks_back_alone_under_xformers() -> None:
    """`initialise` reads hidden states past the model's own forward, which alone gives xformers its causal mask."""
    attend = text("unsloth.utils.attention_dispatch", "_run_attention")
    assert "base_mask = context.causal_mask" in attend
    assert "base_mask = xformers.attn_bias.LowerTriangularMask()" in attend


def test_borders_without_xformers_and_flash_attention_are_a_mask_over_the_whole_batch() -> None:
    """Why they are not told by default: a batch of 8 blocks in one row costs attention 8 times as much there."""
    assert "build_sdpa_packed_attention_mask(" in text("unsloth.utils.attention_dispatch", "_run_attention")


def test_a_collator_of_ours_turns_packing_and_padding_free_off() -> None:
    init = text("unsloth.trainer", "_patch_sft_trainer_auto_packing")
    assert "blocked = data_collator is not None" in init
    assert "setattr(config_arg, 'padding_free', False)" in init


def test_the_device_and_its_16_bit_type_are_exported() -> None:
    init = tree("unsloth._gpu_init")
    names = {
        alias.asname or alias.name
        for n in ast.walk(init)
        if isinstance(n, ast.ImportFrom)
        for alias in n.names
    }
    assert "DEVICE_TYPE_TORCH" in names and "*" in names, (
        "and `import *` of it hands on all names without __all__"
    )
    assert "__all__" not in {n.id for n in ast.walk(init) if isinstance(n, ast.Name)}
    models = {alias.name for n in ast.walk(tree("unsloth.models.__init__")) if isinstance(n, ast.ImportFrom)
              for alias in n.names}  # fmt: skip
    assert "is_bfloat16_supported" in models
