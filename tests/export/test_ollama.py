"""The Modelfile: Ollama must send the prompt that the model's chat template renders.

There is no Go here: the template is evaluated by the few lines below, which know what `fastvocab.export.ollama` emits
and no more. The same templates went once through Go's own text/template (1.19, on 2026-11-28), with equal prompts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastvocab.errors import ConfigError, ModelError
from fastvocab.export import gguf, ollama
from fastvocab.export.gguf import chat
from fastvocab.train.instruct import PLAIN
from tests.conftest import make_llama

CHATML = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful {{ '{{' }}AI}}.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "<h>system</h>\n\nToday Date: {{ date_string }}\n\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% set messages = messages[1:] %}{% endif %}"
    "</s>{% for m in messages %}<h>{{ m.role }}</h>\n\n{{ m.content | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<h>assistant</h>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}"
    "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}{% if m.role == 'user' %}"
    "[INST] {{ first if loop.first and first }}{{ m.content }} [/INST]{% else %} {{ m.content }}{{ eos_token }}"
    "{% endif %}{% endfor %}"
)
LATE_SYSTEM = (
    "{% set told = messages[0].content if messages[0].role == 'system' else '' %}{% for m in messages if m.role != "
    "'system' %}{% if m.role == 'user' %}[INST] {{ told if loop.last }}{{ m.content }}[/INST]{% else %}{{ m.content }}"
    "</s>{% endif %}{% endfor %}"
)
NUMBERED = "{% for m in messages %}{{ loop.index }}. {{ m.role }}: {{ m.content }}</s>{% endfor %}assistant: "
ENDLESS = "{% for m in messages %}{{ m.content }} {% endfor %}"


def evaluate(template: str, messages: list[dict[str, str]]) -> str:
    """The subset of Go's templates that is emitted: if, else, else if, end, range, fields and strings."""
    tokens = [part for part in re.split(r"(\{\{ .*? \}\})", template) if part]
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")

    def run(place: int, message: dict[str, str] | None, rest: int, on: bool) -> tuple[int, str]:
        out = ""
        while place < len(tokens):
            token = tokens[place]
            place += 1
            if not token.startswith("{{ "):
                out += token if on else ""
                continue
            action = token[3:-3]
            if action in ("end", "else") or action.startswith("else if"):
                return place - 1, out
            if action.startswith("if "):
                place, text = branches(place, action[3:], message, rest, on)
            elif action == "range $i, $_ := .Messages":
                text, first = "", place
                for number, one in enumerate(messages):
                    place, made = run(first, one, len(messages) - number, on)
                    text += made
                place += 1
            elif action == ".System":
                text = system
            elif action == ".Content":
                assert message is not None
                text = message["content"]
            else:
                assert re.fullmatch(r'"[^"\\]*"', action), action
                text = action[1:-1]
            out += text if on else ""
        return place, out

    def branches(place: int, condition: str, message: Any, rest: int, on: bool) -> tuple[int, str]:
        done, out = False, ""
        while True:
            holds = not done and true(condition, message, rest)
            place, text = run(place, message, rest, on and holds)
            out, done = out + text, done or holds
            action = tokens[place][3:-3]
            place += 1
            if action == "end":
                return place, out
            condition = action.removeprefix("else").strip().removeprefix("if ")

    def true(condition: str, message: Any, rest: int) -> bool:
        if condition in ("", ".System"):
            return not condition or bool(system)
        if condition == "gt (len (slice $.Messages $i)) 1":
            return rest > 1
        role = re.fullmatch(r'eq \.Role "(\w+)"', condition)
        assert role and message, condition
        return bool(message["role"] == role[1])

    place, out = run(0, None, 0, True)
    assert place == len(tokens)
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("ollama") / "model")


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


TEMPLATES = {
    "chatml": CHATML, "llama-3": LLAMA_3, "gemma": GEMMA, "mistral": MISTRAL, "late": LATE_SYSTEM,
    "plain": PLAIN,
}  # fmt: skip
said = (
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1)
    .map(str.strip)
    .filter(bool)
)


@pytest.mark.parametrize("name", TEMPLATES)
@given(questions=st.lists(said, min_size=1, max_size=4), system=said)
def test_the_prompt_is_the_chat_templates(
    tokenizer: Any, name: str, questions: list[str], system: str
) -> None:
    tokenizer.chat_template = TEMPLATES[name]
    turns, notes = ollama.find(tokenizer, Path("model"))
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(questions)]
    messages = messages[: len(messages) - 1 + len(messages) % 2]  # ends with a question
    takes_system = name not in ("gemma", "late")
    assert takes_system == (turns.before_system is not None)
    assert takes_system != any("no place for instructions" in note for note in notes)
    assert ("names the day" in " ".join(notes)) == (name == "llama-3")
    for conversation in (
        messages,
        *([[{"role": "system", "content": system}, *messages]] if takes_system else []),
    ):
        wanted = chat.render(tokenizer, conversation, date_string="26 Jul 2024")
        assert evaluate(turns.go(), conversation) == wanted


def test_a_reply_that_was_begun_is_gone_on_with(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML
    turns, _ = ollama.find(tokenizer, Path("model"))
    begun = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "It is"}]
    assert evaluate(turns.go(), begun).endswith("<|im_start|>assistant\nIt is")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (NUMBERED, "what follows a turn is"),
        (None, "has no chat template"),
        ("{{ messages[-1].content }}", "in the order"),
    ],
)
def test_a_template_that_cannot_be_said_is_refused(tokenizer: Any, template: str | None, said: str) -> None:
    tokenizer.chat_template = template
    with pytest.raises(ModelError) as caught:
        ollama.find(tokenizer, Path("model"))
    assert said in caught.value.message


def test_the_modelfile_says_all_that_ollama_needs(folder: Path, tmp_path: Path) -> None:
    gguf.write(folder, tmp_path / "My Model.gguf", kind="f16")
    made = ollama.write(tmp_path, tmp_path / "My Model.gguf", folder, system="Відповідай коротко.")
    text = (tmp_path / "Modelfile").read_text(encoding="utf-8")
    template = re.search(r'^TEMPLATE """(.*?)"""$', text, re.DOTALL | re.MULTILINE)
    assert template is not None and template[1] == made["template"]
    assert "FROM ./My Model.gguf\n" in text and 'SYSTEM """Відповідай коротко."""\n' in text
    assert 'PARAMETER stop "</s>"\n' in text and made["stop"] == ["</s>"]
    assert "PARAMETER num_ctx 256\n" in text  # the model's own; at most 8192
    assert made["start"] == ["ollama create my-model -f Modelfile", "ollama run my-model"]
    assert all(f"# {line}\n" in text for line in made["start"])
    with pytest.raises(ConfigError, match="is there already"):
        ollama.write(tmp_path, tmp_path / "My Model.gguf", folder)


def test_bos_is_left_to_llama_cpp_where_the_file_asks_for_it(tokenizer: Any) -> None:
    tokenizer.chat_template = GEMMA
    turns, _ = ollama.find(tokenizer, Path("model"))
    assert turns.start.startswith("<s><start_of_turn>")
    without, notes = ollama._without_bos(turns, "<s>")
    assert without.start == turns.start.removeprefix("<s>") and not notes
    tokenizer.chat_template = CHATML
    turns, _ = ollama.find(tokenizer, Path("model"))
    same, notes = ollama._without_bos(turns, "<s>")
    assert same == turns and "begins with <s>" in notes[0]


def test_instructions_without_a_place_and_replies_without_an_end_are_refused(
    folder: Path, tokenizer: Any, tmp_path: Path
) -> None:
    import shutil

    model = tmp_path / "model"
    shutil.copytree(folder, model)
    gguf.write(model, tmp_path / "m.gguf", tokenizer_only=False)
    (model / "chat_template.jinja").write_text(GEMMA)
    with pytest.raises(ConfigError, match="no place for them"):
        ollama.write(tmp_path, tmp_path / "m.gguf", model, system="Be brief.")
    (model / "chat_template.jinja").write_text(ENDLESS)
    with pytest.raises(ModelError, match="nothing ends a reply"):
        ollama.write(tmp_path, tmp_path / "m.gguf", model)
    assert not (tmp_path / "Modelfile").exists()
