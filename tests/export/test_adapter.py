"""The PEFT folder, loaded by plain transformers and PEFT, is the checkpoint's model."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from fastvocab import files
from fastvocab.errors import CheckpointError
from fastvocab.export import adapter
from fastvocab.model import checkpoint, manifest

TEXT = "Мова є найважливішим засобом спілкування. The rules, 12 of them; \u0a85\u0aae 한글 مرحبا"


def _snippet(folder: Path) -> str:
    found = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


def _loaded(folder: Path, base: Path) -> tuple[Any, Any]:
    """(model, tokenizer) by the very lines of the README, in float32, with the base's place put in."""
    name = json.loads((folder / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"]
    code = _snippet(folder).replace('"."', repr(str(folder)))
    assert repr(name)[1:-1] == base.name
    code = code.replace(f'"{name}"', f'"{base}", dtype="float32"')
    scope: dict[str, Any] = {}
    exec(code, scope)  # the README's own lines
    return scope["model"], scope["tokenizer"]


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_plain_peft_gives_the_checkpoints_logits(
    kind: str, finished: Callable[[str], Path], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    source, base = finished(kind) / "40-pretrain", finished(kind).parents[1] / "base"
    with files.atomic_folder(tmp_path / "adapter") as folder:
        figures = adapter.write(folder, source)
    ours, tokenizer = checkpoint.load(source)
    loaded, again = _loaded(tmp_path / "adapter", base)
    assert not [w for w in recwarn if "missing adapter keys" in str(w.message)]
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    assert again(TEXT)["input_ids"] == ids[0].tolist() and int(ids.max()) >= 700, "with new tokens among them"
    with torch.inference_mode():
        wanted, found = ours(input_ids=ids).logits.float(), loaded.eval()(input_ids=ids).logits
        merged = loaded.merge_and_unload()(input_ids=ids).logits
    count = len(tokenizer)
    assert found.shape[-1] == count, "padded rows stay behind"
    torch.testing.assert_close(found, wanted[..., :count], atol=2e-5, rtol=0)
    torch.testing.assert_close(merged, wanted[..., :count], atol=2e-5, rtol=0)
    # and it is no copy of the base: without the adapter the same text has other logits
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.inference_mode():
        old = plain(input_ids=ids.clamp(max=699)).logits
    assert float((old - wanted[..., :700]).abs().max()) > 1e-2
    # each changed row once: PEFT's own save writes the whole matrices as well, for both names of a tied one
    assert figures["rows"] == (
        {"embed_tokens": 820} if kind == "tied" else {"embed_tokens": 120, "lm_head": 120}
    )
    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "pt") as tensors:
        others = [tensors.get_slice(name).get_shape() for name in tensors.keys() if "lora_" not in name]  # noqa: SIM118
    assert others == [[n, 64] for n in figures["rows"].values()]


def test_the_whole_folder_is_loaded_by_one_call_of_peft(
    finished: Callable[[str], Path], tmp_path: Path
) -> None:
    from peft import AutoPeftModelForCausalLM

    source, base = finished("tied") / "40-pretrain", finished("tied").parents[1] / "base"
    folder = tmp_path / "adapter"
    folder.mkdir()
    adapter.write(folder, source)
    settings = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    assert settings["modules_to_save"] is None, "vLLM refuses it"
    files.write_json(folder / "adapter_config.json", settings | {"base_model_name_or_path": str(base)})
    model = AutoPeftModelForCausalLM.from_pretrained(folder)
    assert model.get_input_embeddings().weight.shape[0] == checkpoint.read(source)["vocabulary"]["tokens"]


def test_nothing_of_the_machine_is_in_it(finished: Callable[[str], Path], tmp_path: Path) -> None:
    adapter.write(tmp_path, finished("tied") / "40-pretrain")
    for file in tmp_path.iterdir():
        if file.suffix != ".safetensors":
            assert str(finished("tied").parents[1]) not in file.read_text(encoding="utf-8"), file.name
    assert not {"fastvocab.json", "stage.json", "log.jsonl"} & {file.name for file in tmp_path.iterdir()}


def test_what_is_no_adapter_is_refused(finished: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="only its rows differ"):
        adapter.write(tmp_path, finished("tied") / "30-extend")
    own = shutil.copytree(finished("tied") / "40-pretrain", tmp_path / "own")
    found = manifest.peek(own)
    files.write_json(own / manifest.MANIFEST, found | {"layers": True})
    with pytest.raises(CheckpointError, match="their own weights") as refused:
        adapter.check(own)
    assert refused.value.fix and "--to hf" in refused.value.fix
