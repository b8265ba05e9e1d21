"""GGUF files: what is in them is the model, and the text that they read is the text that the model was trained on.

Weights are read back with transformers' own GGUF code, ids with llama.cpp's rule (`test_llama_cpp.py` holds that
against llama.cpp itself, where it is installed).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from fastvocab.config import load
from fastvocab.errors import ConfigError, ModelError, ResourceError
from fastvocab.export import gguf
from fastvocab.export.gguf import probe, readback, vocabulary
from fastvocab.export.gguf.llama_cpp import Reader
from fastvocab.recipes import given
from fastvocab.tokenizer import base as bases
from fastvocab.tokenizer.guard import Guard
from fastvocab.tokenizer.merge import assemble, grow
from fastvocab.tokenizer.pretokenizer import repair
from tests import texts
from tests.conftest import make_llama
from tests.export.gguf_models import FAMILIES, make_model
from tests.tokenizer.conftest import CHAT, make_byte_fallback, make_byte_level, package, words_of


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer folder of 700 tokens."""
    return make_llama(tmp_path_factory.mktemp("gguf") / "small")


@pytest.fixture(scope="module")
def written(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[Path, Path]]:
    """(folder, file) of a family in a precision, made once."""
    made: dict[tuple[str, str], tuple[Path, Path]] = {}

    def make(family: str, kind: str) -> tuple[Path, Path]:
        if (family, kind) not in made:
            folder = tmp_path_factory.mktemp(family)
            model = make_model(family, small, folder / "model")
            gguf.write(model, folder / "m.gguf", kind=kind)
            made[family, kind] = model, folder / "m.gguf"
        return made[family, kind]

    return make


def state(path: Path, model: Any) -> dict[str, Any]:
    """The weights of a file under the names of ``model``, by transformers' own code for GGUF."""
    import torch
    from gguf import GGUFReader, dequantize
    from transformers import modeling_gguf_pytorch_utils as theirs

    reader = GGUFReader(path)
    arch = reader.fields["general.architecture"].contents()
    # granite and smollm3 are laid out like llama, gemma like gemma2; transformers has no entry for them
    kind = {"granite": "llama", "smollm3": "llama", "gemma": "gemma2"}.get(arch, arch)
    processor = theirs.TENSOR_PROCESSORS.get(kind, theirs.TensorProcessor)(config=model.config.to_dict())
    names = theirs.get_gguf_hf_weights_map(model, processor, model_type=arch)
    found = {}
    for tensor in reader.tensors:
        values = processor.process(dequantize(tensor.data, tensor.tensor_type), tensor.name).weights
        if tensor.name in names:
            found[names[tensor.name]] = torch.from_numpy(np.array(values))
        else:
            assert tensor.name == "rope_freqs.weight"
    return found


def original(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_weights_of_each_family_come_back(written: Any, family: str) -> None:
    """bfloat16 in, bfloat16 out: every value is the same, and so is every logit."""
    import torch
    from transformers import AutoModelForCausalLM

    folder, path = written(family, "bf16")
    model = original(folder)
    back = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32).eval()
    found = state(path, back)
    missing = back.load_state_dict(found, strict=False).missing_keys
    back.tie_weights()
    assert (
        set(missing) <= {"lm_head.weight"}
        and ("lm_head.weight" in missing) <= model.config.tie_word_embeddings
    )
    # a norm less 1 is no multiple of its last bit any more where it was stored plus 1 (Gemma)
    near = 2**-20 if family.startswith("gemma") else 0.0
    for name, weight in model.state_dict().items():
        assert torch.allclose(back.state_dict()[name], weight, rtol=0, atol=near), name
    ids = torch.arange(5, 45)[None] * 13 % 700
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, back(ids).logits, rtol=0, atol=1e3 * near)


def test_half_precision_loses_only_what_it_cannot_say(written: Any) -> None:
    folder, path = written("llama", "f16")
    model = original(folder)
    for name, weight in state(path, model).items():  # 11 bits hold bfloat16's 8, down to the smallest: 2**-24
        assert float((model.state_dict()[name] - weight).abs().max()) <= 2**-25, name


def test_eight_bits_are_a_127th_of_the_largest_of_a_block_apart(written: Any) -> None:
    import torch
    from gguf import GGMLQuantizationType, GGUFReader

    folder, path = written("llama", "q8_0")
    model = original(folder)
    types = {tensor.name: tensor.tensor_type for tensor in GGUFReader(path).tensors}
    assert types["blk.0.attn_q.weight"] == types["token_embd.weight"] == GGMLQuantizationType.Q8_0
    assert types["blk.0.ffn_down.weight"] == GGMLQuantizationType.F16  # rows of 72, and blocks are of 32
    assert types["blk.0.attn_norm.weight"] == types["output_norm.weight"] == GGMLQuantizationType.F32
    for name, weight in state(path, model).items():
        true = model.state_dict()[name]
        if weight.ndim == 2 and weight.shape[1] % 32 == 0:
            size = true.reshape(-1, 32).abs().amax(1, keepdim=True)
            apart = (true - weight).reshape(-1, 32).abs()
            # half a step, and 127 times what the step's own 11 bits lose
            assert bool((apart <= size / 127 * (0.5 + 127 / 2048) + 1e-7).all()), name
    back = original(folder)
    back.load_state_dict(state(path, model), strict=False)
    ids = torch.arange(5, 45)[None] * 13 % 700
    with torch.no_grad():
        one, other = model(ids).logits, back(ids).logits
    assert 0 < float((one - other).std() / one.std()) < 0.03


def fields(path: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    return {name: field.contents() for name, field in GGUFReader(path).fields.items()}


def names(path: Path) -> set[str]:
    from gguf import GGUFReader

    return {tensor.name for tensor in GGUFReader(path).tensors}


def test_the_header_has_the_numbers_of_the_config(written: Any) -> None:
    folder, path = written("llama3", "bf16")
    config = json.loads((folder / "config.json").read_text())
    said = fields(path)
    assert said["general.architecture"] == "llama"
    assert said["llama.vocab_size"] == config["vocab_size"] == len(said["tokenizer.ggml.tokens"])
    assert (
        said["llama.attention.key_length"] == said["llama.rope.dimension_count"] == config["head_dim"] == 32
    )
    assert said["llama.attention.head_count_kv"] == config["num_key_value_heads"]
    assert said["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(config["rms_norm_eps"])
    assert said["llama.rope.freq_base"] == config["rope_parameters"]["rope_theta"] == 500_000
    assert said["llama.context_length"] == config["max_position_embeddings"]
    window = fields(written("gemma3_text", "bf16")[1])
    assert window["gemma3.attention.sliding_window"] == 16
    assert (window["gemma3.rope.freq_base"], window["gemma3.rope.freq_base_swa"]) == (1_000_000, 10_000)
    assert fields(written("granite", "bf16")[1])["granite.logit_scale"] == 8


def test_llama_3s_scaling_divides_the_frequencies_as_transformers_does(written: Any) -> None:
    from gguf import GGUFReader

    folder, path = written("llama3", "bf16")
    factors = next(t.data for t in GGUFReader(path).tensors if t.name == "rope_freqs.weight")
    plain = 500_000 ** (-np.arange(0, 32, 2) / 32)
    scaled = original(folder).model.rotary_emb.inv_freq.numpy()
    assert np.allclose(plain / factors, scaled, rtol=1e-6)
    assert (factors.min(), factors.max()) == (pytest.approx(1), pytest.approx(8))


def test_a_tied_head_is_left_out_but_where_llama_cpp_wants_one(written: Any) -> None:
    assert "output.weight" not in names(written("llama", "bf16")[1])
    assert "output.weight" in names(written("mistral", "bf16")[1])  # untied
    assert "output.weight" in names(
        written("olmo2", "bf16")[1]
    )  # tied, but its code has no way to do without


def test_rows_without_a_token_are_named_and_unused(small: Path, tmp_path: Path) -> None:
    model = make_llama(tmp_path / "model")
    spec = json.loads((model / "tokenizer.json").read_text())
    spec["model"]["vocab"]["[PAD702]"] = 700
    (model / "tokenizer.json").write_text(json.dumps(spec))
    _, found, _ = vocabulary.read(model, rows=705)
    assert found.tokens[700:] == ["[PAD702]", "[PAD701]", "[[PAD702]]", "[PAD703]", "[PAD704]"]
    assert found.types[700:] == [vocabulary.NORMAL] + [vocabulary.UNUSED] * 4
    assert len(set(found.tokens)) == len(found.tokens)
    with pytest.raises(ModelError, match="ids up to 700"):
        vocabulary.read(model, rows=690)


def extended(base: Path, out: Path, script: str, language: str, count: int = 150) -> Path:
    """A base with new tokens for a language, its regex repaired where it cuts words."""
    source = bases.read(base)
    words = words_of(texts.lines(language)[:800], script)
    repaired = repair(source, words)
    wanted = [word for word, _ in words.counts.most_common(4 * count)]
    merged = assemble(
        source, repaired.base, grow(repaired.base, wanted, limit=count, guard=Guard(words.scripts))
    )
    out.mkdir(parents=True)
    for file in base.iterdir():
        (out / file.name).write_bytes(file.read_bytes())
    (out / "tokenizer.json").write_text(json.dumps(merged.spec, ensure_ascii=False), encoding="utf-8")
    assert len(merged.tokens) == count
    return out


@pytest.mark.parametrize(
    ("kind", "script", "language", "pre"),
    [
        ("gpt2", "Cyrl", "uk", "gpt-2"),
        ("qwen", "Cyrl", "uk", "qwen2"),
        ("qwen", "Deva", "hi", "qwen35"),  # repaired: letters with their marks, as a later Qwen has them
    ],
)
def test_the_regex_that_the_tokenizer_has_is_found_by_its_ids(
    tmp_path: Path, kind: str, script: str, language: str, pre: str
) -> None:
    folder = extended(make_byte_level(tmp_path / "base", kind=kind), tmp_path / "new", script, language)
    figures = gguf.write(folder, tmp_path / "t.gguf", tokenizer_only=True)
    assert figures["pre"] == fields(tmp_path / "t.gguf")["tokenizer.ggml.pre"] == pre
    told = figures["probe"]["not_in_llama_cpp"]
    assert [one["rule"] for one in told] == ([probe.NORMALISER] if kind == "qwen" else [])  # Qwen has NFC
    assert figures["probe"]["equal"] + sum(one["lines"] for one in told) == figures["probe"]["lines"] > 2000
    assert figures["probe"]["transformers"]["equal"] == figures["probe"]["lines"]


def test_a_regex_that_llama_cpp_has_not_stops_the_export(tmp_path: Path) -> None:
    """GPT-2's, repaired for Hindi: nothing is written, and the message says where the ids part and what to do."""
    folder = extended(make_byte_level(tmp_path / "base"), tmp_path / "new", "Deva", "hi")
    for attempt in (
        lambda: gguf.check_before(folder),
        lambda: given.require_gguf(load(None, ["export.to=gguf"]), folder),
        lambda: gguf.write(folder, tmp_path / "out" / "t.gguf", tokenizer_only=True),
    ):
        with pytest.raises(ModelError) as caught:
            attempt()
        assert "no pre-tokenizer that cuts text as this tokenizer does" in caught.value.message
        assert "by tokenizer.json" in caught.value.message and "by llama.cpp" in caught.value.message
        assert "tokenizer.pretokenizer=keep" in str(caught.value.fix)
    assert not (tmp_path / "out").exists()
    given.require_gguf(load(None, []), folder)


def test_what_transformers_makes_of_a_file_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It knows no pre-tokenizer by name: a GPT-2's it nearly has, a Qwen's in a file of a llama it cuts otherwise."""
    other = {}
    for kind in ("gpt2", "qwen"):
        folder = make_byte_level(tmp_path / kind, kind=kind)
        found = gguf.write(folder, tmp_path / f"{kind}.gguf", tokenizer_only=True)["probe"]["transformers"]
        assert found["equal"] == found["lines"]
        other[kind] = found["lines"] - found["as_loaded"]
        said = " ".join(capsys.readouterr().err.split())
        assert (f": {other[kind]:,} of {found['lines']:,} probe texts get other ids there" in said) is (
            other[kind] > 0
        )
    assert other["qwen"] > 10 * other["gpt2"]
    probe.tell_of_transformers({"version": "5", "not_read": "KeyError: 'olmo2'"}, "a.gguf")
    assert "a.gguf: transformers 5 does not read such a file (KeyError: 'olmo2')" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_sentencepiece_base_without_its_file_gets_scores_from_its_merges(tmp_path: Path) -> None:
    base = make_byte_fallback(tmp_path / "base")
    folder = extended(base, tmp_path / "new", "Cyrl", "uk")
    figures = gguf.write(folder, tmp_path / "t.gguf", tokenizer_only=True)
    assert figures["probe"]["equal"] == figures["probe"]["lines"]
    said = fields(tmp_path / "t.gguf")
    assert (said["tokenizer.ggml.model"], said["tokenizer.ggml.add_space_prefix"]) == ("llama", False)
    assert said["tokenizer.ggml.add_bos_token"] is True and said["tokenizer.ggml.bos_token_id"] == 1
    assert said["tokenizer.ggml.token_type"][:4] == [2, 3, 3, 6]  # unknown, control, control, byte


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mistral's first SentencePiece tokenizer, 32,000 pieces, without a chat template."""
    folder = tmp_path_factory.mktemp("mistral")
    source = package("mistral_common") / "data" / "tokenizer.model.v1"
    (folder / "tokenizer.model").write_bytes(source.read_bytes())
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": True,
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"unk_token": "<unk>"}))
    return folder


def test_the_space_in_front_is_as_conversations_need_it(
    mistral: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SentencePiece puts a space before a text and none behind ``<s>``; llama.cpp does both or neither."""
    base, plain, none = vocabulary.read(mistral)
    lines = ["Привіт, світе!", " two  spaces", "नमस्ते", "<s>text", "</s> x"]
    assert plain.space_prefix and not none
    known = probe.compare(base, probe.settle(base, plain, lines, []), lines)
    assert [(one.rule, one.lines) for one in known] == [(probe.SPACE, 2)]
    chats = ["<s>[INST] Привіт [/INST]", "<s>[INST] A [/INST]B</s>[INST] C [/INST]"]
    settled = probe.settle(base, plain, lines, chats)
    assert not settled.space_prefix
    assert probe.compare(base, settled, chats) == []
    assert [(one.rule, one.lines) for one in probe.compare(base, settled, lines)] == [(probe.NO_SPACE, 3)]


def test_a_file_with_two_tokens_exchanged_is_found_out(mistral: Path, tmp_path: Path) -> None:
    for folder, spelt in ((mistral, ("▁he", "▁in")), (make_byte_level(tmp_path / "gpt2"), ("he", "in"))):
        base, found, _ = vocabulary.read(folder)
        found = probe.settle(base, found, ["abc def"], [])
        tokens = list(found.tokens)
        a, b = (found.tokens.index(token) for token in spelt)
        tokens[a], tokens[b] = tokens[b], tokens[a]
        with pytest.raises(ModelError, match="gives other ids on 1 of 2 probe texts, such as 'in'"):
            probe.compare(base, replace(found, tokens=tokens), ["123", "in"])


def test_differences_in_text_that_nobody_writes_are_counted_and_others_refused(tmp_path: Path) -> None:
    base, found, _ = vocabulary.read(make_byte_level(tmp_path / "gpt2"))
    found = replace(found, pre="qwen2")  # not its own
    theirs = Reader(found).encode_all(probe.odd_lines())
    ours = [base.tokenizer.encode(line, add_special_tokens=False).ids for line in probe.odd_lines()]
    line = next(line for line, a, b in zip(probe.odd_lines(), ours, theirs) if a != b)
    assert probe.compare(base, found, ["abc"], [line]) == [probe.Known(probe.MADE_UP, 1, line)]
    with pytest.raises(ModelError, match="other ids on 1 of 2 probe texts"):
        probe.compare(base, found, ["abc", line])


def test_a_full_disk_is_said_and_leaves_nothing(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from gguf import GGUFWriter

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(GGUFWriter, "write_tensor_data", full)
    with pytest.raises(ResourceError, match="No space left on device"):
        gguf.write(small, tmp_path / "m.gguf", kind="bf16")
    assert not list(tmp_path.iterdir())


def test_what_transformers_reads_out_of_a_wrong_file_is_compared_too(tmp_path: Path) -> None:
    import gguf as library

    folder = make_byte_level(tmp_path / "gpt2")
    base, found, _ = vocabulary.read(folder)
    found = replace(probe.settle(base, found, ["abc def"], []), merges=found.merges[1:])
    writer = library.GGUFWriter(tmp_path / "wrong.gguf", "llama")
    vocabulary.put(writer, found)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    first = "".join(base.merges[0]).replace("Ġ", " ")
    with pytest.raises(ModelError, match="transformers reads other tokens or merges"):
        readback.by_transformers(tmp_path / "wrong.gguf", base, [first])


def test_of_two_equal_merges_the_one_that_counts_is_written(tmp_path: Path) -> None:
    """In tokenizers the last one wins, in llama.cpp the first."""
    folder = make_byte_level(tmp_path / "gpt2")
    spec = json.loads((folder / "tokenizer.json").read_text())
    spec["model"]["merges"].append(spec["model"]["merges"][0])
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    line = "".join(spec["model"]["merges"][0]).replace("Ġ", " ")
    base, found, _ = vocabulary.read(folder)
    assert found.merges[-1] == tuple(spec["model"]["merges"][0]) and len(set(found.merges)) == len(
        found.merges
    )
    assert probe.compare(base, replace(found, pre="gpt-2"), [line, f"{line} other {line}s"]) == []


def test_added_tokens_and_the_template_are_in_the_file(tmp_path: Path) -> None:
    folder = make_byte_level(tmp_path / "qwen", kind="qwen")
    gguf.write(folder, tmp_path / "t.gguf", tokenizer_only=True)
    said = fields(tmp_path / "t.gguf")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    types = dict(zip(said["tokenizer.ggml.tokens"], said["tokenizer.ggml.token_type"]))
    assert (types["<|im_end|>"], types["<think>"], types["he"]) == (3, 4, 1)
    assert said["tokenizer.ggml.eos_token_id"] == tokenizer.token_to_id("<|im_end|>")
    assert said["tokenizer.chat_template"] == CHAT
    assert said["tokenizer.ggml.add_bos_token"] is False


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "gpt2"}, "supported are llama, mistral, qwen2"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "rope_type 'dynamic'",
        ),
    ],
)
def test_what_the_file_could_not_say_is_refused_at_once(
    small: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    config = json.loads((small / "config.json").read_text()) | change
    with pytest.raises(ModelError) as caught:
        gguf.check_before(small, config=config)
    assert said in str(caught.value)


def test_a_model_that_is_known_passes_before_it_is_merged(small: Path) -> None:
    assert gguf.check_before(small) == {"architecture": "llama", "pre": "gpt-2"}


def test_bad_requests_and_weights_leave_nothing_behind(small: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    out = tmp_path / "m.gguf"
    with pytest.raises(ConfigError, match="q4_k"):
        gguf.write(small, out, kind="q4_k")
    weights = load_file(small / "model.safetensors")
    for number, (change, kind, said) in enumerate(
        (
            ({"model.norm.weight": torch.tensor([float("nan")]).repeat(64)}, "bf16", "not finite"),
            (
                {"model.layers.0.mlp.up_proj.weight": torch.full((128, 64), 1e5)},
                "f16",
                "choose bf16 instead of f16",
            ),
            ({"base_model.model.lora_A.weight": torch.zeros(2, 64)}, "f16", "have no place"),
            (
                {"model.layers.0.mlp.up_proj.weight": torch.zeros(128, 64, dtype=torch.int8)},
                "f16",
                "torch.int8",
            ),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_bytes((small / name).read_bytes())
        save_file(weights | change, folder / "model.safetensors")
        with pytest.raises(ModelError) as caught:
            gguf.write(folder, out, kind=kind)
        assert said in str(caught.value)
        assert not any("gguf" in path.name for path in tmp_path.iterdir())
    out.write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        gguf.write(small, out)
    assert out.read_text() == "mine"
