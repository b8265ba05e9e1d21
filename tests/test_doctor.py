"""What `fastvocab doctor` finds, on this machine and on ones that are made up of files."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from fastvocab import cli, doctor
from fastvocab.doctor import builds, known_bad, machine, packages

SECRET = "hf_abcdefghijklmnopqrstuvwx"


def package(root: Path, name: str, version: str, *, requires: tuple[str, ...] = (), **files: str) -> None:
    """An installed package, as far as its metadata and a few files go."""
    info = root / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [f"Requires-Dist: {line}" for line in requires]
    text = "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines]) + "\n"
    (info / "METADATA").write_text(text)
    for file, content in files.items():
        path = root / name / file.replace("__", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)


def gpu(folder: Path, monkeypatch: pytest.MonkeyPatch, said: str, code: int = 0) -> None:
    """An nvidia-smi: this machine has no GPU."""
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'E'\n{said}\nE\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


T4 = "Tesla T4, 15360, 14913, 535.104.05, 7.5"


def by_name(name: str) -> list[doctor.Check]:
    return [check for check in doctor.checks() if check.name == name]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left:
        cli.main(["doctor", *words])
    return int(left.value.code or 0), capsys.readouterr().out


def test_versions_are_those_of_the_metadata(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "--json")
    found = json.loads(out)
    shown = {check["name"]: check for check in found["checks"]}
    for name in ("unsloth", "torch", "transformers", "peft", "trl", "tokenizers", "sentencepiece"):
        assert shown[name]["value"] == metadata.version(name) and shown[name]["state"] == "ok"
    assert (
        found["ok"]
        == (code == 0)
        == (not {"missing", "wrong"} & {check["state"] for check in found["checks"]})
    )
    assert code == 0, [check for check in found["checks"] if check["state"] not in ("ok", "note")]
    assert shown["extra demo"]["state"] == "ok" and shown["embedded default"]["state"] == "ok"


def test_the_table_has_a_line_for_each_and_the_command_below(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    _, out = run(capsys)
    lines = out.splitlines()
    row = next(number for number, line in enumerate(lines) if " HF_TOKEN " in line)
    assert lines[row].startswith("note ") and lines[row + 1].strip() == "do: hf auth login"
    assert all(re.match(r"(ok|note|missing|wrong) +\S| +do: ", line) for line in lines)


def test_a_token_is_never_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    for words in ((), ("--json",)):
        _, out = run(capsys, *words)
        assert "HF_TOKEN" in out and SECRET not in out


@pytest.mark.parametrize("pair", known_bad.PAIRS, ids=lambda pair: f"{pair.one} with {pair.other}")
def test_a_known_pair_names_real_requirements_and_its_source(pair: known_bad.Pair) -> None:
    for text in (pair.one, pair.other):
        assert Requirement(text).specifier, "a version that is good must be possible"
    assert re.match(r"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+$", pair.source)
    assert pair.do.split()[0] == "pip" and pair.happens


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        ({"peft": "0.17.1", "transformers": "5.2.0"}, {"peft": "0.18.0"}),
        ({"peft": "0.19.1", "torchao": "0.10.0"}, {"torchao": "0.16.0"}),
        ({"torchao": "0.18.0", "torch": "2.9.1+cu128"}, {"torch": "2.11.0"}),
        ({"bitsandbytes": "0.45.0", "triton": "3.2.0"}, {"bitsandbytes": "0.45.5"}),
        ({"torch": "2.6.0", "torchvision": "0.23.0"}, {"torch": "2.8.0+cu128"}),
        ({"torch": "2.14.1+cpu", "torchvision": "0.28.0+cpu"}, {"torchvision": "0.29.2+cpu"}),
        ({"typer": "0.15.2", "click": "8.2.1"}, {"click": "8.1.8"}),
        ({"jinja2": "3.0.3", "transformers": "5.17.0"}, {"jinja2": "3.1.6"}),
    ],
)
def test_a_pair_is_found_where_both_are_so_and_nowhere_else(
    bad: dict[str, str], good: dict[str, str]
) -> None:
    def found(installed: dict[str, str]) -> list[known_bad.Pair]:
        return [pair for pair in known_bad.PAIRS if pair.found(installed.get)]

    assert len(found(bad)) == 1 and not found(bad | good) and not found({})
    for name in bad:
        assert not found({other: version for other, version in bad.items() if other != name})


def test_what_a_package_says_of_others_is_believed() -> None:
    installed = {"unsloth": "2026.10.9", "transformers": "5.18.0", "trl": "1.15.0", "certifi": "2020.1.1"}
    found = list(packages.conflicts(("unsloth",), installed.get))
    asked = next(one for one in packages.requirements("unsloth") if one.name == "transformers")
    assert not asked.specifier.contains("5.18.0"), "the cap of the unsloth that is installed here"
    assert [what for what, _ in found] == [
        f"unsloth 2026.10.9 asks for transformers{asked.specifier}, and 5.18.0 is installed"
    ]
    assert found[0][1].startswith("pip install 'transformers")


def test_packages_that_are_missing_or_too_old_are_named_with_their_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = (
        "unsloth>=2999.1",
        "nowhere-to-be-found>=3",
        'also-nowhere; extra == "demo"',
        'torch; extra == "demo"',
    )
    package(tmp_path, "fastvocab", "9.9", requires=wanted)
    text = (tmp_path / "fastvocab-9.9.dist-info" / "METADATA").read_text()
    (tmp_path / "fastvocab-9.9.dist-info" / "METADATA").write_text(text + "Provides-Extra: demo\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = {check.name: check for check in doctor.checks()}
    assert found["unsloth"].state == "wrong" and found["unsloth"].fix == "pip install 'unsloth>=2999.1'"
    assert found["nowhere-to-be-found"].state == "missing"
    assert found["nowhere-to-be-found"].fix == "pip install 'nowhere-to-be-found>=3'"
    assert found["extra demo"].state == "note" and found["extra demo"].value.startswith(
        "without also-nowhere"
    )
    assert found["extra demo"].fix == "pip install 'fastvocab[demo]'"
    assert not doctor.is_well(list(found.values()))


CUDA = "__version__ = '2.14.1+cu130'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n"
CPU = "__version__ = '2.14.1+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n"
ROCM = "__version__ = '2.14.1+rocm7.1'\ncuda: Optional[str] = None\nhip: Optional[str] = '7.1.2'\n"


@pytest.mark.parametrize(
    ("text", "target", "cuda"), [(CUDA, "CUDA 13.0", 13), (CPU, "CPU", None), (ROCM, "ROCm 7.1.2", None)]
)
def test_a_build_is_read_from_its_files(
    text: str, target: str, cuda: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "torch", "2.14.1", version__py=text)
    monkeypatch.syspath_prepend(tmp_path)
    found = builds.of("torch")
    assert found is not None and (found.target, found.cuda) == (target, cuda)


def test_the_build_that_is_here_is_what_torch_says_of_itself() -> None:
    import torch

    found = builds.of("torch")
    assert found is not None and found.version == torch.__version__
    assert found.target == (f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU")


def test_a_cpu_build_beside_a_gpu_is_wrong_and_ends_with_7(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package(tmp_path / "site", "torch", "2.14.1+cpu", version__py=CPU)
    monkeypatch.syspath_prepend(tmp_path / "site")
    gpu(tmp_path / "bin", monkeypatch, T4)
    code, out = run(capsys)
    assert code == 7
    assert re.search(r"^wrong +torch build .*beside an NVIDIA GPU, which it cannot use", out, re.MULTILINE)
    assert re.search(r"^ok +gpu 0 +Tesla T4, 14\.6 GiB free of 15\.0 GiB, driver 535", out, re.MULTILINE)
    assert re.search(r"^ok +bfloat16 +not in hardware; float16 is used", out, re.MULTILINE)
    # and torchvision of the environment is for CUDA
    assert "operator torchvision::nms does not exist" in out


def test_a_driver_that_is_too_old_for_the_build_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path / "site", "torch", "2.14.1", version__py=CUDA)
    monkeypatch.syspath_prepend(tmp_path / "site")
    gpu(tmp_path / "bin", monkeypatch, T4)
    (check,) = by_name("torch build")
    assert check.state == "wrong" and "needs driver 580 or newer, and this is 535.104.05" in check.value
    newer = [machine.Gpu("L4", 23034, 22000, "580.82.07", (8, 9))]
    torch = builds.of("torch")
    assert torch is not None and doctor._torch_build(newer, torch).state == "ok" and newer[0].bfloat16


def test_an_nvidia_smi_that_fails_is_said_as_it_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu(tmp_path / "bin", monkeypatch, "Failed to initialize NVML: Driver/library version mismatch", 18)
    (check,) = by_name("gpu")
    assert check.state == "wrong" and "Driver/library version mismatch" in check.value


def test_an_unsloth_without_a_cpu_backend_is_wrong_where_there_is_no_gpu() -> None:
    old = {"unsloth": "2026.10.7"}.get
    (check,) = [c for c in doctor._together([], old) if c.state == "wrong"]
    assert check.fix == "pip install -U unsloth unsloth_zoo" and "without a GPU" in check.value
    assert not [
        c for c in doctor._together([machine.Gpu("T4", 1, 1, "580.1", (7, 5))], old) if c.state == "wrong"
    ]


def test_a_cache_that_cannot_be_written_to_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVOCAB_CACHE", str(tmp_path / "deep" / "cache"))
    assert by_name("cache")[0].state == "ok" and not (tmp_path / "deep").exists(), "looked at, not made"
    monkeypatch.setattr(machine.os, "access", lambda *_: False)  # root may write anywhere
    assert by_name("cache")[0].state == "wrong" and "FASTVOCAB_CACHE=DIR" in by_name("cache")[0].fix


def test_a_network_that_is_switched_off_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert by_name("HF_HUB_OFFLINE")[0].fix == "unset HF_HUB_OFFLINE"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert not by_name("HF_HUB_OFFLINE")
