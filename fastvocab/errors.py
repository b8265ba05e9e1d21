"""What a user can do wrong, as a small tree: one exit code for each kind.

A broken invariant of our own is an ``assert``; everything here is something that the person at the
keyboard can mend, so each error says what was found, the rule, and what to do.
"""

from __future__ import annotations


class FastvocabError(ValueError):
    """Base of all user errors.

    Args:
        message: what was found and where, with the value.
        rule: the rule that it breaks, if the message alone does not say it.
        fix: what to do about it, if possible as something that can be typed.
    """

    exit_code = 1

    def __init__(self, message: str, *, rule: str | None = None, fix: str | None = None) -> None:
        self.message, self.rule, self.fix = message, rule, fix
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """The error as printed: message, then rule, then what to do."""
        out = [self.message]
        if self.rule:
            out.append(f"  rule: {self.rule}")
        if self.fix:
            out.append(f"  do:   {self.fix}")
        return out


class ConfigError(FastvocabError):
    """A key or value in the configuration or on the command line."""

    exit_code = 2


class DataError(FastvocabError):
    """A corpus or chat file that cannot be read or holds nothing usable."""

    exit_code = 3


class ModelError(FastvocabError):
    """A base model or tokenizer that is missing or of a kind that cannot be extended."""

    exit_code = 4


class CheckpointError(FastvocabError):
    """A checkpoint or run folder that is damaged, foreign or does not fit its base."""

    exit_code = 5


class ResourceError(FastvocabError):
    """The machine: disk space, memory, a run folder in use by another process."""

    exit_code = 6


class DependencyError(FastvocabError):
    """A package of an optional extra that is not installed."""

    exit_code = 7


class TrainingError(FastvocabError):
    """Training that cannot go on, such as a loss that is not finite."""

    exit_code = 8


class Stopped(BaseException):
    """Ctrl-C or SIGTERM was obeyed and everything made so far is safe.

    Not an ``Exception``: a library's ``except Exception`` on the way must not swallow the wish to stop.
    The exit code is the shell's: 128 + signal number (130 for SIGINT, 143 for SIGTERM).
    """

    def __init__(self, signum: int, hint: str = "") -> None:
        self.signum, self.hint = signum, hint
        self.exit_code = 128 + signum
        super().__init__(f"stopped by signal {signum}")
