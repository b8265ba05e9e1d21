"""Padding that is never sampled, and a second language on top of the first."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fastvocab.errors import CheckpointError, ModelError
from fastvocab.model import checkpoint, generation, load, reference, text
from fastvocab.model import extend as extending
from fastvocab.model.extend import NewTokens, extend
from tests.conftest import make_llama

GEORGIAN = "ენა არის ადამიანთა ურთიერთობის უმნიშვნელოვანესი საშუალება და ყოველი ხალხი უფრთხილდება თავის ენას"


def georgian() -> list[str]:
    import random

    rng = random.Random(5)
    return [" ".join(rng.choices(GEORGIAN.split(), k=rng.randint(10, 30))) for _ in range(300)]


@pytest.mark.parametrize("kind", ["tied_llama", "untied_llama"])
def test_padding_rows_are_made_kept_and_never_sampled(kind: str, make, request, tmp_path: Path) -> None:
    made = make(request.getfixturevalue(kind), "new_rows", pad=64)
    vocabulary = checkpoint.read(made.extend)["vocabulary"]
    assert (vocabulary["tokens"], vocabulary["rows"]) == (800, 832)
    assert vocabulary["unused"] == [[800, 832]]
    model, tokenizer = checkpoint.load(made.pretrain)
    assert (
        model.get_input_embeddings().weight.shape[0] == model.get_output_embeddings().weight.shape[0] == 832
    )

    # a program that samples from all rows of the matrix. A real model: tests/end_to_end/test_smollm2.py
    ids = torch.randint(0, 800, (8, 64), generator=torch.Generator().manual_seed(9))
    with torch.inference_mode():
        share = torch.softmax(model(input_ids=ids).logits.double(), -1)[..., 800:]
    assert share.max() < 1 / 800

    # transformers, told by generation_config.json of the exported folder
    model.generation_config.suppress_tokens = [5]
    text.suppress_unused(model, tokenizer)
    assert model.generation_config.suppress_tokens == [5, *range(800, 832)]  # the base's own stay
    checkpoint.merge(made.pretrain, tmp_path)
    from transformers import AutoModelForCausalLM, GenerationConfig

    assert GenerationConfig.from_pretrained(tmp_path).suppress_tokens == list(range(800, 832))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():  # even where the rows say otherwise
        plain.get_output_embeddings().weight[800:] = 50 * plain.get_output_embeddings().weight[:800].mean(0)
    out = plain.generate(ids[:, :8], max_new_tokens=40, do_sample=True, temperature=3.0, pad_token_id=1)
    assert int(out.max()) < 800
    assert generation.generate(model, tokenizer, ["Мова"], max_new_tokens=5)


def test_a_second_language_stands_on_the_first_and_both_are_kept(make, tied_llama: Path) -> None:
    first = make(tied_llama)
    second = make(first.pretrain, "new_rows", texts=georgian(), script="Geor")
    manifest = checkpoint.read(second.pretrain)
    stop = manifest["vocabulary"]["rows"]
    assert [(e["first"], e["stop"]) for e in manifest["extensions"]] == [
        (700, 800),
        (800, stop),
    ] and stop > 850
    assert [entry["stage"] for entry in manifest["lineage"]] == ["extend", "pretrain", "extend"]
    assert manifest["lineage"][1]["checkpoint"] == checkpoint.digest(first.pretrain)
    assert manifest["base"]["fingerprint"] == reference.resolve(str(tied_llama)).fingerprint

    before, old = checkpoint.load(first.pretrain)
    zero, tokenizer = checkpoint.load(second.extend)
    after, _ = checkpoint.load(second.pretrain)
    line = "Мова народу and English"
    assert tokenizer(line).input_ids == old(line).input_ids
    assert len(tokenizer.tokenize(GEORGIAN)) < len(old.tokenize(GEORGIAN)) / 3
    ids = torch.tensor([old(line).input_ids])
    with torch.inference_mode():  # the first language and the adapter came along
        assert torch.equal(zero(input_ids=ids).logits[..., :800], before(input_ids=ids).logits)
    weights = [load.embedding_weights(m)["embed_tokens"] for m in (before, after)]
    assert torch.equal(weights[0][:800], weights[1][:800])  # new_rows: the second language's alone
    assert not torch.equal(load.embedding_weights(zero)["embed_tokens"][800:], weights[1][800:])


def test_the_first_checkpoint_may_go_once_the_second_is_made(make, tied_llama: Path, tmp_path: Path) -> None:
    first = make(tied_llama)
    copy = Path(shutil.copytree(first.extend, tmp_path / "first"))
    second = make(copy, texts=georgian(), script="Geor")
    shutil.rmtree(copy)
    model, _ = checkpoint.load(second.pretrain)
    assert len(model.get_input_embeddings().weight) == checkpoint.read(second.extend)["vocabulary"]["tokens"]


def test_a_run_folder_is_a_base_too(make, tied_llama: Path, tmp_path: Path) -> None:
    from fastvocab import files

    made = make(tied_llama)
    run = tmp_path / "run"
    shutil.copytree(made.pretrain, run / "40-pretrain")
    record = {"schema": 1, "stage": "pretrain", "outputs": [], "inputs": [], "figures": {}}
    files.write_json(run / "40-pretrain" / "stage.json", record)
    base = reference.resolve(str(run))
    assert base.checkpoint == run / "40-pretrain" and base.folder == tied_llama.resolve()
    assert base.config["vocab_size"] == 800


def test_a_tokenizer_made_for_another_base_is_refused(make, tied_llama: Path, tmp_path: Path) -> None:
    """Its rows would be laid over live ones."""
    made = make(tied_llama)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    grown = tmp_path / "grown"
    tokenizer = AutoTokenizer.from_pretrained(tied_llama)
    tokenizer.add_tokens([f"<{i}>" for i in range(30)])
    model = AutoModelForCausalLM.from_pretrained(tied_llama)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(grown)
    tokenizer.save_pretrained(grown)
    for base in (made.pretrain, grown):
        (tmp_path / "out").mkdir(exist_ok=True)
        with pytest.raises(ModelError, match="made for another base"):
            extend(tmp_path / "out", reference.resolve(str(base)), made.tokenizer, init="mean", seed=1)
        assert not any((tmp_path / "out").iterdir())


def test_a_head_of_its_own_beside_a_config_that_says_tied_is_kept(
    tied_llama: Path, make, tmp_path: Path
) -> None:
    """As some tools leave a merged model; transformers 5 loads the head, and so do we."""
    from safetensors.torch import save_file

    base = Path(shutil.copytree(tied_llama, tmp_path / "base"))
    tensors = load_file(base / "model.safetensors")
    tensors["lm_head.weight"] = 1.5 * tensors["model.embed_tokens.weight"]
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    out = tmp_path / "out"
    out.mkdir()
    extend(out, reference.resolve(str(base)), make(tied_llama).tokenizer, init="mean", seed=1)
    before, _ = load.base_model(reference.resolve(str(base)), load_in_4bit=False, block=64, seed=1)
    after, _ = checkpoint.load(out)
    assert not checkpoint.read(out)["tied"]
    ids = torch.arange(60)[None]
    with torch.inference_mode():
        assert torch.equal(after(input_ids=ids).logits[..., :700], before(input_ids=ids).logits)


@pytest.mark.parametrize("line", ["", "not json", "{}", '{"id": 700}', "[]"])
def test_a_list_of_new_tokens_that_is_none_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "new_tokens.jsonl").write_text(line)
    with pytest.raises(ModelError, match="no list of new tokens"):
        NewTokens.read(tmp_path)


def test_a_damaged_checkpoint_is_no_base(make, tied_llama: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(make(tied_llama).extend, tmp_path / "copy"))
    (copy / "rows.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"rows\.safetensors has 0 bytes"):
        reference.resolve(str(copy))


def test_rows_of_padding_are_saved_once(make, untied_llama: Path) -> None:
    tensors = load_file(make(untied_llama, "new_rows", pad=64).extend / "rows.safetensors")
    for part in ("embed_tokens", "lm_head"):
        assert tensors[f"{part}.index"].tolist() == list(range(700, 832))


def test_text_is_drawn_from_all_of_a_long_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extending, "TEXT_BYTES", 10_000)
    documents = [f"{number:05d}" for number in range(20_000)]
    found = [int(piece) for piece in extending._pieces(documents, 3)]
    assert len(found) == 2000 and found == sorted(set(found)), "a tenth, in order"
    assert 400 < sum(number < 5000 for number in found) < 600, "a quarter of it from the first quarter"
    assert found != [int(piece) for piece in extending._pieces(documents, 4)]
    assert extending._pieces(documents[:10], 3) == documents[:10]


def test_ranges_are_of_ids_without_a_token() -> None:
    assert text.ranges([3, 4, 5, 9]) == [[3, 6], [9, 10]] and text.ranges([]) == []


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bitsandbytes packs no layer narrower than 64, which the shared tiny models' keys and values are."""
    return make_llama(tmp_path_factory.mktemp("wide") / "base", width=256)


@pytest.mark.parametrize("mode", ["new_rows", "full"])
def test_a_4_bit_base_is_trained_saved_loaded_and_merged(mode: str, make, wide: Path, tmp_path: Path) -> None:
    made = make(wide, mode, load_in_4bit=True)
    facts = checkpoint.read(made.pretrain)
    model, _ = checkpoint.load(made.pretrain)
    layer = model.get_base_model().model.layers[0].mlp.up_proj.base_layer
    if type(layer).__name__ != "Linear4bit":
        assert not facts["load_in_4bit"]  # as recorded, where bitsandbytes does not run
        pytest.skip("bitsandbytes has no 4-bit kernels for this machine")
    assert facts["load_in_4bit"]
    trainable, _ = checkpoint.load(made.pretrain, trainable=True)
    assert bool(load.trained_rows(trainable)) == (mode == "new_rows")
    rows = load_file(made.pretrain / "rows.safetensors")["embed_tokens.index"]
    assert len(rows) == (100 if mode == "new_rows" else 800)
    assert checkpoint.merge(made.pretrain, tmp_path)["rows"] == 800
    full, _ = checkpoint.load(made.pretrain, load_in_4bit=False)
    assert type(full.get_base_model().model.layers[0].mlp.up_proj.base_layer) is torch.nn.Linear


def test_the_command_takes_every_method_and_the_text_that_it_reads(
    make, tied_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fastvocab import cli

    made = make(tied_llama)

    def extended(name: str, *more: str) -> int:
        words = ["--base", str(tied_llama), "--tokenizer", str(made.tokenizer), "--out", str(tmp_path / name)]
        with pytest.raises(SystemExit) as left:
            cli.main(["extend", *words, *more])
        return int(left.value.code or 0)

    text_ = ["--text", str(made.corpus / "train.jsonl"), "--original", str(made.corpus / "replay.jsonl")]
    given = {
        "a": ["--init", "calibrated", *text_],
        "b": ["--init", "clone:Ġthe", *text_],
        "c": text_,
        "d": [],
    }
    for name, init in (("a", "calibrated"), ("b", "clone:Ġthe"), ("c", "counted"), ("d", "subtokens")):
        assert extended(name, *given[name]) == 0
        assert checkpoint.read(tmp_path / name)["init"] == init
        said = capsys.readouterr().err
        assert f"700 -> 800 rows, started by {init}," in said
        assert ("init clone:Ġthe reads no text" in said) == (name == "b")
    for init, code, said in (
        ("magic", 2, "extend.init: 'magic'"), ("calibrated", 4, "reads text"), ("clone:Ġteh", 4, "Ġthe"),
        ("description", 2, "extend.descriptions=FILE"),
    ):  # fmt: skip
        assert extended("e", "--init", init) == code
        assert said in capsys.readouterr().err
        assert not (tmp_path / "e").exists()
