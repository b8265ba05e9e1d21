"""How OpenMP's threads wait: asleep beside other programs, and as the user says where one says it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

LOOK = "import os; from fastvocab.model import backend; backend.sleep_beside_others()"
ASK = LOOK + "; print(os.environ.get('OMP_WAIT_POLICY'))"


def _policy(program: str = ASK, **given: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def busy() -> Iterator[None]:
    others = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)
    ]
    yield
    for other in others:
        other.kill()
        other.wait()


@pytest.mark.usefixtures("busy")
def test_threads_sleep_beside_other_programs() -> None:
    assert _policy() == "PASSIVE"


@pytest.mark.usefixtures("busy")
def test_what_the_user_says_stays() -> None:
    assert _policy(OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"
    # too late: the threads are there
    assert _policy(f"import torch; {ASK}") == "None"
