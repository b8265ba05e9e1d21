"""`fastvocab generate`: the chat in a terminal, and replies that go into a pipe."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastvocab import cli
from fastvocab.cli.chat import Chat
from fastvocab.corpus.chat import chat_rows
from fastvocab.model import open as opening
from fastvocab.model import speaking
from fastvocab.model.speaking import Manner


@pytest.fixture(scope="module")
def opened(tied_llama: Path) -> opening.Opened:
    return opening.model(tied_llama)


def talk(chat: Chat, *lines: str, end: type[BaseException] = EOFError) -> None:
    """The lines that a person types, and how they leave."""
    left = list(lines)

    def read(prompt: str) -> str:
        assert prompt == "> "
        if not left:
            raise end
        return left.pop(0)

    chat.loop(read)


def test_what_was_said_is_part_of_the_next_prompt(
    opened: opening.Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[int]] = []
    real = speaking.reply

    def spy(model: Any, ids: list[int], *args: Any, **kwargs: Any) -> speaking.Reply:
        given.append(ids)
        return real(model, ids, *args, **kwargs)

    monkeypatch.setattr(speaking, "reply", spy)
    chat = Chat(opened, Manner(tokens=3, system="Be short."))
    talk(chat, "Привіт", "  ", "І що?")
    tok = opened.tokenizer
    wanted = [
        [{"role": "system", "content": "Be short."}, *chat.said[:1]],
        [{"role": "system", "content": "Be short."}, *chat.said[:3]],
    ]
    assert [tok.decode(ids) for ids in given] == [
        tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) for messages in wanted
    ]
    assert [one["role"] for one in chat.said] == ["user", "assistant"] * 2


def test_the_oldest_messages_are_left_out_with_a_note(
    opened: opening.Opened, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = Chat(opened, Manner(tokens=20))
    talk(chat, *[f"Number {number}: " + "tell me more of it, please" for number in range(6)])
    said = capsys.readouterr().err
    assert "the oldest 2 messages no longer fit and are left out" in said
    assert len(chat.said) == 12 and "Number 0" in chat.said[0]["content"], "nothing is lost of what was said"


def test_a_message_that_does_not_fit_at_all_does_not_end_the_chat(
    opened: opening.Opened, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = Chat(opened, Manner(tokens=5))
    talk(chat, "слово " * 100, "Short")
    said = capsys.readouterr().err
    assert "a reply needs some of them" in said and "say it in less" in said
    assert [one["content"] for one in chat.said[::2]] == ["Short"]


def test_reset_system_and_help(opened: opening.Opened, capsys: pytest.CaptureFixture[str]) -> None:
    chat = Chat(opened, Manner(tokens=2))
    talk(chat, "A", "/reset", "/system Say no.", "/help", "/nonsense", "B")
    said = capsys.readouterr().err
    assert [one["content"] for one in chat.said[::2]] == ["B"] and chat._manner.system == "Say no."
    assert "/save FILE.jsonl" in said and "/nonsense is no command" in said
    chat.take("/system")
    assert chat._manner.system is None


def test_a_saved_conversation_is_a_row_that_training_reads(
    opened: opening.Opened, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat, file = Chat(opened, Manner(tokens=8, system="Відповідай.")), tmp_path / "talk.jsonl"
    talk(chat, f"/save {file}", "Скажи щось", f"/save {tmp_path / 'talk.txt'}")
    chat.said[1]["content"] = "Щось"  # of the tiny model's replies many are blank
    talk(chat, f"/save {file}")
    (row,) = chat_rows([str(file)])
    assert row["messages"] == [{"role": "system", "content": "Відповідай."}, *chat.said]
    assert [one["content"] for one in chat.said] == ["Скажи щось", "Щось"]
    before = file.read_bytes()
    talk(chat, "/reset", "Other", f"/save {file}")
    said = capsys.readouterr().err
    assert file.read_bytes() == before and "is there already" in said
    assert "nothing was said yet" in said and "ends in .jsonl" in said


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_the_end_of_input_and_ctrl_c_at_the_prompt_leave(
    opened: opening.Opened, end: type[BaseException]
) -> None:
    talk(Chat(opened, Manner(tokens=2)), end=end)  # returns


def test_a_stopped_reply_stays_and_one_that_never_began_is_as_if_not_asked(
    opened: opening.Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"text": "half a", "interrupted": True, "finished": False, "tokens": 2, "seconds": 1.0}
    chat = Chat(opened, Manner())
    for text in ("half a", ""):
        made = speaking.Reply(prompt="", prompt_tokens=3, seconds_to_first=None, **{**found, "text": text})  # type: ignore[arg-type]
        monkeypatch.setattr(speaking, "reply", lambda *args, made=made, **kwargs: made)
        talk(chat, "Go on")
    assert [one["content"] for one in chat.said] == ["Go on", "half a"]


# The command


def run(monkeypatch: pytest.MonkeyPatch, *words: str, stdin: str = "") -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
    with pytest.raises(SystemExit) as left:
        cli.main(["generate", *words])
    return int(left.value.code or 0)


def test_into_a_pipe_goes_the_reply_alone(
    tied_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    opened: opening.Opened,
) -> None:
    wanted = speaking.reply(opened, speaking.ids_of(opened, "Say it", Manner()), Manner(tokens=7))
    assert run(monkeypatch, str(tied_llama), "Say", "it", "--tokens", "7") == 0
    out, err = capsys.readouterr()
    assert out == wanted.text.strip() + "\n"
    assert f"{wanted.tokens} tokens, " in err and "tokens/s, " in err and "characters/s, first after" in err
    assert run(monkeypatch, str(tied_llama), "--tokens", "7", "--json", stdin="Say it\n") == 0
    found = json.loads(capsys.readouterr().out)
    assert {k: found[k] for k in ("prompt", "text", "tokens")} == {
        "prompt": "Say it", "text": wanted.text, "tokens": wanted.tokens,
    }  # fmt: skip
    assert found.keys() >= {
        "characters",
        "seconds",
        "tokens_per_second",
        "characters_per_second",
        "seconds_to_first",
    }


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        ([], 2, "standard input is empty"),
        (["A", "--raw", "--parse"], 2, "a reply is laid out, a text is not"),
        (["A", "--raw", "--system", "B"], 2, "a text has no system"),
        (["A", "--top-p", "0.5", "--seed", "3"], 2, "--seed without --temperature"),
        (["A", "--compare"], 2, "does not say which base it was made from"),
        (["A", "--parse"], 5, "the model's replies have no layout"),
    ],
)
def test_what_does_not_go_together_is_said(
    words: list[str], code: int, expected: str, tied_llama: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert run(monkeypatch, str(tied_llama), *words) == code
    out, err = capsys.readouterr()
    assert expected in err and not out and "Traceback" not in err


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self._own, theirs = pty.openpty()
        self.process = subprocess.Popen(
            words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
            env=os.environ | {"TERM": "dumb", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        os.close(theirs)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._own, text.encode())

    def wait_for(self, what: Callable[[str], bool]) -> str:
        """What has appeared since the last time, as soon as it is so."""
        end = time.monotonic() + 240
        self.shown = ""
        while not what(self.shown):
            assert time.monotonic() < end, self.shown
            if select.select([self._own], [], [], 1.0)[0]:
                with contextlib.suppress(OSError):  # how Linux tells that the other side is closed
                    self.shown += os.read(self._own, 65536).decode("utf-8", "replace")
            if self.process.poll() is not None and not what(self.shown):
                break
        return self.shown


@pytest.fixture
def terminal(tied_llama: Path) -> Iterator[Terminal]:
    words = ["-c", "from fastvocab.cli import main; main()", "generate", str(tied_llama), "--tokens", "230"]
    found = Terminal(sys.executable, *words)
    yield found
    if found.process.poll() is None:
        os.killpg(found.process.pid, signal.SIGKILL)
    found.process.wait()


def test_ctrl_c_stops_a_reply_and_not_the_chat(terminal: Terminal) -> None:
    terminal.wait_for(lambda shown: "> " in shown)
    terminal.type("Tell me all of it\n")
    # a reply of 230 tokens has begun, in pieces, on the line after what was typed
    terminal.wait_for(lambda shown: len(shown.partition("all of it\r\n")[2]) > 20)
    terminal.type("\x03")
    said = terminal.wait_for(lambda shown: "> " in shown and "first after" in shown)
    assert "stopped" in said and "Traceback" not in said
    terminal.type("/system Щось\n")
    terminal.wait_for(lambda shown: shown.endswith("> "))
    terminal.type("\x04")
    assert terminal.process.wait(timeout=60) == 0
