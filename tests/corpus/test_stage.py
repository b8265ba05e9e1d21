"""The stage from files to splits: figures, stability, and what it says when little is left."""

import hashlib
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastvocab.corpus import stage
from fastvocab.corpus.stage import build
from fastvocab.errors import ConfigError, DataError, ResourceError

UKRAINIAN = [f"Це речення має номер {n} і більше нічого." for n in range(600)]
ENGLISH = [f"This sentence has the number {n} and nothing else." for n in range(300)]


def made(folder: Path, **options: Any) -> tuple[dict[str, list[str]], dict[str, Any]]:
    folder.mkdir()
    figures = build(folder, **options)
    splits = {
        path.stem: [json.loads(line).get("text") for line in path.read_text("utf-8").splitlines()]
        for path in folder.iterdir()
    }
    return splits, json.loads(json.dumps(figures, allow_nan=False))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "uk.txt").write_text("\n".join(UKRAINIAN), encoding="utf-8")
    (folder / "en.txt").write_text("\n".join(ENGLISH), encoding="utf-8")
    return folder


def test_splits_and_figures_of_a_mixed_corpus(data: Path, tmp_path: Path) -> None:
    noise = ["Так.", UKRAINIAN[3], "1 2 3 4 5 6 7 8 9 10 11", ENGLISH[0], "погано \ufffd\ufffd прочитано"]
    (data / "noise.txt").write_text("\n".join(noise), encoding="utf-8")
    splits, figures = made(
        tmp_path / "out",
        train=[f"{data}/uk.txt", f"{data}/noise.txt"],
        replay=f"{data}/en.txt",
        language="uk",
    )
    assert sorted(splits["train"] + splits["heldout"]) == sorted(UKRAINIAN)
    assert sorted(splits["replay"] + splits["replay_heldout"]) == sorted(ENGLISH)
    one_each = ("too_short", "duplicate", "not_text", "wrong_script", "replacement_characters")
    assert figures["dropped"] == dict.fromkeys(one_each, 1)
    assert figures["target_scripts"] == ["Cyrl"] and figures["scripts"] == {"Cyrl": 1.0}
    assert figures["replay_scripts"] == {"Latn": 1.0}
    for name in ("train", "heldout", "replay", "replay_heldout"):
        assert figures[name] == {
            "documents": len(splits[name]),
            "characters": sum(map(len, splits[name])),
            "bytes": sum(len(text.encode()) for text in splits[name]),
        }
    dropped = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert {row["reason"]: row["source"] for row in dropped}["wrong_script"] == f"{data}/noise.txt:4"
    assert figures["read_bytes"] == sum(path.stat().st_size for path in data.iterdir())


def test_order_and_files_change_neither_split(data: Path, tmp_path: Path) -> None:
    first, figures = made(tmp_path / "first", train=f"{data}/uk.txt", heldout=0.1)
    shuffled = random.Random(1).sample(UKRAINIAN, len(UKRAINIAN))
    other = tmp_path / "other"
    other.mkdir()
    for number in range(6):
        rows = [json.dumps({"body": text + "  \r\n"}) for text in shuffled[number::6]]
        (other / f"{number}.jsonl").write_text("\n".join(rows))
    second, _ = made(tmp_path / "second", train=str(other), text_key="body", heldout=0.1)
    assert set(first["heldout"]) == set(second["heldout"]) and set(first["train"]) == set(second["train"])
    # and they are what the written rule says, computed here by itself
    digests = {text: int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) / 2**64 for text in UKRAINIAN}
    assert set(first["heldout"]) == {text for text, position in digests.items() if position < 0.1}
    assert figures["heldout_share"] == 0.1


def test_thirty_documents_have_a_held_out_split(data: Path, tmp_path: Path, capsys: Any) -> None:
    (data / "few.txt").write_text("\n".join(UKRAINIAN[:30]), encoding="utf-8")
    splits, figures = made(tmp_path / "out", train=f"{data}/few.txt")
    assert 3 <= len(splits["heldout"]) <= 15
    assert sorted(splits["train"] + splits["heldout"]) == sorted(UKRAINIAN[:30])
    assert figures["heldout"]["documents"] == len(splits["heldout"])
    assert f"heldout={figures['heldout_share']:.3g}" in capsys.readouterr().err
    assert set(splits) == {"train", "heldout", "replay", "replay_heldout", "dropped"}  # nothing temporary


def test_a_single_document_is_trained_on_with_a_warning(data: Path, tmp_path: Path, capsys: Any) -> None:
    splits, figures = made(tmp_path / "out", train=f"{data}/uk.txt", unit="file")
    assert splits["train"] == ["\n".join(UKRAINIAN)] and not splits["heldout"]
    assert figures["heldout_share"] == 0 and "too few documents (1)" in capsys.readouterr().err


def test_a_language_in_another_script_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        made(tmp_path / "out", train=f"{data}/en.txt", language="uk")
    message = str(caught.value)
    assert "language uk is written in Cyrl, but the letters of the corpus are 100% Latn" in message
    assert "0 of 300 documents are left" in message and "uk-Latn" in message


def test_much_foreign_text_is_dropped_with_a_warning(data: Path, tmp_path: Path, capsys: Any) -> None:
    splits, figures = made(tmp_path / "out", train=str(data), language="uk")
    assert figures["dropped"] == {"wrong_script": 300}
    assert "300 of 900 documents are dropped" in capsys.readouterr().err
    assert sorted(splits["train"] + splits["heldout"]) == sorted(UKRAINIAN)


def test_nothing_left_tells_the_counts_by_reason(data: Path, tmp_path: Path) -> None:
    (data / "bad.txt").write_text("так\nні\n\n12345678901234\n")
    with pytest.raises(DataError) as caught:
        made(tmp_path / "out", train=f"{data}/bad.txt", unit="line")
    for words in ("nothing is left of 3 documents", "2 too_short", "1 not_text", "corpus.min_chars"):
        assert words in str(caught.value)


def test_samples_of_the_dropped_are_bounded_and_odd_text_can_be_written(data: Path, tmp_path: Path) -> None:
    rows = [json.dumps(f"половинка {n} \ud83d " + "х" * 1000) for n in range(500)]
    (data / "odd.jsonl").write_text("\n".join([*rows, json.dumps(UKRAINIAN[0])]))
    _, figures = made(tmp_path / "out", train=f"{data}/odd.jsonl")
    kept = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert figures["dropped"] == {"not_text": 500}
    assert len(kept) == stage.DROPPED_KEPT and max(len(row["text"]) for row in kept) == 200
    assert kept[0]["text"].startswith("половинка 0 \ud83d")


def test_missing_replay_is_found_before_the_corpus_is_read(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        made(tmp_path / "out", train=f"{data}/uk.txt", replay="nowhere.txt")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "wrong", [{"heldout": 0.9}, {"unit": "page"}, {"language": "x y"}, {"min_chars": -1}]
)
def test_wrong_settings_are_config_errors(wrong: dict[str, Any], data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        made(tmp_path / "out", train=f"{data}/uk.txt", **wrong)


def test_too_little_disk_is_found_before_anything_is_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(path.stat().st_size for path in data.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=size - 1))
    with pytest.raises(ResourceError, match="the corpus needs"):
        made(tmp_path / "out", train=str(data))
    assert not list((tmp_path / "out").iterdir())


def test_the_embedded_default_names_its_packages_and_licences(tmp_path: Path, capsys: Any) -> None:
    splits, figures = made(
        tmp_path / "out", train="package:ua-gec", replay="package:pydoc-topics", language="uk"
    )
    assert [(r["name"], r["licence"]) for r in figures["packages"]] == [
        ("ua-gec", "CC-BY-4.0"),
        ("pydoc-topics", "PSF-2.0"),
    ]
    assert "ua-gec 2.1.3, CC-BY-4.0" in capsys.readouterr().err
    assert figures["train"]["bytes"] + figures["heldout"]["bytes"] > 4_700_000
    assert figures["scripts"]["Cyrl"] > 0.98 and splits["replay_heldout"]


def test_the_stage_needs_neither_torch_nor_transformers(data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    script = (
        "import sys; from pathlib import Path; from fastvocab.corpus import chat, stage;"
        "light = {'datasets', 'pyarrow', 'numpy', 'torch'} & set(sys.modules);"
        f"stage.build(Path({str(tmp_path / 'out')!r}), train={str(data)!r});"
        "print(light, {'torch', 'transformers', 'unsloth'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set() set()"
