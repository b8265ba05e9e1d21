"""What a model says: as it is made, measured, and from whatever holds a model."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastvocab.errors import CheckpointError, ConfigError, FastvocabError, ModelError
from fastvocab.model import generation, side_by_side, speaking
from fastvocab.model import open as opening
from fastvocab.model.speaking import Manner, Stream
from tests.conftest import make_llama

#: Combining marks, no spaces, right to left, Hangul, four bytes a character, and several of them in one line.
TEXTS = [
    "Мова є найважливішим засобом спілкування.",
    "भाषा मनुष्य के विचारों को व्यक्त करने का साधन है।",
    "ภาษาเป็นเครื่องมือในการสื่อสาร",
    "ភាសាគឺជាមធ្យោបាយទំនាក់ទំនង",
    "اللغة وسيلة للتواصل بين الناس، والكتابة",
    "언어는 사람들 사이의 의사소통 수단이다.",
    "语言是人类最重要的交际工具。 言葉",
    "ენა არის ურთიერთობის საშუალება",
    "𒀀𒁀 🙂 👩‍👩‍👧 🇺🇦 — naïve café, Ω",
    "  two spaces,\n\nlines\tand tabs  ",
]


def tokenizer(folder: Path) -> Any:
    from fastvocab.model import text

    return text.tokenizer(folder)


@pytest.fixture(scope="module", params=["byte-level", "sentencepiece"])
def tok(request: pytest.FixtureRequest, tied_llama: Path, mistral_like: Path) -> Any:
    """Both spell what they do not know in bytes: a token is then a part of a character."""
    return tokenizer(tied_llama if request.param == "byte-level" else mistral_like)


def streamed(tok: Any, ids: list[int], *, end: bool = True) -> list[str]:
    import torch

    pieces: list[str] = []
    stream = Stream(tok, set(), set(), pieces.append)
    stream.put(torch.tensor([[1, 2, 3]]))  # the prompt, which transformers puts first
    for token in ids:
        stream.put(torch.tensor([token]))
    if end:
        stream.end()
    assert "".join(pieces) == stream.text and stream.count == len(ids)
    return pieces


@pytest.mark.parametrize("line", TEXTS)
def test_no_part_of_a_character_is_shown_and_nothing_is_lost(tok: Any, line: str) -> None:
    ids = tok(line, add_special_tokens=False)["input_ids"]
    pieces = streamed(tok, ids)
    assert "".join(pieces) == tok.decode(ids, clean_up_tokenization_spaces=False)
    assert not [piece for piece in pieces if "\N{REPLACEMENT CHARACTER}" in piece]
    # nothing waits for a space: each whole character is there as soon as its last byte is
    for count in range(1, len(ids) + 1):
        whole = tok.decode(ids[:count], clean_up_tokenization_spaces=False).rstrip(
            "\N{REPLACEMENT CHARACTER}"
        )
        shown = "".join(streamed(tok, ids[:count], end=False))
        # but for a space that shares its token with the first byte of a character; and where a byte is added to whole
        # characters in bytes, SentencePiece shows none of them any more: what was shown stays
        assert "".join(pieces).startswith(shown) and len(shown.rstrip(" ")) >= len(whole.rstrip(" "))


def test_what_it_shows_in_the_end_is_what_transformers_own_streamer_shows(
    tok: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from transformers import TextStreamer

    ids = tok(" ".join(TEXTS), add_special_tokens=False)["input_ids"]
    own = TextStreamer(tok, skip_prompt=True, clean_up_tokenization_spaces=False)
    own.put(torch.tensor([[0]]))
    for token in ids:
        own.put(torch.tensor([token]))
    own.end()
    assert capsys.readouterr().out == "".join(streamed(tok, ids)) + "\n"


@settings(max_examples=60, deadline=None)
@given(ids=st.lists(st.integers(2, 690), max_size=12))
def test_of_any_tokens_whatever_all_is_shown_in_the_end(tied_llama: Path, ids: list[int]) -> None:
    tok = tokenizer(tied_llama)
    assert "".join(streamed(tok, ids)) == tok.decode(ids, clean_up_tokenization_spaces=False)


def test_a_character_that_never_gets_whole_is_marked_at_the_end(tied_llama: Path) -> None:
    tok = tokenizer(tied_llama)
    ids = tok("мо", add_special_tokens=False)["input_ids"][:3]
    assert len(ids) == 3 and streamed(tok, ids) == ["м", "\N{REPLACEMENT CHARACTER}"]


def test_tokens_that_are_not_said_are_neither_shown_nor_counted(tied_llama: Path) -> None:
    import torch

    tok = tokenizer(tied_llama)
    stream = Stream(tok, {0, 1}, {1})
    stream.put(torch.tensor([[5]]))
    for token in [0, *tok("Hello", add_special_tokens=False)["input_ids"], 1]:
        stream.put(torch.tensor([token]))
    assert stream.text == "Hello" and stream.ended and stream.count == len(tok.tokenize("Hello"))


@pytest.fixture(scope="module")
def opened(tied_llama: Path) -> opening.Opened:
    return opening.model(tied_llama)


def test_a_reply_is_what_plain_transformers_generates(opened: opening.Opened, tied_llama: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    tok, pieces = opened.tokenizer, []
    ids = speaking.ids_of(opened, "What is a language?", Manner())
    found = speaking.reply(opened, ids, Manner(tokens=12), prompt="What is a language?", show=pieces.append)
    plain = AutoModelForCausalLM.from_pretrained(tied_llama, dtype=opened.model.dtype)
    shown = tok.apply_chat_template(
        [{"role": "user", "content": "What is a language?"}], tokenize=False, add_generation_prompt=True
    )
    given_ids = tok(shown, return_tensors="pt", add_special_tokens=False)["input_ids"]
    wanted = plain.generate(
        given_ids, max_new_tokens=12, do_sample=False, attention_mask=torch.ones_like(given_ids)
    )
    new = wanted[0, given_ids.shape[1] :].tolist()
    assert found.text == tok.decode([i for i in new if i not in tok.all_special_ids]) == "".join(pieces)
    assert found.prompt_tokens == given_ids.shape[1] and found.tokens == len([i for i in new if i > 1])
    assert found.finished == (1 in new)


def test_figures_of_a_reply_agree_with_each_other(opened: opening.Opened) -> None:
    ids = speaking.ids_of(opened, "Мова", Manner(raw=True))
    found = speaking.reply(opened, ids, Manner(tokens=9, raw=True), prompt="Мова").as_json()
    assert found["tokens"] == 9 and found["characters"] == len(found["text"]) and not found["finished"]
    assert 0 < found["seconds_to_first"] < found["seconds"]
    rate = 8 / (found["seconds"] - found["seconds_to_first"])
    # both times are rounded to milliseconds, of which such a model takes few a token
    assert found["tokens_per_second"] == pytest.approx(rate, rel=0.5)
    assert found["characters_per_second"] * 9 == pytest.approx(
        found["tokens_per_second"] * found["characters"], rel=0.01
    )
    one = speaking.reply(opened, ids, Manner(tokens=1, raw=True))
    assert one.tokens_per_second is None and "tokens/s" not in one.line()


def test_what_is_drawn_is_drawn_again_from_its_seed(opened: opening.Opened) -> None:
    ids = speaking.ids_of(opened, "A", Manner())
    texts = [
        speaking.reply(opened, ids, Manner(tokens=8, temperature=2.0, top_p=0.9, seed=seed)).text
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]
    # so little probability that only the likeliest token is left of each step
    narrow = speaking.reply(opened, ids, Manner(tokens=8, temperature=2.0, top_p=0.001, seed=1)).text
    assert narrow == speaking.reply(opened, ids, Manner(tokens=8)).text


def test_a_reply_that_is_stopped_keeps_what_was_said(opened: opening.Opened) -> None:
    pieces: list[str] = []

    def show(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 3:
            raise KeyboardInterrupt  # where Ctrl-C would come, between two tokens

    found = speaking.reply(opened, speaking.ids_of(opened, "A", Manner()), Manner(tokens=50), show=show)
    assert (
        found.interrupted
        and not found.finished
        and found.text == "".join(pieces)
        and "stopped" in found.line()
    )


def test_a_prompt_beyond_the_context_is_refused_and_a_reply_ends_at_it(opened: opening.Opened) -> None:
    assert opened.context == 256
    with pytest.raises(ConfigError, match="the prompt has 256 tokens"):
        speaking.reply(opened, [5] * 256, Manner())
    assert speaking.reply(opened, [5] * 250, Manner(tokens=50)).tokens <= 6


def test_a_base_without_a_chat_template_is_told_to_continue_texts(tied_llama: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tied_llama, base)
    (base / "chat_template.jinja").unlink()
    opened = opening.model(base)
    with pytest.raises(ConfigError, match="--raw continues the text") as said:
        speaking.ids_of(opened, "Hello", Manner())
    assert "base has no chat template" in str(said.value)
    ids = speaking.ids_of(opened, "Hello", Manner(raw=True))
    assert opened.tokenizer.decode(ids) == "<s>Hello"


def test_a_template_that_knows_no_system_says_so(opened: opening.Opened) -> None:
    before = opened.tokenizer.chat_template
    opened.tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + before
    )
    try:
        with pytest.raises(ConfigError, match="System role not supported"):
            speaking.ids_of(opened, "Hello", Manner(system="Be short."))
        assert speaking.ids_of(opened, "Hello", Manner())
    finally:
        opened.tokenizer.chat_template = before
    assert "Be short." in opened.tokenizer.decode(
        speaking.ids_of(opened, "Hello", Manner(system="Be short."))
    )


# What is opened


def code_beside(folder: Path, trap: Path) -> None:
    """Code that a loader could be led to run: a module named by auto_map, and pickled weights."""
    line = f"open({str(trap)!r}, 'w').close()\n"
    (folder / "modeling_own.py").write_text(line)
    (folder / "tokenization_own.py").write_text(line)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_own.Own", "AutoTokenizer": "tokenization_own.Own"}
    (folder / "config.json").write_text(json.dumps(config))

    class Bomb:
        def __reduce__(self) -> Any:
            return (exec, (line,))

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))


def test_no_code_beside_a_model_is_run(tied_llama: Path, tmp_path: Path) -> None:
    folder, trap = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(tied_llama, folder)
    code_beside(folder, trap)
    assert opening.model(folder).kind == "huggingface" and not trap.exists()
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="pickled weights can run code") as said:
        opening.model(folder)
    assert not trap.exists() and "model.base" not in str(said.value)


def test_a_damaged_folder_is_a_user_error(tied_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tied_llama, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="could not be loaded"):
        opening.model(folder)


def test_what_is_none_of_it_is_told_what_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter" / "config.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.gguf").write_bytes(b"GGUF")
    (tmp_path / "notes.txt").write_text("notes")
    for name, expected in {
        "adapter": "fastvocab adopt",
        "empty": "holds no checkpoint",
        "emty": "did you mean",
        "files": "a.gguf",
        "notes.txt": "is a file",
    }.items():
        with pytest.raises(CheckpointError, match=expected) as said:
            opening.kind(tmp_path / name)
        assert "a run, a checkpoint, a plain Hugging Face folder" in str(said.value)


# GGUF


def write_gguf(file: Path, folder: Path, *, eos: int) -> None:
    """A tiny Llama as llama.cpp's own converter lays it out, in 32 bits, with a wrong end token in its settings."""
    import gguf
    from transformers import AutoModelForCausalLM

    tok, model = tokenizer(folder), AutoModelForCausalLM.from_pretrained(folder)
    config, inner = model.config, json.loads(tok.backend_tokenizer.to_str())["model"]
    out = gguf.GGUFWriter(str(file), "llama")
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    out.add_vocab_size(config.vocab_size)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    by_id = sorted(tok.get_vocab(), key=tok.get_vocab().__getitem__)
    out.add_token_list(by_id)
    out.add_token_types([3 if token in tok.all_special_tokens else 1 for token in by_id])
    out.add_token_merges([" ".join(pair) for pair in inner["merges"]])
    out.add_bos_token_id(0)
    out.add_eos_token_id(eos)
    out.add_chat_template(tok.chat_template)
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    for name, weight in model.state_dict().items():
        data = weight.numpy()
        if name.startswith("model.layers."):
            _, _, number, *rest, _ = name.split(".")
            part = ".".join(rest)
            if part in (
                "self_attn.q_proj",
                "self_attn.k_proj",
            ):  # llama.cpp pairs neighbours in its rotations
                heads = config.num_attention_heads if part.endswith("q_proj") else config.num_key_value_heads
                data = data.reshape(heads, 2, -1, data.shape[1]).swapaxes(1, 2).reshape(data.shape)
            out.add_tensor(f"blk.{number}.{names[part]}.weight", data.copy())
        elif name == "model.embed_tokens.weight":
            out.add_tensor("token_embd.weight", data)
        elif name == "model.norm.weight":
            out.add_tensor("output_norm.weight", data)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


@pytest.fixture(scope="module")
def gguf_file(tied_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(file, tied_llama, eos=0)
    return file


def test_a_gguf_file_says_what_its_folder_says(gguf_file: Path, opened: opening.Opened) -> None:
    found = opening.model(gguf_file)
    assert found.kind == "gguf" and found.context == 256 and found.name == "tiny.gguf"
    for line in TEXTS:
        ids = speaking.ids_of(opened, line, Manner())
        assert speaking.ids_of(found, line, Manner()) == ids
        assert (
            speaking.reply(found, ids, Manner(tokens=4)).text
            == speaking.reply(opened, ids, Manner(tokens=4)).text
        )
    # the file calls the beginning of a turn its end; what the template writes after a reply ends one all the same
    assert (
        found.tokenizer.eos_token_id == 0
        and speaking.stops(found) == {0, 1}
        and speaking.stops(opened) == {1}
    )


def test_a_gguf_file_cuts_text_as_it_says(tied_llama: Path, tmp_path: Path) -> None:
    """Numbers in threes, signs before letters, as Llama 3 does; transformers' own loader takes GPT-2's way."""
    from tokenizers import Tokenizer, trainers
    from transformers import AutoTokenizer

    from fastvocab.export import gguf
    from fastvocab.llama_cpp import KNOWN

    folder = tmp_path / "model"
    shutil.copytree(tied_llama, folder)
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.pre_tokenizer, own.model.ignore_merges = KNOWN["llama-bpe"].step, True
    lines = [f"{n * 7919} ({n}x) WE'RE.go/{n}\n\n  end" for n in range(400)]
    alphabet = [token for token in own.get_vocab() if len(token) == 1]
    own.train_from_iterator(
        lines,
        trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=alphabet,
            max_token_length=4,
            show_progress=False,
        ),
    )
    own.save(str(folder / "tokenizer.json"))
    gguf.write(folder, tmp_path / "a.gguf", kind="f16")
    found = opening.model(tmp_path / "a.gguf").tokenizer
    plain = AutoTokenizer.from_pretrained(tmp_path, gguf_file="a.gguf")
    lines += TEXTS
    ours = [encoding.ids for encoding in own.encode_batch(lines)]
    assert [found(line, add_special_tokens=False).input_ids for line in lines] == ours
    assert [plain(line, add_special_tokens=False).input_ids for line in lines] != ours


def test_what_lies_beside_a_gguf_file_is_not_read(gguf_file: Path, tied_llama: Path, tmp_path: Path) -> None:
    folder, trap = tmp_path / "both", tmp_path / "ran"
    shutil.copytree(tied_llama, folder)
    code_beside(folder, trap)
    (folder / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "base_model_name_or_path": "nobody/nothing"}'
    )
    (folder / "tokenizer_config.json").write_text('{"eos_token": "the", "tokenizer_class": "Own"}')
    shutil.copy(gguf_file, folder / "tiny.gguf")
    found = opening.model(folder / "tiny.gguf")
    assert found.tokenizer.eos_token == "<s>" and not trap.exists()


@pytest.mark.parametrize(
    "spoil", [lambda d: d[:2000], lambda d: b"PK" + d, lambda d: d[: len(d) // 2], lambda d: b""]
)
def test_a_damaged_gguf_file_is_a_user_error(gguf_file: Path, tmp_path: Path, spoil: Any) -> None:
    (tmp_path / "a.gguf").write_bytes(spoil(gguf_file.read_bytes()))
    with pytest.raises(FastvocabError, match=r"a\.gguf"):
        opening.model(tmp_path / "a.gguf")


# Side by side


@pytest.fixture(scope="module")
def checkpoint(tied_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint 0 of a base with forty tokens more, as special_tokens makes one."""
    from fastvocab.config.models import NamedToken
    from fastvocab.model import reference
    from fastvocab.model.extend import extend
    from fastvocab.tokenizer.named_stage import build

    root = tmp_path_factory.mktemp("named")
    for name in ("tokenizer", "checkpoint"):
        (root / name).mkdir()
    build(
        tied_llama, root / "tokenizer", tuple(NamedToken(token=f"слово{i}") for i in range(40)), reuse=False
    )
    extend(root / "checkpoint", reference.resolve(str(tied_llama)), root / "tokenizer", init="mean", seed=3)
    return root / "checkpoint"


def test_base_and_extended_get_the_same_prompt_in_their_own_tokens(
    checkpoint: Path, tied_llama: Path
) -> None:
    prompt = "слово1 слово2 and more"
    (one, name, base), (two, _, extended) = side_by_side.replies(checkpoint, prompt, Manner(tokens=5))
    assert (one, two) == ("base", "extended") and name == "./model"
    assert base.prompt == extended.prompt == prompt
    for found, folder in ((base, tied_llama), (extended, checkpoint)):
        tok = tokenizer(folder)
        assert found.prompt_tokens == len(generation.prompt_ids(tok, prompt, chat=True))
    assert extended.prompt_tokens < base.prompt_tokens
    alone = opening.model(tied_llama)
    ids = speaking.ids_of(alone, prompt, Manner())
    assert base.text == speaking.reply(alone, ids, Manner(tokens=5)).text


def test_a_plain_folder_is_compared_with_the_base_that_is_named(tied_llama: Path, tmp_path: Path) -> None:
    other = make_llama(tmp_path / "other", seed=1)
    with pytest.raises(ConfigError, match="does not say which base"):
        next(side_by_side.replies(other, "A", Manner(tokens=2)))
    found = list(side_by_side.replies(other, "A", Manner(tokens=2), base=str(tied_llama)))
    assert [name for _, name, _ in found] == ["./model", "other"]
