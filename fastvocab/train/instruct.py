"""The ``instruct`` stage: chat rows on top of the pretrained checkpoint, loss on the replies."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from fastvocab import console
from fastvocab.config.models import InstructSection, LoraSection
from fastvocab.errors import ConfigError, DataError
from fastvocab.layout import KEY, Layout
from fastvocab.model import backend, text
from fastvocab.train import chat, stage
from fastvocab.train.data import Data
from fastvocab.train.trackers import Tracking

Read = Callable[[Counter[str]], Iterable[dict[str, Any]]]

#: For bases without a template: words for the roles, the tokenizer's own marks of beginning and end, no new token. Each
#: reply ends with the token at which generation stops anyway.
PLAIN = (
    "{{ bos_token or '' }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] }}{{ eos_token }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] }}\n\n"
    "{% else %}{% if not loop.first and loop.previtem['role'] == 'assistant' %}\n\n{% endif %}"
    "### User:\n{{ message['content'] }}\n\n### Assistant:\n{% endif %}{% endfor %}"
)


def given_template(section: InstructSection, tokenizer: Any) -> str | None:
    """The template to put into a checkpoint's tokenizer: the one that is configured, or `PLAIN` where it has none.

    Returns:
        None where its own stays.

    Raises:
        DataError: it has neither a template nor a token that ends a text.
    """
    if (own := template_text(section)) is not None or tokenizer.chat_template:
        return own
    if tokenizer.eos_token is None:
        raise DataError(
            "the base model has neither a chat template nor an end-of-text token, so no reply could end",
            fix="give a template with instruct.template=FILE (Jinja)",
        )
    return PLAIN


def template_text(section: InstructSection) -> str | None:
    """The chat template that the configuration names, read, parsed, and tried on a conversation.

    Raises:
        ConfigError: not there, no text, not Jinja, or what it makes of a conversation is without the words.
    """
    if section.template is None:
        return None
    from jinja2 import TemplateSyntaxError

    path = Path(section.template).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
        problem = _problem(text)
    except OSError as error:
        raise ConfigError(
            f"instruct.template: {path}: {error.strerror}", fix="name a file that holds the template"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"instruct.template: {path} is no UTF-8 text ({error.reason})") from None
    except TemplateSyntaxError as error:
        raise ConfigError(f"instruct.template: {path}, line {error.lineno}: {error.message}") from None
    if problem:
        raise ConfigError(
            f"instruct.template: {path}: {problem}",
            rule="it is given messages (role, content) and add_generation_prompt, as transformers gives them",
            fix="mend the file, or leave the key out for the template of the model",
        )
    return text


def _problem(template: str) -> str | None:
    """What is wrong with what a template makes of a question and its answer; None if both are in it.

    Raises:
        TemplateSyntaxError: it is not Jinja.
    """
    from jinja2 import TemplateError, TemplateSyntaxError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}``, transformers' marks around the assistant's words."""

        tags = {"generation"}  # noqa: RUF012 (so it is declared in Jinja)

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    # what transformers gives a template, and no more; a plan imports neither it nor torch
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda form: form}
    environment.filters["tojson"] = lambda value, ensure_ascii=False, **how: json.dumps(
        value, ensure_ascii=ensure_ascii, **how
    )
    said = [{"role": "user", "content": "QUESTION"}, {"role": "assistant", "content": "ANSWER"}]
    given: dict[str, Any] = {"tools": None, "documents": None, "add_generation_prompt": False}
    given |= {f"{name}_token": f"<{name}>" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")}
    try:
        made = environment.from_string(template).render(messages=said, **given)
    except TemplateSyntaxError:
        raise
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        return f"it cannot render a question and its answer ({error})"
    lost = [text for text in ("question", "answer") if text.upper() not in made]
    return f"there is no {' and no '.join(lost)} in what it renders" if lost else None


def require_rows(
    previous: Path, given: Mapping[str, Callable[[], Iterable[dict[str, Any]]]], section: InstructSection
) -> None:
    """Refuse conversations none of which can be learnt from, before a long training comes first.

    Args:
        previous: a checkpoint with the tokenizer that they will be read with.
        given: gives conversations, by the key that names their files; read up to the first that will do.

    Raises:
        DataError: the template does not render them, or none has a reply within ``max_length``.
    """
    backend.unsloth()  # it asks to be imported before transformers
    tokenizer = text.tokenizer(previous)
    tokenizer.chat_template = given_template(section, tokenizer) or tokenizer.chat_template
    wrong = []
    for key, rows in given.items():
        begins = []  # of each conversation, where its first reply begins, in tokens
        for row in rows():
            begins.append(chat.first_reply(row["messages"], tokenizer))
            if begins[-1] < section.max_length:
                break
        else:
            if not begins:
                raise DataError(
                    f"{key}: all usable conversations are held out, by a hash of their text",
                    fix="give more conversations",
                )
            wrong.append(
                f"{key}: {chat.TOO_LONG} ({section.max_length} tokens) in any of {len(begins)} conversations; the "
                f"earliest begins at token {min(begins)}"
            )
    if wrong:
        raise DataError(
            "\n".join(wrong),
            rule="what is beyond instruct.max_length is cut off, and the loss is on replies alone",
            fix="raise instruct.max_length, or name shorter conversations",
        )


def instruct(
    folder: Path,
    *,
    previous: Path,
    rows: Read,
    replay: Read | None = None,
    heldout: Read | None = None,
    section: InstructSection,
    key: str,
    saves_folder: Path,
    seed: int,
    track: Tracking | None = None,
    lora: LoraSection | None = None,
) -> dict[str, Any]:
    """Tune ``previous`` on conversations and write the new checkpoint to ``folder``.

    Args:
        rows: gives conversations (each ``{"messages": [...]}``), and counts in what it is given those that it drops, by
            reason.
        replay: the same in the language that the model knows; ``replay_share`` of all comes from it.
        heldout: conversations whose replies are measured on the way (`fastvocab.train.replies`).
        lora: settings of the adapter, where ``previous`` has none; None for the defaults.

    With ``section.reply`` the tokenizer of the checkpoint knows how replies are laid out (`Layout.response_template`).

    Returns:
        Figures of `stage.train`; ``data`` tells of the conversations (`chat.dataset`).
    """

    def prepare(_: Any, tokenizer: Any, work: Path) -> Data:
        dropped = Counter[str]()
        return chat.dataset(
            rows(dropped),
            tokenizer,
            max_length=section.max_length,
            replay=replay(dropped) if replay else (),
            replay_share=section.replay_share,
            heldout=heldout(Counter()) if heldout else (),
            dropped=dropped,
        )

    def template(tokenizer: Any) -> str | None:
        chosen = given_template(section, tokenizer)
        if chosen is PLAIN:
            console.say(
                "  the base has no chat template and is given a plain one (### User: ... ### Assistant: ...)"
            )
        if section.reply is not None:
            _keep_layout(tokenizer, Layout(section.reply), chosen or tokenizer.chat_template)
        return chosen

    return stage.train(
        folder, stage="instruct", previous=previous, section=section,
        lora=(lora or LoraSection()).model_dump(mode="json"),
        prepare=prepare, block=section.max_length,
        key=key, saves_folder=saves_folder, seed=seed, track=track,
        template=template,
    )  # fmt: skip


def _keep_layout(tokenizer: Any, layout: Layout, template: str) -> None:
    """Put a layout into the tokenizer's settings, and what transformers needs to read it, if it can.

    It cannot where a field has no mark of its own beside it, or where nothing stands between prompt and reply.
    """
    from transformers.utils.chat_parsing import parse_response

    tokenizer.init_kwargs[KEY] = layout.text
    prompt, anchor = _anchor(tokenizer, template)
    fields = {name: f"{number} of it" for number, name in enumerate(layout.fields)}
    try:
        made = layout.response_template(anchor)
        found = parse_response(layout.write(fields), made, prefix=prompt)
    except ValueError:
        found = {}
    if anchor and {name: str(value).strip() for name, value in found.items()} == {
        "role": "assistant",
        **fields,
    }:
        tokenizer.response_template = made
    else:
        console.say(
            "  this layout of replies is for fastvocab alone: transformers' parse_response cannot read it"
        )


def _anchor(tokenizer: Any, template: str) -> tuple[str, str]:
    """A prompt, and what each has right before a reply: what two of them end with alike."""
    one, other = (
        tokenizer.apply_chat_template(
            [{"role": "user", "content": asked}],
            chat_template=template,
            tokenize=False,
            add_generation_prompt=True,
        )
        for asked in ("What is A?", "Say B!")
    )
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(reversed(one), reversed(other))))
    return one, one[len(one) - alike :]
