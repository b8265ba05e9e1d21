"""A conversation in the terminal: replies appear as they are made, and commands begin with a slash."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fastvocab import console, files
from fastvocab.cli.app import printable
from fastvocab.errors import ConfigError, FastvocabError

if TYPE_CHECKING:
    from fastvocab.model.open import Opened
    from fastvocab.model.speaking import Manner

COMMANDS = """\
/reset            forget what was said
/system TEXT      what the system says before the conversation; without TEXT nothing
/save FILE.jsonl  keep the conversation as a row of messages, which instruct.train reads
/quit             leave, as Ctrl-D does; Ctrl-C stops a reply"""

#: Of the context, what is left for a reply at the least, where the longest reply would take more.
_ROOM = 64


def show(text: str) -> None:
    """A piece of a reply, on standard output at once."""
    sys.stdout.write(printable(text))
    sys.stdout.flush()


class Chat:
    """A conversation with a model.

    Attributes:
        said: all messages but the system's, also those that no longer fit the model's context.
    """

    def __init__(self, opened: Opened, manner: Manner) -> None:
        self._opened, self._manner = opened, manner
        self.said: list[dict[str, str]] = []

    def loop(self, read: Callable[[str], str] = input) -> None:
        """Talk until the person leaves; nothing that goes wrong in one turn ends the conversation.

        Args:
            read: shows a prompt and gives a line, as ``input`` does.
        """
        with suppress(ImportError):  # the line editor and its history, where Python has them
            import readline  # noqa: F401
        console.say(f"{self._opened.name}. /help shows the commands", style="dim")
        while True:
            try:
                line = read("> ").strip()
            except (EOFError, KeyboardInterrupt):
                sys.stdout.write("\n")
                return
            if line == "/quit":
                return
            if line:
                try:
                    self.take(line)
                except FastvocabError as error:
                    console.fail(error.lines())

    def take(self, line: str) -> None:
        """One line of the person: a command, or what is said to the model."""
        if not line.startswith("/"):
            self.answer(line)
            return
        command, _, rest = line[1:].partition(" ")
        if command == "reset":
            self.said = []
        elif command == "system":
            self._manner = replace(self._manner, system=rest.strip() or None)
        elif command == "save":
            self.save(rest.strip())
        elif command == "help":
            console.say(COMMANDS)
        else:
            raise ConfigError(f"/{command} is no command; there are:\n{COMMANDS}")

    def answer(self, line: str) -> None:
        """Say something, show the reply, and keep both."""
        from fastvocab.model import speaking

        question = {"role": "user", "content": line}
        ids, dropped = self._fitting([*self.said, question])
        if dropped:
            console.say(f"(the oldest {dropped} messages no longer fit and are left out)", style="dim")
        found = speaking.reply(self._opened, ids, self._manner, prompt=line, show=show)
        sys.stdout.write("\n")
        console.say(found.line(), style="dim")
        if found.text:  # a reply that was stopped before it began is as if nothing had been asked
            self.said += [question, {"role": "assistant", "content": found.text}]

    def _fitting(self, messages: list[dict[str, str]]) -> tuple[list[int], int]:
        """Ids of the newest messages that leave room for a reply, and how many older ones are not among them."""
        from fastvocab.model import speaking

        system = [{"role": "system", "content": self._manner.system}] if self._manner.system else []
        room = self._opened.context - min(self._manner.tokens, max(_ROOM, self._opened.context // 4))
        for dropped in range(0, len(messages), 2):  # a question goes with its answer
            ids = speaking.ids_of(self._opened, [*system, *messages[dropped:]], self._manner)
            if len(ids) <= room:
                return ids, dropped
        raise ConfigError(
            f"that has {len(ids):,} tokens",
            rule=f"{self._opened.name} takes {self._opened.context:,}, and a reply needs some of them",
            fix="say it in less",
        )

    def save(self, name: str) -> None:
        """Keep the conversation in a file that is not there yet."""
        path = Path(name).expanduser()
        if not self.said:
            raise ConfigError("nothing was said yet")
        if path.suffix != ".jsonl":
            raise ConfigError(
                f"/save {name}".rstrip(), rule="/save FILE.jsonl", fix="name a file that ends in .jsonl"
            )
        if path.exists():
            raise ConfigError(f"{path} is there already", fix="name another file")
        if not path.absolute().parent.is_dir():
            raise ConfigError(f"there is no folder {path.absolute().parent}")
        system = [{"role": "system", "content": self._manner.system}] if self._manner.system else []
        row = json.dumps({"messages": [*system, *self.said]}, ensure_ascii=False)
        files.write_text(path, row + "\n")
        console.say(f"saved in {path}")
