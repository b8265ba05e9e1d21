"""The stage as a whole: its files, its figures, and corpora that are not as one would wish."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer

from fastvocab.errors import DataError
from fastvocab.tokenizer.stage import build
from tests.conftest import sentences, write_jsonl
from tests.tokenizer.conftest import letters, made_up


def make(
    base: Path, folder: Path, lines: list[str], held: list[str] | None = None, **more: Any
) -> dict[str, Any]:
    """Figures of an extension with its files in ``folder / "out"``."""
    cut = len(lines) * 9 // 10
    out = folder / "out"
    out.mkdir(parents=True)
    train = write_jsonl(folder / "train.jsonl", lines[:cut] if held is None else lines)
    heldout = write_jsonl(folder / "held.jsonl", lines[cut:] if held is None else held)
    return build(base, train, out, heldout=heldout, **{"new_tokens": 150, "seed": 5} | more)


@pytest.fixture(scope="module")
def ukrainian(gpt2_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("stage")
    return folder, make(gpt2_base, folder, sentences(200), max_bytes=30_000)


def test_merge_json_holds_what_is_returned_and_every_figure(
    ukrainian: tuple[Path, dict[str, Any]], gpt2_base: Path
) -> None:
    folder, figures = ukrainian
    assert json.loads((folder / "out" / "merge.json").read_text(encoding="utf-8")) == figures
    assert figures["new_tokens"] == figures["new_tokens_asked"] == 150
    held = figures["heldout"]
    for name in ("base", "extended", "fresh"):
        assert held[name]["tokens_per_word"] > 0 and held[name]["bytes_per_token"] > 0
    floors = [figures["pretokenizer"][name] for name in ("floor_before", "floor_after")]
    assert all(floor["unit"] == "word" and floor["tokens"] >= 1 for floor in floors)
    detail = {proof["name"]: proof["detail"] for proof in figures["proofs"]}
    assert detail["new_tokens_reachable"]["unreachable"] == 0
    assert detail["other_text_identical"]["lines_changed"] == 0
    assert detail["round_trip_exact"]["heldout_exact"] == detail["round_trip_exact"]["heldout_lines"] == 20
    assert figures["unreachable"] == figures["changed_lines"] == 0
    assert figures["round_trip"] == {"heldout_lines": 20, "heldout_exact": 20}
    assert figures["passed_over"]["never fire"] >= 0
    seconds = figures["seconds"]
    parts = sum(number for name, number in seconds.items() if name != "total")
    assert parts == pytest.approx(seconds["total"], abs=0.05) and figures["peak_memory_mb"] > 50
    assert figures["trained"]["bytes"] <= 30_000 < figures["trained"]["corpus_bytes"]
    assert {one["method"] for one in figures["methods"]} == {"continued", "sentencepiece"}


def test_figures_are_those_of_the_written_files(
    ukrainian: tuple[Path, dict[str, Any]], gpt2_base: Path
) -> None:
    folder, figures = ukrainian
    held = [json.loads(line)["text"] for line in (folder / "held.jsonl").read_text().splitlines()]
    words = sum(len(text.replace("'", " ").split()) for text in held)
    for name, place in (("base", gpt2_base), ("extended", folder / "out")):
        tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
        tokens = sum(len(tokenizer.encode(text).ids) for text in held)
        assert figures["heldout"][name]["tokens"] == tokens
        assert figures["heldout"][name]["words"] == words
        assert figures["heldout"][name]["bytes_per_token"] == pytest.approx(
            sum(len(text.encode()) for text in held) / tokens, abs=1e-4
        )
    fresh = figures["heldout"]["fresh"]
    assert fresh["tokens"] < figures["heldout"]["base"]["tokens"] / 2
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "out" / "sentencepiece.model"))
    assert model.get_piece_size() > 150
    curve = figures["methods"][0]["curve"]
    assert list(map(int, curve)) == sorted(map(int, curve)) and "150" in curve
    assert list(curve.values()) == sorted(curve.values(), reverse=True)


def test_the_same_seed_gives_the_same_files_in_another_process(
    ukrainian: tuple[Path, dict[str, Any]], gpt2_base: Path, tmp_path: Path
) -> None:
    folder, figures = ukrainian
    (tmp_path / "out").mkdir()
    code = (
        "import sys; from pathlib import Path; from fastvocab.tokenizer.stage import build\n"
        "base, train, held, out = map(Path, sys.argv[1:])\n"
        "build(base, train, out, heldout=held, new_tokens=150, seed=5, max_bytes=30_000)"
    )
    paths = (gpt2_base, folder / "train.jsonl", folder / "held.jsonl", tmp_path / "out")
    subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)],
        env=os.environ | {"PYTHONHASHSEED": "12345"},
        check=True,
        capture_output=True,
    )
    names = sorted(path.name for path in (folder / "out").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "out").iterdir())
    for name in set(names) - {"merge.json"}:
        assert (folder / "out" / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name
    again = json.loads((tmp_path / "out" / "merge.json").read_text(encoding="utf-8"))
    assert again["heldout"] == figures["heldout"] and again["proofs"] == figures["proofs"]


def test_what_never_fires_is_counted_on_the_text_as_it_is_encoded(gpt2_base: Path, tmp_path: Path) -> None:
    lines = sentences(80)
    figures = make(gpt2_base, tmp_path, lines, new_tokens=200)
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    new = set(range(figures["old_size"], figures["new_size"]))
    for name, part in (("in_training_text", lines[:72]), ("in_heldout_text", lines[72:])):
        used = {i for line in part for i in tokenizer.encode(line).ids}
        assert figures["never_fired"][name] == len(new - used)


def test_as_many_as_pay_on_a_small_text(gpt2_base: Path, tmp_path: Path) -> None:
    figures = make(gpt2_base, tmp_path, sentences(100), new_tokens="auto", method="continued")
    assert 100 < figures["new_tokens"] < 1000 and figures["fewer_because"] is None
    assert figures["new_tokens_asked"] == "auto"
    assert figures["methods"][0]["size_because"] == "the text supports no more"
    assert figures["heldout"]["extended"]["tokens_per_word_alone"] < 1.2


def test_a_single_repeated_line_is_learnt_whole(gpt2_base: Path, tmp_path: Path) -> None:
    line = "Мова є найважливішим засобом людського спілкування."
    figures = make(gpt2_base, tmp_path, [line] * 50, new_tokens=400)
    assert figures["fewer_because"] and "instead of 400" in figures["fewer_because"]
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert len(tokenizer.encode(line).ids) == 7  # six words and the full stop


SERBIAN = [
    "Љубав је најлепша ствар на овом свету, каже песник.",
    "Ljubav je najlepša stvar na ovom svetu, kaže čašćenik žđ.",
]


def test_a_corpus_of_two_scripts_gets_tokens_in_both(
    fallback_base: Path, gpt2_base: Path, tmp_path: Path
) -> None:
    lines = [" ".join(line.split()[n % 5 :] + line.split()[: n % 3]) for n in range(60) for line in SERBIAN]
    figures = make(gpt2_base, tmp_path, lines, new_tokens=60)
    assert figures["scripts"] == ["Cyrl", "Latn"]
    rows = [
        json.loads(row)["text"] for row in (tmp_path / "out" / "new_tokens.jsonl").read_text().splitlines()
    ]
    latin = [text for text in rows if text and any("a" <= char <= "z" for char in text)]
    assert latin and all(set(text) & set("šžčćđŠŽČĆĐ") for text in latin)
    assert any(text and set(text) & set("љњђбсв") for text in rows)
    one, two = (Tokenizer.from_file(str(f / "tokenizer.json")) for f in (gpt2_base, tmp_path / "out"))
    for line in ("The quick brown fox.", "Café society in São Paulo", "stvar na ovom"):
        assert one.encode(line).ids == two.encode(line).ids


def test_japanese_gets_pieces_of_a_few_characters_in_three_scripts(qwen_base: Path, tmp_path: Path) -> None:
    kana = letters(0x3042, 0x3093)
    lines = ["".join(parts) for parts in zip(
        made_up(kana, space=""), made_up(letters(0x4E00, 0x4E40), space="", seed=2),
        made_up(letters(0x30A2, 0x30F3), space="", seed=3))]  # fmt: skip
    figures = make(qwen_base, tmp_path, lines, new_tokens=500)
    assert figures["scripts"] == ["Hani", "Hira", "Kana"]
    assert figures["pretokenizer"]["floor_before"]["unit"] == "character"
    rows = [
        json.loads(row)["text"] for row in (tmp_path / "out" / "new_tokens.jsonl").read_text().splitlines()
    ]
    assert 2 <= max(len(text) for text in rows if text) <= 6
    assert (
        figures["heldout"]["extended"]["tokens_per_character"]
        < 0.5 * figures["heldout"]["base"]["tokens_per_character"]
    )


def test_held_out_text_without_the_target_script_is_no_obstacle(gpt2_base: Path, tmp_path: Path) -> None:
    held = ["Plain English only.", "And nothing else."]
    figures = make(gpt2_base, tmp_path, sentences(60), held=held, new_tokens=50)
    assert figures["new_tokens"] == 50
    assert figures["heldout"]["base"]["tokens"] == figures["heldout"]["extended"]["tokens"]


def test_a_number_below_one_is_refused(gpt2_base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="new_tokens is 0"):
        make(gpt2_base, tmp_path, sentences(10), new_tokens=0)


def test_a_text_whose_pieces_all_exist_is_refused(gpt2_base: Path, tmp_path: Path) -> None:
    lines = ["слово"] * 20
    make(gpt2_base, tmp_path / "first", lines, new_tokens=50)
    with pytest.raises(DataError, match=r"no new token can be added|supports no new"):
        make(tmp_path / "first" / "out", tmp_path / "second", lines, new_tokens=50)
