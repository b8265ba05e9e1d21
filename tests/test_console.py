"""Secrets appear nowhere; library noise stays off standard output."""

from __future__ import annotations

import logging

import pytest

from fastvocab import console, processes


def test_secrets_are_hidden_in_lines_errors_and_logs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "abcd1234efgh5678")
    console.say("token abcd1234efgh5678 and hf_abcdefghijklmnopqrstuv")
    console.fail(["bad request with abcd1234efgh5678"])
    console.setup_logging(verbose=True)
    logging.getLogger("fastvocab").warning("sent %s", "abcd1234efgh5678")
    out = capsys.readouterr()
    assert "abcd1234efgh5678" not in out.out + out.err
    assert "hf_abcdefghij" not in out.err
    assert out.err.count("***") == 4


def test_what_libraries_print_does_not_reach_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    console.setup_logging()
    with console.quiet():
        print("Unsloth banner")
        with console.quiet():
            console.say("our own progress")
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "our own progress\n"


def test_other_processes_than_the_first_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert not processes.is_main()
    monkeypatch.setenv("RANK", "0")
    assert processes.is_main()
