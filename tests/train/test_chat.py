"""Conversations as rows with a loss on the replies alone: templates, borders, what is cut, and TRL beside it."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastvocab.config import load
from fastvocab.config.models import InstructSection
from fastvocab.errors import ConfigError, DataError
from fastvocab.train import chat
from fastvocab.train.data import IGNORED
from fastvocab.train.instruct import PLAIN, template_text
from tests.conftest import sentences
from tests.train.conftest import Material

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}"
    "{% else %}[INST] {{ m['content'] }} [/INST]{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else 'user' }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
#: With transformers' own tag, and the arguments that it always gives.
MARKED = (
    "{% if tools is not none or documents is not none %}{{ raise_exception('tools') }}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] }}<|im_end|>{% endgeneration %}\n{% continue %}{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "mistral": MISTRAL, "gemma": GEMMA, "marked": MARKED}


#: Latin, Cyrillic, right to left, combining marks, no spaces, Hangul, and two scripts in one sentence.
WORDS = [
    "The quick brown fox, as they say, jumps.", "Мова є засобом людського спілкування, і кожен береже свою.",
    "اللغة العربية تكتب من اليمين إلى اليسار", "हिन्दी में संयुक्ताक्षर और मात्राएँ होती हैं", "ภาษาไทยเขียนติดกันไม่มีช่องว่าง",
    "中文的句子沒有空格，但有標點。", "한국어는 한글로 씁니다.", "Python-ის კოდი: print('გამარჯობა') 🙂",
]  # fmt: skip


def conversation(turns: int, *, system: bool = False, seed: int = 0) -> list[dict[str, str]]:
    """Text in many scripts, in turns."""
    draw, texts = random.Random(seed), WORDS
    messages = [{"role": "system", "content": "Відповідай коротко."}] if system else []
    for _ in range(turns):
        for role in ("user", "assistant"):
            text = draw.choice(texts)
            start = draw.randrange(max(1, len(text) - 60))
            messages.append(
                {"role": role, "content": text[start : start + draw.randint(3, 60)].strip() or "так"}
            )
    return messages


@pytest.fixture(scope="module")
def tok(material: Material) -> Any:
    from fastvocab.model import text

    return text.tokenizer(material.extend["tied"])


@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_loss_is_on_replies_and_their_end_marks_alone(name: str, system: bool, tok: Any) -> None:
    tok.chat_template = TEMPLATES[name]
    end = {
        "chatml": "<|im_end|>\n",
        "llama3": "<|eot_id|>",
        "mistral": tok.eos_token,
        "gemma": "<end_of_turn>\n",
        "marked": "<|im_end|>",  # what comes after a tag is trimmed
    }[name]
    for seed in range(20):
        messages = conversation(1 + seed % 4, system=system, seed=seed)
        ids, labels = chat.encode(messages, tok)
        assert tok.decode(ids) == tok.apply_chat_template(messages, tokenize=False)
        assert all(label in (IGNORED, i) for i, label in zip(ids, labels, strict=True))
        learnt, said = [], []
        for i, label in zip(ids, labels):
            if label != IGNORED:
                said.append(i)
            elif said:
                learnt.append(tok.decode(said))
                said = []
        learnt.append(tok.decode(said))
        replies = [m["content"] for m in messages if m["role"] == "assistant"]
        lead = " " if name == "mistral" else ""
        assert learnt == [lead + reply + end for reply in replies]


def test_the_prompt_is_tokenized_as_in_use(tok: Any) -> None:
    """What a model is given to answer is the beginning of what it was trained on."""
    for name, template in TEMPLATES.items():
        tok.chat_template = template
        for seed in range(10):
            messages = conversation(1, seed=seed)
            ids, labels = chat.encode(messages, tok)
            given = tok.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
            prompt = tok(given, add_special_tokens=False)["input_ids"]
            assert ids[: len(prompt)] == prompt, name
            assert labels[: len(prompt)] == [IGNORED] * len(prompt) and labels[len(prompt)] != IGNORED


def test_a_template_that_changes_what_came_before_is_refused(tok: Any) -> None:
    tok.chat_template = (
        "{% for m in messages %}{% if loop.last %}>{% endif %}{{ m['content'] }}\n{% endfor %}"
    )
    with pytest.raises(DataError, match="each rendering must begin with the one before"):
        chat.encode(conversation(2), tok)


@pytest.mark.parametrize(
    "template",
    ["{{ raise_exception('no system role') }}", "{{ messages[0]['content'] + 1 }}", "{{ messages[9].x.y }}"],
)
def test_a_template_that_does_not_render_is_the_users_error(template: str, tok: Any) -> None:
    tok.chat_template = template
    with pytest.raises(DataError, match="the chat template cannot render"):
        chat.encode(conversation(1), tok)


def test_what_is_cut_and_what_is_dropped_is_counted_and_said(tok: Any, capsys: Any) -> None:
    tok.chat_template = CHATML
    messages = conversation(1, seed=3)
    ids, labels = chat.encode(messages, tok)
    first = next(i for i, label in enumerate(labels) if label != IGNORED)
    for limit, cut in ((len(ids) + 1, 0), (len(ids), 0), (len(ids) - 1, 1)):
        data = chat.dataset([{"messages": messages}], tok, max_length=limit)
        assert (data.figures["rows"], data.figures["cut"]) == (1, cut)
        assert data.dataset[0]["input_ids"] == ids[:limit] and data.figures["dropped"] == {}
        assert data.figures["loss_tokens"] == sum(label != IGNORED for label in labels[:limit])
    dropped = Counter({"empty_reply": 2})
    with pytest.raises(DataError) as caught:
        chat.dataset([{"messages": messages}], tok, max_length=first, dropped=dropped)
    assert "2 (empty_reply), 1 (no reply within max_length)" in str(caught.value)
    short = conversation(1, seed=5)
    data = chat.dataset(
        [{"messages": messages}, {"messages": short}], tok, max_length=len(ids) - 1, dropped=Counter(x=1)
    )
    assert data.figures["dropped"] == {"x": 1}
    said = capsys.readouterr().err
    assert f"cut at {len(ids) - 1} tokens (instruct.max_length)" in said and "1 dropped: x" in said


def test_a_share_of_the_original_language_is_mixed_in_and_repeated(tok: Any) -> None:
    tok.chat_template = CHATML
    new = [{"messages": row} for row in rows_of(12)]
    old = [{"messages": [{"role": "user", "content": f"Question {i}?"}, {"role": "assistant", "content": "Yes."}]}
           for i in range(2)]  # fmt: skip
    alone = chat.dataset(new, tok, max_length=500, replay=old)
    assert (alone.figures["rows"], alone.figures["replay_rows"], len(alone.dataset)) == (12, 0, 12)
    for share, extra in ((0.25, 4), (0.5, 12)):
        data = chat.dataset(new, tok, max_length=500, replay=old, replay_share=share)
        assert (data.figures["rows"], data.figures["replay_rows"], len(data.dataset)) == (
            12,
            extra,
            12 + extra,
        )
        assert data.figures["replay_repeats"] == extra / 2
        assert data.dataset[:12]["input_ids"] == alone.dataset["input_ids"][:]
        texts = [tok.decode(row) for row in data.dataset[12:]["input_ids"]]
        assert ["Question 0" in text for text in texts] == [i % 2 == 0 for i in range(extra)]
        assert "from instruct.replay" in data.origin(13) and "number 2" in data.origin(13)


@pytest.mark.parametrize("begin", [True, False])
def test_a_base_without_a_template_is_given_one_of_its_own_tokens(
    begin: bool, tied_llama: Path, bare_llama: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    from fastvocab.config.models import InstructSection
    from fastvocab.train.instruct import given_template

    tok = AutoTokenizer.from_pretrained(tied_llama if begin else bare_llama)
    assert given_template(InstructSection(), tok) is None
    tok.chat_template, known = None, tok.get_vocab()
    tok.chat_template = given_template(InstructSection(), tok)
    for seed in range(8):
        messages = conversation(1 + seed % 3, system=seed % 2 == 0, seed=seed)
        ids, labels = chat.encode(messages, tok)
        learnt = [label for label in labels if label != IGNORED]
        assert ids[-1] == learnt[-1] == tok.eos_token_id
        assert learnt.count(tok.eos_token_id) == sum(m["role"] == "assistant" for m in messages)
        if begin:
            assert ids[0] == tok.bos_token_id and ids.count(tok.bos_token_id) == 1
    assert tok.get_vocab() == known
    tok.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.apply_chat_template(messages, tokenize=False) == tok.apply_chat_template(
        messages, tokenize=False
    )
    tok.eos_token, tok.chat_template = None, None
    with pytest.raises(DataError, match="no reply could end"):
        given_template(InstructSection(), tok)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x00\xff\xfe", "is no UTF-8 text"),
        (b"", "there is no question and no answer in what it renders"),
        (b"hello", "there is no question and no answer"),
        (b"{{ messages[0]['content'] }}", "there is no answer in"),
        (b"{{ raise_exception('no way') }}", "cannot render a question and its answer (no way)"),
        (b"{% for m in messages %}{{ m.content[7] / nothing }}{% endfor %}", "cannot render"),
        (b"{% for m in messages %}", "line 1:"),
    ],
)
def test_a_template_that_makes_no_conversation_is_refused_at_once(
    content: bytes, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.jinja"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        template_text(InstructSection(template=str(path)))
    assert told in str(caught.value) and str(path) in str(caught.value)


#: What transformers gives beside the messages.
MORE = (
    "{{ pad_token + unk_token }}{% for m in messages %}{{ m | tojson(ensure_ascii=False, sort_keys=True) }}"
    "{{ strftime_now('%Y') }}{% endfor %}"
)


@pytest.mark.parametrize("name", [*TEMPLATES, "plain", "more"])
def test_a_template_that_does_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    template = (TEMPLATES | {"plain": PLAIN, "more": MORE})[name]
    path.write_text(template, encoding="utf-8")
    assert template_text(InstructSection(template=str(path))) == template


@pytest.fixture
def instructed(
    material: Material, tmp_path: Path
) -> Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]:
    """``instructed(rows, "steps=3", ...)`` is the instruct stage on checkpoint 0; (figures, log)."""
    from fastvocab.train.instruct import instruct

    def run(
        rows: list[list[dict[str, str]]],
        *settings: str,
        base: str = "tied",
        held: list[list[dict[str, str]]] = (),
    ) -> Any:
        section = load(
            None, [f"instruct.{setting}" for setting in ("batch=2", "max_length=96", *settings)]
        ).instruct
        folder = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        figures = instruct(
            folder, previous=material.extend[base], rows=lambda _: ({"messages": row} for row in rows), section=section,
            heldout=lambda _: ({"messages": row} for row in held), key=folder.name, saves_folder=tmp_path / "saves",
            seed=3,
        )  # fmt: skip
        run.last = folder  # type: ignore[attr-defined]
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        return figures, [json.loads(line) for line in lines]

    return run


def rows_of(count: int) -> list[list[dict[str, str]]]:
    texts = sentences(2 * count)
    return [
        [{"role": "user", "content": a[:60]}, {"role": "assistant", "content": b[:80]}]
        for a, b in zip(texts[::2], texts[1::2])
    ]


@pytest.mark.parametrize("mode", ["frozen", "new_rows", "full"])
def test_nothing_but_replies_gives_a_gradient(
    mode: str, instructed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the stage itself: the gradient that the head hands down is exactly zero where no reply follows."""
    from fastvocab.train import trainer

    seen: list[tuple[Any, Any]] = []
    build = trainer.build

    def watched(model: Any, *more: Any) -> Any:
        made = build(model, *more)
        compute, causal = made.compute_loss, model.get_base_model()

        def hook(module: Any, inputs: Any, output: Any) -> None:
            if output.requires_grad:
                output.retain_grad()
                seen[-1] = (seen[-1][0], output)

        causal.get_decoder().norm.register_forward_hook(hook)

        def with_labels(model: Any, inputs: Any, **more: Any) -> Any:
            seen.append((inputs["labels"].clone(), None))
            return compute(model, inputs, **more)

        made.compute_loss = with_labels
        return made

    monkeypatch.setattr(trainer, "build", watched)
    instructed(rows_of(6), "steps=3", f"embeddings={mode}")
    assert len(seen) == 3
    for labels, hidden in seen:
        follows = labels[:, 1:] != IGNORED
        assert follows.any() and not follows.all()
        gradient = hidden.grad[:, :-1].abs().sum(-1)
        assert bool((gradient[~follows] == 0).all()) and bool((gradient[follows] > 0).all())
        assert bool((hidden.grad[:, -1] == 0).all())


@pytest.mark.parametrize("mode", ["frozen", "new_rows"])
def test_held_out_replies_are_measured_on_the_way(mode: str, instructed: Any, material: Material) -> None:
    """The last figure, at the end, is that of the checkpoint by transformers' own loss."""
    import torch

    from fastvocab.model import checkpoint

    held = [*rows_of(12)[9:], conversation(2, seed=4)]
    keys = ("steps=4", "evaluations=2", "evaluation_share=1", f"embeddings={mode}", "learning_rate=1e-2")
    figures, log = instructed(rows_of(9), *keys, held=held)
    looks = [entry for entry in log if "heldout_loss" in entry]
    assert [entry["step"] for entry in looks] == [2, 4] and figures["evaluations"] == 2
    assert figures["heldout_loss"] == [entry["heldout_loss"] for entry in looks]
    assert figures["data"]["heldout_rows"] == looks[0]["conversations"] == 4
    model, tok = checkpoint.load(instructed.last)
    total, tokens = 0.0, 0
    for messages in held:
        ids, labels = chat.encode(messages, tok)
        ids, labels = ids[:96], labels[:96]
        count = sum(label != IGNORED for label in labels[1:])
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
        total, tokens = total + float(loss) * count, tokens + count
    assert looks[-1]["heldout_loss"] == pytest.approx(total / tokens, rel=0.01)  # bfloat16 products there


def test_held_out_replies_take_no_more_than_their_share(instructed: Any, capsys: Any) -> None:
    held = rows_of(12)[9:]
    _, log = instructed(rows_of(9), "steps=4", "evaluations=2", "evaluation_share=0.001", held=held)
    assert not [entry for entry in log if "heldout_loss" in entry]
    assert "no held-out loss on the way: 2 evaluations" in capsys.readouterr().err
    _, log = instructed(rows_of(9), "steps=4", "evaluations=0", held=held)
    assert not [entry for entry in log if "heldout_loss" in entry]


@pytest.mark.parametrize("mode", ["frozen", "new_rows"])
def test_replies_are_written_on_the_way_and_change_nothing(
    mode: str, instructed: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The last ones are what the checkpoint replies; training goes on as without them."""
    from fastvocab.model import checkpoint, generation
    from fastvocab.train import replies

    monkeypatch.setattr(replies, "_LEAST_SECONDS", 0.0)
    keys = ("steps=4", "evaluations=2", "evaluation_share=1", f"embeddings={mode}", "learning_rate=1e-2")
    held = rows_of(12)[9:]
    figures, log = instructed(rows_of(9), *keys, "sample_tokens=6", held=held)
    written = [entry["samples"] for entry in log if "samples" in entry]
    assert [len(samples) for samples in written] == [2, 2] and figures["evaluations"] == 2
    told = capsys.readouterr().err
    assert all(f"{one['prompt']} -> {one['text']}" in told for samples in written for one in samples)
    model, tok = checkpoint.load(instructed.last)
    asked = [held[number][0]["content"] for number in range(2)]
    spoken = generation.generate(model, tok, asked, max_new_tokens=6, chat=True)
    assert [one["text"] for one in written[-1]] == [" ".join(text.split()) for text in spoken]
    assert any(one["text"] for one in written[-1])
    assert all(" ".join(a.split()) in one["prompt"] for a, one in zip(asked, written[-1]))
    _, without = instructed(rows_of(9), *keys, "sample_tokens=0", held=held)
    assert not [entry for entry in without if "samples" in entry]
    assert [e["loss"] for e in log if "loss" in e] == [e["loss"] for e in without if "loss" in e]
    _, long = instructed(rows_of(9), *keys, "sample_tokens=255", held=held)
    assert not [entry for entry in long if "samples" in entry], "no question leaves so much of 256 positions"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_losses_are_those_of_trl(accumulate: int, instructed: Any, material: Material, tmp_path: Path,
                                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Plain `trl.SFTTrainer` on prompt and completion, in float32: the same losses step by step."""
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from fastvocab.config.models import LoraSection
    from fastvocab.model import backend, checkpoint
    from fastvocab.train.budget import Budget

    monkeypatch.setattr(backend.unsloth(), "is_bfloat16_supported", lambda *_: False)
    rows, steps = rows_of(9), 8
    keys = (f"steps={steps}", f"accumulate={accumulate}", "learning_rate=1e-2", "max_grad_norm=0")
    _, log = instructed(rows, *keys)
    section = load(None, [f"instruct.{key}" for key in keys]).instruct

    lora = LoraSection().model_dump(mode="json")
    model, tokenizer = checkpoint.load(
        material.extend["tied"], trainable=True, lora=lora, embeddings="frozen", block=96, seed=3
    )
    data = Dataset.from_list([{"prompt": row[:1], "completion": row[1:]} for row in rows])
    arguments = SFTConfig(
        output_dir=str(tmp_path / "trl"), per_device_train_batch_size=2, gradient_accumulation_steps=accumulate,
        max_steps=steps, logging_steps=1, report_to="none", save_strategy="no", seed=3, data_seed=3, bf16=False,
        fp16=False, max_length=96, max_grad_norm=0.0, disable_tqdm=True, gradient_checkpointing=False, use_cpu=True,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0
    )
    budget = Budget(steps, None)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: budget.rate(step, section.warmup))
    plain = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        processing_class=tokenizer,
        optimizers=(optimizer, schedule),
    )
    plain.train()
    theirs = [entry["loss"] for entry in plain.state.log_history if "loss" in entry]
    ours = [entry["loss"] for entry in log if "loss" in entry]
    assert len(ours) == steps and max(ours) - min(ours) > 0.05
    assert ours == pytest.approx([float(loss) for loss in theirs], abs=1e-5)
