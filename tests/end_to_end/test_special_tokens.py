"""Tags for a tiny real model, through the command line: tokens, clones, replies, the same training without them."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fastvocab.layout import Layout
from fastvocab.model import checkpoint, manifest
from fastvocab.recipes import new_language, special_tokens
from fastvocab.run import read_records
from tests.conftest import make_llama, tiny_run

TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
REPLY = "<think>{reasoning}</think><answer>{output}</answer>"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions under names of their own, with thoughts and answers, as people have them."""
    path = tmp_path_factory.mktemp("qa") / "qa.jsonl"
    lines = [
        {"question": f"What is {a} + {b}?", "thoughts": f"{a} + {b} = {a + b}.", "solution": a + b}
        for a in range(12)
        for b in range(12)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def arguments(base: Path, rows: Path, runs: Path, *more: str) -> list[str]:
    return [
        f"model.base={base}", f"runs={runs}", "name=tags", f"instruct.train={rows}",
        "tokenizer.tokens=" + json.dumps([{"token": tag, "init": "clone:<s>"} for tag in TAGS]),
        f"instruct.reply={REPLY}", "instruct.columns.instruction=question", "instruct.columns.reasoning=thoughts",
        "instruct.columns.output=solution", "instruct.steps=8", "instruct.batch=8", "instruct.max_length=128",
        "pretrain.lora.r=4", "evaluate.questions=3", "evaluate.reply_tokens=24", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tied_llama: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        assert special_tokens.main(arguments(tied_llama, rows, runs, "evaluate.control=true")) == 0
    assert "it and its 4 clones had" in said.getvalue()
    return runs / "tags"


def test_each_clone_has_the_probability_that_the_reference_shares_with_it(finished: Path) -> None:
    points = read_records(finished)["evaluate"].figures["points"]
    (found,) = points["extend"]["tags"]["references"]
    p = points["base"]["tags"]["references"][0]["now"]
    assert p > 0 and found["before"] == p
    for value in (found["now"], *found["tags"].values()):
        assert value == pytest.approx(p / (1 + len(TAGS) * p), rel=1e-6)


def test_before_the_tags_are_as_likely_as_the_pieces_in_their_place(finished: Path, tied_llama: Path) -> None:
    """By plain transformers: the product over the pieces."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    points = read_records(finished)["evaluate"].figures["points"]
    model = AutoModelForCausalLM.from_pretrained(tied_llama, dtype=torch.float32)
    tok = AutoTokenizer.from_pretrained(tied_llama)
    pieces = tok("</think>", add_special_tokens=False)["input_ids"]
    questions = [one["prompt"] for one in points["base"]["replies"]["examples"]]
    values = []
    for question in questions:
        prompt = tok.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        ids = tok(prompt, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            logs = model(torch.tensor([ids + pieces])).logits[0].double().log_softmax(-1)
        values.append(float(sum(logs[len(ids) - 1 + n, piece] for n, piece in enumerate(pieces)).exp()))
    measured = points["base"]["tags"]["at_reply"]["</think>"]
    assert measured == pytest.approx(sum(values) / len(values), rel=0.2), "bfloat16 where the CPU has it"
    assert points["instruct"]["tags"]["at_reply"]["<think>"] > points["extend"]["tags"]["at_reply"]["<think>"]


def test_four_tokens_cost_four_rows(finished: Path) -> None:
    records = read_records(finished)
    lora = sum(
        4 * (a + b) for a, b in ((64, 64), (64, 32), (64, 32), (64, 64), (64, 128), (64, 128), (128, 64))
    )
    assert records["instruct"].figures["trainable_parameters"] == 2 * lora + 4 * 64
    assert tuple(records) == ("tokenizer", "extend", "instruct", "evaluate", "export")


def test_replies_are_taken_apart_by_plain_transformers_in_a_fresh_process(finished: Path) -> None:
    script = (
        "import sys, json; from transformers import AutoTokenizer, AutoModelForCausalLM\n"
        "t = AutoTokenizer.from_pretrained(sys.argv[1]); m = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "p = t.apply_chat_template([{'role': 'user', 'content': 'What is 1 + 2?'}], tokenize=False,"
        " add_generation_prompt=True)\n"
        "ids = t(sys.argv[2], add_special_tokens=False)['input_ids']\n"
        "print(json.dumps([t.parse_response(t.decode(ids, skip_special_tokens=True), prefix=p),"
        " len(t), m.config.vocab_size, 'unsloth' in sys.modules]))"
    )
    reply = Layout(REPLY).write({"reasoning": "1 + 2 = 3.", "output": "3"})
    done = subprocess.run(
        [sys.executable, "-c", script, str(finished / "70-export"), reply],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    message, tokens, rows, used = json.loads(done.stdout)
    assert message == {"role": "assistant", "reasoning": "1 + 2 = 3.", "output": "3"}
    assert tokens == rows == 704 and not used


def test_the_control_was_taught_the_same_without_tags(finished: Path) -> None:
    figures = read_records(finished)["evaluate"].figures
    assert figures["untagged"] == {"layout": "{reasoning}\n{output}", "steps": 8}
    assert figures["points"]["control"]["replies"]["questions"] == 3
    table = (finished / "report.html").read_text(encoding="utf-8")
    assert "well-formed replies" in table and "new language" not in table.split("</header>")[0]
    card = (finished / "70-export" / "README.md").read_text(encoding="utf-8")
    assert "parse_response" in card and "language is usually learnt" not in card


def test_generate_parses(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fastvocab.cli import main

    with pytest.raises(SystemExit, match="0"):
        main(["generate", str(finished), "What is 1 + 2?", "--parse", "--tokens", "8"])
    found = json.loads(capsys.readouterr().out)
    read = Layout(REPLY).read(found["text"])
    assert found == {"well_formed": read is not None, "fields": read or {}, "text": found["text"]}


@pytest.mark.parametrize(
    ("layout", "plain"),
    [
        ("<think>{a}</think><answer>{b}</answer>", True),
        ("<think>{a}</think>{b}", True),
        ("{a}\n#### {b}", True),
        ("Answer: {b}", True),
        ("{a}\n{b}", False),
    ],
)
@pytest.mark.parametrize(
    "template", [None, "{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"]
)
def test_a_layout_is_kept_and_transformers_is_given_what_it_can_read(
    tied_llama: Path, tmp_path: Path, layout: str, plain: bool, template: str | None
) -> None:
    """Templates with and without a generation prompt; what transformers is given, it reads as we do."""
    from transformers import AutoTokenizer

    from fastvocab.layout import KEY
    from fastvocab.train.instruct import _keep_layout

    tok = AutoTokenizer.from_pretrained(tied_llama)
    tok.chat_template = template or tok.chat_template
    _keep_layout(tok, Layout(layout), tok.chat_template)
    tok.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.init_kwargs[KEY] == layout and (again.response_template is not None) == plain
    prompt = again.apply_chat_template(
        [{"role": "user", "content": "Say so."}], tokenize=False, add_generation_prompt=True
    )
    fields = {name: f"some {name}" for name in Layout(layout).fields}
    if plain:
        found = again.parse_response(Layout(layout).write(fields), prefix=prompt)
        assert {k: str(v).strip() for k, v in found.items()} == {"role": "assistant", **fields}


def test_where_all_tags_are_there_already_no_row_trains(
    finished: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On top of the first run, whose tags these are."""
    more = ("instruct.steps=1", "evaluate.questions=1", "export.to=[]")
    assert (
        special_tokens.main([a for a in arguments(finished, rows, tmp_path, *more) if "lora" not in a]) == 0
    )
    assert "as instruct.embeddings=frozen" in capsys.readouterr().err


def test_the_same_command_reuses_everything(
    finished: Path, tied_llama: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("evaluate.control=true",)
    assert special_tokens.main(arguments(tied_llama, rows, finished.parent, *more)) == 0
    assert capsys.readouterr().err.count("reused") == 5


def test_fastvocab_runs_the_recipe_that_a_file_names(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fastvocab.cli import main

    with pytest.raises(SystemExit, match="0"):
        main(["run", str(finished / "config.yaml")])
    assert capsys.readouterr().err.count("reused") == 5


def test_full_fine_tuning_trains_every_weight_and_loads_again(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    base = make_llama(tmp_path / "base", tied=False)
    more = (
        "instruct.layers=full",
        "instruct.embeddings=full",
        "evaluate.questions=0",
        "instruct.learning_rate=1e-3",
    )
    assert special_tokens.main(arguments(base, rows, tmp_path, *more)) == 0
    folder = tmp_path / "tags" / "50-instruct"
    facts = manifest.read(folder)
    assert facts["lora"] is None and facts["layers"] is True
    model, _ = checkpoint.load(folder)
    every = sum(p.numel() for p in model.parameters())
    assert read_records(tmp_path / "tags")["instruct"].figures["trainable_parameters"] == every
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "tags" / "70-export", dtype=torch.float32)
    before = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    own = dict(model.named_parameters())
    for name, weight in plain.named_parameters():
        assert torch.equal(weight, own[name].bfloat16().float()), name
        assert not torch.equal(weight[:700], before.state_dict()[name][:700].bfloat16().float()), (
            f"{name} trained"
        )


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (['tokenizer.tokens=["<a>", "<a>", ""]'], 2, "'<a>' is there twice"),
        (['tokenizer.tokens=["<a", "<a>"]'], 2, "'<a' is the beginning of '<a>'"),
        (['tokenizer.tokens=[{token: "<a>", init: "clone:<nothing>"}]'], 4, "reads this as several tokens"),
        (['tokenizer.tokens=["<s>x"]'], 4, "is the beginning of"),
        (["instruct.reply=no field"], 2, "no field in braces"),
        (["instruct.columns.output=answr"], 3, "has no field 'answr'; it has: question, thoughts, solution"),
        (["instruct.reply=<t>{missing}</t>"], 3, "has no field 'missing'"),
        (["corpus.train=x.txt"], 2, "corpus.train: the recipe special_tokens does not read it"),
        (["recipe=new_language"], 2, "python -m fastvocab.recipes.new_language"),
        (["instruct.train=[]"], 2, "instruct.train is missing"),
        # answers that are numbers need a layout as well: both are told
        (["evaluate.control=true", "instruct.reply=null"], 3, "evaluate.control without instruct.reply"),
        (["instruct.layers=full", "model.load_in_4bit=true"], 2, "4-bit weights do not train"),
        (["extend.init=counted"], 2, "extend.init=counted in the recipe special_tokens"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(
    tied_llama: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], code: int,
    message: str,
) -> None:  # fmt: skip
    assert special_tokens.main(arguments(tied_llama, rows, tmp_path, *more)) == code
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said and not (tmp_path / "tags" / "20-tokenizer").exists()


def test_a_new_language_may_have_tags_and_laid_out_replies_too(
    tied_llama: Path, rows: Path, text_folder: Path, tmp_path: Path
) -> None:
    own = [a for a in arguments(tied_llama, rows, tmp_path) if "columns" in a or "reply=" in a]
    more = ('tokenizer.tokens=["<think>", "</think>"]', f"instruct.train={rows}", "evaluate.questions=2",
            "evaluate.reply_tokens=4", "export.to=[]", *own)  # fmt: skip
    assert new_language.main(tiny_run(tied_llama, text_folder, tmp_path, *more)) == 0
    records = read_records(tmp_path / "tiny")
    measured = records["evaluate"].figures["points"]
    assert [name for name, point in measured.items() if "replies" in point] == ["base", "instruct"]
    assert [one["token"] for one in records["tokenizer"].figures["named"]] == ["<think>", "</think>"]
    assert measured["instruct"]["target"]["tokens"] < measured["base"]["target"]["tokens"]
