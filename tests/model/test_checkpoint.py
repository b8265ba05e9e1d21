"""Checkpoints rebuild themselves from a path; what is damaged or foreign is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fastvocab import cli, sealed
from fastvocab.errors import CheckpointError, ConfigError
from fastvocab.model import checkpoint, load, manifest, probe, reference
from tests.conftest import make_llama

KINDS = ["tied_llama", "untied_llama", "padded_llama"]

_RELOAD = """
import sys, torch
from fastvocab.model import checkpoint
for folder in sys.argv[2:]:
    model, tokenizer = checkpoint.load(folder)
    ids = torch.arange(0, 60)[None] * 7 % len(tokenizer)
    with torch.inference_mode():
        torch.save(model(input_ids=ids).logits, f"{sys.argv[1]}/{folder.replace('/', '_')}")
"""


def test_a_fresh_process_gives_the_same_logits(make, request, tmp_path: Path) -> None:
    made = [make(request.getfixturevalue(kind)) for kind in KINDS]
    folders = [str(folder) for one in made for folder in (one.extend, one.pretrain)]
    # one process for all: importing unsloth takes 12 s
    subprocess.run([sys.executable, "-c", _RELOAD, str(tmp_path), *folders], check=True, timeout=300)
    for folder in folders:
        model, tokenizer = checkpoint.load(folder)
        ids = torch.arange(0, 60)[None] * 7 % len(tokenizer)
        with torch.inference_mode():
            here = model(input_ids=ids).logits
        there = torch.load(tmp_path / folder.replace("/", "_"), weights_only=True)
        assert torch.equal(here, there), folder


@pytest.mark.parametrize("kind", KINDS)
def test_the_probe_was_taken_from_the_live_model_and_is_met_bit_by_bit(kind: str, make, request) -> None:
    folder = make(request.getfixturevalue(kind)).pretrain
    saved = checkpoint.read(folder)["probe"]
    model, _ = checkpoint.load(folder)
    assert probe.take(model, saved["ids"])["sha256"] == saved["sha256"]
    trainable, _ = checkpoint.load(folder, trainable=True)
    assert probe.take(trainable, saved["ids"])["sha256"] == saved["sha256"]


@pytest.mark.parametrize(
    ("kind", "parts"), [("tied_llama", {"embed_tokens"}), ("untied_llama", {"embed_tokens", "lm_head"})]
)
def test_each_changed_row_is_saved_once_and_the_base_never(kind: str, parts: set[str], make, request) -> None:
    made = make(request.getfixturevalue(kind))
    for folder in (made.extend, made.pretrain):
        tensors = load_file(folder / "rows.safetensors")
        assert {name.split(".")[0] for name in tensors} == parts
        names = {p.name for p in folder.iterdir()}
        assert "model.safetensors" not in names and not any(n.endswith((".bin", ".pt")) for n in names)
    new = checkpoint.read(made.extend)["vocabulary"]
    for part in parts:
        index = load_file(made.extend / "rows.safetensors")[f"{part}.index"]
        assert index.tolist() == list(range(new["new_first"], new["new_stop"]))
    adapter = load_file(made.pretrain / "adapter_model.safetensors")
    assert adapter and all("lora_" in name for name in adapter)


def test_the_adapter_is_plain_peft_on_the_extended_base(make, tied_llama: Path) -> None:
    from peft import PeftModel

    made = make(tied_llama)
    ours, _ = checkpoint.load(made.pretrain)
    base, _ = checkpoint.load(made.extend)
    with torch.no_grad():
        base.get_input_embeddings().weight.copy_(ours.get_input_embeddings().weight)
    theirs = PeftModel.from_pretrained(base, made.pretrain).eval()
    ids = torch.arange(0, 40)[None]
    with torch.inference_mode():
        assert torch.equal(theirs(input_ids=ids).logits, ours(input_ids=ids).logits)


def test_new_rows_leave_the_old_ones_bit_by_bit(make, untied_llama: Path) -> None:
    made = make(untied_llama, "new_rows")
    before, _ = checkpoint.load(made.extend)
    after, _ = checkpoint.load(made.pretrain)
    first = checkpoint.read(made.pretrain)["vocabulary"]["new_first"]
    for getter in ("get_input_embeddings", "get_output_embeddings"):
        old, new = getattr(before, getter)().weight, getattr(after, getter)().weight
        assert torch.equal(old[:first], new[:first])
        assert not torch.equal(old[first:], new[first:])


def test_frozen_embeddings_stay_and_full_ones_move(make, tied_llama: Path) -> None:
    weights = {}
    for mode in ("frozen", "full"):
        made = make(tied_llama, mode)
        before, _ = checkpoint.load(made.extend)
        after, _ = checkpoint.load(made.pretrain)
        weights[mode] = (before.get_input_embeddings().weight, after.get_input_embeddings().weight)
    assert torch.equal(*weights["frozen"])
    first = 700
    assert not torch.equal(weights["full"][0][:first], weights["full"][1][:first])


@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_folder_opens_in_plain_transformers_with_the_same_words(
    kind: str, make, request, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = make(request.getfixturevalue(kind))
    figures = checkpoint.merge(made.pretrain, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ours, our_tokenizer = checkpoint.load(made.pretrain)
    text = "Мова народу <s> and English"
    assert tokenizer(text).input_ids == our_tokenizer(text).input_ids
    ids = torch.tensor([our_tokenizer(text).input_ids])
    with torch.inference_mode():
        a, b = model(input_ids=ids).logits, ours(input_ids=ids).logits
    # both matrices and the adapter in 16-bit: a bound from the format, 8 bits of mantissa through two layers
    assert (a - b).abs().max() <= 0.02 * b.abs().max()
    assert figures["rows"] == model.get_input_embeddings().weight.shape[0] == ours.config.vocab_size
    head, embed = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    assert (head.data_ptr() == embed.data_ptr()) == (kind != "untied_llama")


def test_a_padded_base_keeps_its_rows_and_uses_the_spare_ones(make, padded_llama: Path) -> None:
    vocabulary = checkpoint.read(make(padded_llama).extend)["vocabulary"]
    assert vocabulary["new_first"] == 700
    assert vocabulary["rows"] == vocabulary["tokens"] == 800


DAMAGES = ["truncate", "flip", "delete", "manifest", "swap", "edit"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_with_the_file_s_name(
    damage: str, make, tied_llama: Path, tmp_path: Path
) -> None:
    made = make(tied_llama)
    folder = tmp_path / "copy"
    shutil.copytree(made.pretrain, folder)
    victim = folder / "rows.safetensors"
    raw = bytearray(victim.read_bytes())
    if damage == "truncate":
        victim.write_bytes(raw[:-10])
    elif damage == "flip":
        raw[-100] ^= 4
        victim.write_bytes(raw)
    elif damage == "delete":
        victim.unlink()
    elif damage == "swap":
        shutil.copy(made.extend / "rows.safetensors", victim)
    elif damage == "manifest":
        (folder / "fastvocab.json").write_text('{"schema": 1')
    else:
        facts = json.loads((folder / "fastvocab.json").read_text())
        facts["lora"]["alpha"] *= 2
        (folder / "fastvocab.json").write_text(json.dumps(facts))
    expected = {"manifest": "fastvocab.json", "edit": "manifest_sha256 differs"}.get(
        damage, "rows.safetensors"
    )
    with pytest.raises(CheckpointError, match=expected.replace(".", r"\.")):
        checkpoint.load(folder)


def test_other_logits_than_the_saved_ones_are_refused_with_the_figure(
    make, tied_llama: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(make(tied_llama).extend, folder)
    facts = json.loads((folder / "fastvocab.json").read_text())
    facts["probe"]["logits"][0][0] += 1.0
    facts["probe"]["sha256"] = "0" * 64
    manifest.write(
        folder, {k: v for k, v in facts.items() if k not in ("schema", "files", "manifest_sha256")}
    )
    with pytest.raises(CheckpointError, match="logits differ by 1 "):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    "name", ["added_tokens.json", "chat_template.jinja", "adapter_model.bin", "config.json"]
)
def test_a_planted_file_that_a_loader_would_read_is_refused(
    name: str, make, tied_llama: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(make(tied_llama).pretrain, folder)
    (folder / name).write_text("{}")
    if name == "chat_template.jinja":  # the tiny base has one: a changed one is as bad
        name += " has"
    with pytest.raises(CheckpointError, match=name):
        checkpoint.load(folder)


def test_a_planted_folder_of_chat_templates_is_refused(make, tied_llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(make(tied_llama).pretrain, tmp_path / "copy"))
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "evil.jinja").write_text("{{ messages }}")
    with pytest.raises(CheckpointError, match=r"additional_chat_templates/evil\.jinja is there"):
        checkpoint.load(folder)


#: What an edit by hand, or another program, may leave; sealed, as by one who knows how.
ODD = {
    "vocabulary": [{}, None, {"rows": "820"}], "base": [{}, {"name": None}], "extensions": [[], ["a"]],
    "probe": [{}, {"ids": []}], "lineage": [["x"], 3], "rows": [{"embed_tokens": "x"}], "schema": ["1", None],
    "embeddings": ["nope"], "dtype": ["nope"], "lora": [{}, {"r": 0}], "files": [[], [{"path": 1}], 7], "tied": [1],
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in ODD.items() for v in values])
def test_a_manifest_of_odd_values_is_refused_and_inspected_without_a_traceback(
    field: str, value: object, make, tied_llama: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(make(tied_llama).pretrain, tmp_path / "copy"))
    facts = json.loads((folder / "fastvocab.json").read_text())
    whole = {**facts[field], **value} if isinstance(value, dict) and value and facts[field] else value
    (folder / "fastvocab.json").write_text(
        json.dumps(sealed.seal({**facts, field: whole}, "manifest_sha256"))
    )
    with pytest.raises(CheckpointError, match=r"fastvocab\.json"):
        checkpoint.read(folder)
    if field != "schema":
        assert any(
            field in fault or "fastvocab.json" in fault for fault in checkpoint.inspect(folder)["faults"]
        )
    arguments = ["inspect", str(folder)]
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 5


def test_a_merge_into_a_folder_that_is_there_is_refused(make, tied_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is there already"):
        checkpoint.merge(make(tied_llama).pretrain, str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["adapter_config.json"]


def test_what_is_to_train_is_said_or_has_defaults(make, tied_llama: Path) -> None:
    zero = make(tied_llama).extend
    model, _ = checkpoint.load(zero, trainable=True, embeddings="new_rows")
    assert {n.rpartition(".")[2] for n, p in model.named_parameters() if p.requires_grad} == {
        "weight",
        "new_rows",
    }
    assert model.peft_config["default"].r == 32
    with pytest.raises(ConfigError, match="newrows"):
        checkpoint.load(zero, trainable=True, embeddings="newrows")  # type: ignore[arg-type]


def test_another_base_in_the_same_place_is_refused_with_both_fingerprints(
    make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a machine that has no other copy of it to go by
    monkeypatch.setenv("FASTVOCAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(reference, "_SEEN", {})
    base = make_llama(tmp_path / "base")
    made = make(base)
    old = reference.resolve(str(base)).fingerprint
    make_llama(base, seed=1)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(made.extend)
    assert old[:16] in str(caught.value) and reference.resolve(str(base)).fingerprint[:16] in str(
        caught.value
    )


def test_a_newer_schema_is_refused(make, tied_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(make(tied_llama).extend, folder)
    facts = json.loads((folder / "fastvocab.json").read_text())
    (folder / "fastvocab.json").write_text(json.dumps({**facts, "schema": 2}))
    with pytest.raises(CheckpointError, match="schema 2"):
        checkpoint.load(folder)


def test_a_file_name_that_leads_out_of_the_folder_is_refused(make, tied_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(make(tied_llama).extend, folder)
    facts = json.loads((folder / "fastvocab.json").read_text())
    facts["files"].append({"path": "../../etc/passwd", "bytes": 1, "sha256": ""})
    (folder / "fastvocab.json").write_text(json.dumps(facts))
    with pytest.raises(CheckpointError, match="leads out"):
        checkpoint.load(folder)


def test_the_lineage_names_the_checkpoint_before(make, tied_llama: Path) -> None:
    made = make(tied_llama)
    lineage = checkpoint.read(made.pretrain)["lineage"]
    assert [entry["stage"] for entry in lineage] == ["extend"]
    assert lineage[0]["checkpoint"] == checkpoint.digest(made.extend)


def test_a_tied_model_trains_one_matrix(make, tied_llama: Path) -> None:
    model, _ = checkpoint.load(make(tied_llama).pretrain, trainable=True)
    assert set(load.embedding_weights(model)) == {"embed_tokens"}
    head = load.live(model.get_output_embeddings())
    assert head is load.live(model.get_input_embeddings())
    assert sum("modules_to_save" in name for name, _ in model.named_parameters()) == 1
