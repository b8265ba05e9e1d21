"""Items as tokens, on a made-up shop whose next item follows from the last one, through the command line."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import random
from pathlib import Path

import pytest

from fastvocab.items.mapping import ItemTokens
from fastvocab.recipes import item_tokens
from fastvocab.run import read_records

ITEMS = 40


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Who buys item n buys n + 1 next, nine times in ten."""
    folder, draw = tmp_path_factory.mktemp("shop"), random.Random(0)
    with (folder / "log.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["who", "what", "when"])
        for user in range(150):
            item = draw.randrange(ITEMS)
            for step in range(draw.randint(5, 20)):
                out.writerow([f"u{user}", f"i{item}", step])
                item = (item + 1) % ITEMS if draw.random() < 0.9 else draw.randrange(ITEMS)
    with (folder / "items.jsonl").open("w", encoding="utf-8") as file:
        for item in range(ITEMS):
            file.write(json.dumps({"what": f"i{item}", "title": f"Thing number {item}"}) + "\n")
    return folder


def arguments(base: Path, shop: Path, runs: Path, *more: str) -> list[str]:
    return [
        f"model.base={base}", f"runs={runs}", "name=shop", f"corpus.items.interactions={shop / 'log.csv'}",
        f"corpus.items.catalogue={shop / 'items.jsonl'}", "corpus.items.user=who", "corpus.items.item=what",
        "corpus.items.time=when", "tokenizer.items.codebook=6", "pretrain.layers=full", "pretrain.embeddings=full",
        "pretrain.block=64", "pretrain.batch=16", "pretrain.steps=150", "pretrain.learning_rate=3e-3",
        "pretrain.embedding_learning_rate=3e-3", "pretrain.new_rows_learning_rate=3e-3", "evaluate.items.top=5",
        "evaluate.items.beams=10", "evaluate.items.bar_seen=false", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tied_llama: Path, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        assert item_tokens.main(arguments(tied_llama, shop, runs)) == 0
    assert "fastvocab recommend" in said.getvalue()
    return runs / "shop"


def test_the_next_item_is_learnt_and_every_recommendation_exists(finished: Path) -> None:
    figures = read_records(finished)["evaluate"].figures
    found = {name: p["recommendations"]["recall@5"]["value"] for name, p in figures["points"].items()}
    assert found["pretrain"] > 0.6 > found["popularity"], "nine in ten follow from the last item"
    assert figures["points"]["pretrain"]["recommended"] == 150 * 5
    low = figures["compared"]["popularity"]["recall@5"]["low"]
    assert low > 0.2, "by a clear margin"


def test_the_map_reads_both_ways_and_lies_beside_the_export(finished: Path) -> None:
    from transformers import AutoTokenizer

    mapping = ItemTokens.read(finished / "70-export" / "item_tokens.json")
    assert len(mapping.items) == ITEMS
    tok = AutoTokenizer.from_pretrained(finished / "70-export")
    for item in mapping.items:
        spelt = "".join(mapping.of_item(item))
        ids = tok(spelt, add_special_tokens=False)["input_ids"]
        assert mapping.item_of(tok.convert_ids_to_tokens(ids)) == item and len(ids) == mapping.levels


def test_the_records_speak_of_items(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "Recall@5" in page and "40 items" in page and "new language" not in page.split("</header>")[0]
    assert tuple(read_records(finished)) == (
        "corpus",
        "tokenizer",
        "extend",
        "pretrain",
        "evaluate",
        "export",
    )
    log = [json.loads(line) for line in (finished / "40-pretrain" / "log.jsonl").read_text().splitlines()]
    losses = [entry["heldout_loss"] for entry in log if "heldout_loss" in entry]
    assert losses and losses[-1] < losses[0]


def test_recommend_answers_with_scores(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fastvocab.items.serve import next_items

    found = next_items(finished, ["i3", "i4", "i5"], count=5, bar_seen=True)
    assert len({one["item"] for one in found}) == 5 and not {one["item"] for one in found} & {
        "i3",
        "i4",
        "i5",
    }
    scores = [one["score"] for one in found]
    assert scores == sorted(scores, reverse=True) and all(score < 0 for score in scores)
    assert "i6" in [one["item"] for one in found[:3]] and found[0]["text"].startswith("Thing number")


def test_an_unknown_item_in_a_history_is_told_with_the_nearest(finished: Path) -> None:
    from fastvocab.errors import DataError
    from fastvocab.items.serve import next_items

    with pytest.raises(DataError, match="i400: no such item among 40"):
        next_items(finished, ["i3", "i400"])


def test_the_same_command_reuses_everything(
    finished: Path, tied_llama: Path, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert item_tokens.main(arguments(tied_llama, shop, finished.parent)) == 0
    assert capsys.readouterr().err.count("reused") == 6


def test_codes_on_top_of_other_codes_are_refused(
    finished: Path, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        item_tokens.main(arguments(finished, shop, tmp_path, "name=again", "tokenizer.items.codebook=7")) == 4
    )
    assert "has tokens of items already, such as <a_0>" in capsys.readouterr().err


def test_a_folder_of_another_recipe_is_left_alone(
    finished: Path, tied_llama: Path, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fastvocab.recipes import new_language

    named = [f"runs={finished.parent}", "name=shop"]
    assert (
        new_language.main([*named, f"corpus.train={shop / 'items.jsonl'}", f"model.base={tied_llama}"]) == 2
    )
    assert "is a run of the recipe item_tokens" in capsys.readouterr().err


def test_codes_from_a_file(tied_llama: Path, shop: Path, tmp_path: Path) -> None:
    codes = {f"i{n}": [n // 7, n % 7] for n in range(ITEMS)}
    (tmp_path / "codes.json").write_text(json.dumps(codes))
    more = (f"tokenizer.items.codes={tmp_path / 'codes.json'}", "extend.init=item_text", "pretrain.steps=2",
            "evaluate.items.users=5", "export.to=[]")  # fmt: skip
    given = [a for a in arguments(tied_llama, shop, tmp_path, *more) if "codebook" not in a]
    assert item_tokens.main(given) == 0
    mapping = ItemTokens.read(tmp_path / "shop" / "20-tokenizer" / "item_tokens.json")
    assert mapping.of_item("i15") == ["<a_2>", "<b_1>"]


@pytest.mark.parametrize(
    ("codes", "messages"),
    [
        ({f"i{n}": [n] for n in range(ITEMS - 2)}, ["2 of 40 items have no codes", "i38"]),
        ({f"i{n}": [n // 2] for n in range(ITEMS)}, ["i0", "i1"]),
        ({}, ["codes.json"]),
    ],
)
def test_codes_that_are_missing_or_shared_are_told(
    tied_llama: Path, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], codes: dict,
    messages: list[str],
) -> None:  # fmt: skip
    (tmp_path / "codes.json").write_text(json.dumps(codes))
    more = (f"tokenizer.items.codes={tmp_path / 'codes.json'}", "extend.init=item_text")
    assert (
        item_tokens.main([a for a in arguments(tied_llama, shop, tmp_path, *more) if "codebook" not in a])
        == 3
    )
    said = capsys.readouterr().err
    assert all(message in said for message in messages) and "Traceback" not in said


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["corpus.items.item=whta"], 3, "what"),
        (["corpus.items.interactions=nowhere.csv"], 3, "nowhere.csv"),
        (["evaluate.items.beams=3"], 2, "evaluate.items.beams: 3: a beam search gives no more items"),
        (["evaluate.items.beams=41"], 2, "evaluate.items.beams is 41, and the catalogue has 40 items"),
        (["pretrain.block=16", "tokenizer.items.levels=8"], 2, "pretrain.block is 16"),
        (["tokenizer.items.codes=x.json"], 2, "with codes from a file codebook would do nothing"),
        (["extend.init=counted"], 2, "extend.init=counted in the recipe item_tokens"),
        (["instruct.train=x.jsonl"], 2, "instruct.train: the recipe item_tokens does not read it"),
    ],
)
def test_mistakes(
    tied_llama: Path, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], code: int,
    message: str,
) -> None:  # fmt: skip
    assert item_tokens.main(arguments(tied_llama, shop, tmp_path, *more)) == code
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not (tmp_path / "shop" / "40-pretrain").exists(), "nothing long was done before"
