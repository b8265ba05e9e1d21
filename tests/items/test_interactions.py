"""Histories from rows of any format, what is left out of them and why, and what a person reads when they are wrong."""

import csv
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fastvocab.errors import CheckpointError, ConfigError, DataError
from fastvocab.items.catalogue import Template
from fastvocab.items.fields import identity, moment
from fastvocab.items.interactions import build, read

CATALOGUE = [{"id": f"i{n}", "title": f"Title {n}", "year": 1990 + n} for n in range(6)]


def put(path: Path, rows: list[dict[str, Any]]) -> str:
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def taken(*histories: str, start: int = 0) -> list[dict[str, Any]]:
    """Interactions of users u0, u1...: ``"0 3 5"`` is one history, the items i0, i3, i5 at rising times."""
    return [
        {"u": f"u{user}", "id": f"i{number}", "t": start + 10 * at}
        for user, history in enumerate(histories)
        for at, number in enumerate(history.split())
    ]


def make(
    folder: Path, rows: list[dict[str, Any]], catalogue: list[dict[str, Any]] | None = None, **options: Any
) -> dict:
    given = {"user": "u", "item": "id", "time": "t", "text": "{title} ({year})"} | options
    listed = [put(folder / "catalogue.jsonl", catalogue)] if catalogue else []
    return build(folder, interactions=[put(folder / "rows.jsonl", rows)], catalogue=listed, **given)


def test_histories_are_in_the_order_of_time_with_the_last_two_held_out(tmp_path: Path) -> None:
    rows = taken("0 1 2 3 4", "5 0 5")
    figures = make(tmp_path, rows[::-1], CATALOGUE)
    found = read(tmp_path)
    assert found.users == ("u1", "u0")
    assert found.items == tuple(f"i{n}" for n in range(6)) and found.texts[1] == "Title 1 (1991)"
    assert found.histories == [[5], [0, 1, 2]] and found.valid == [0, 3] and found.test == [5, 4]
    assert found.contexts("valid") == found.histories and found.contexts("test") == [[5, 0], [0, 1, 2, 3]]
    assert found.targets("valid") == found.valid and found.targets("test") == found.test
    expected = {
        "users": 2, "items": 6, "interactions": 8, "read": 8, "dropped": {}, "dropped_users": 0,
        "density": round(7 / 12, 6), "lengths": {"median": 4.0, "max": 5}, "items_without_interactions": 0,
        "items_not_in_training": 2, "targets_seen": 1, "tied": 0.0, "packages": [],
    }  # fmt: skip
    assert expected.items() <= figures.items()
    line = json.loads((tmp_path / "interactions.jsonl").read_text().splitlines()[1])
    assert line == {"user": "u0", "items": ["i0", "i1", "i2"], "valid": "i3", "test": "i4"}


def test_what_is_at_one_time_stays_in_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = [{"u": "a", "id": f"i{n}", "t": 7} for n in (3, 0, 5, 1)]
    assert make(tmp_path, rows, CATALOGUE)["tied"] == 1.0
    assert read(tmp_path).contexts("test") == [[3, 0, 5]] and read(tmp_path).test == [1]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_every_format_gives_the_same(tmp_path: Path, suffix: str) -> None:
    rows = [{**row, "u": int(row["u"][1:]), "id": int(row["id"][1:])} for row in taken("0 1 2 3", "3 2 1 0")]
    items = [{**row, "id": int(row["id"][1:])} for row in CATALOGUE]
    sources = [put(tmp_path / f"{name}.{suffix}", data) for name, data in (("rows", rows), ("items", items))]
    build(
        tmp_path, interactions=sources[:1], catalogue=sources[1:], user="u", item="id", time="t",
        text="{title} ({year})",
    )  # fmt: skip
    found = read(tmp_path)
    assert (found.users, found.items[:2], found.texts[5]) == (("0", "1"), ("0", "1"), "Title 5 (1995)")
    assert found.histories == [[0, 1], [3, 2]]


def test_times_are_numbers_or_dates() -> None:
    assert moment("1970-01-02") == moment("1970-01-02T00:00:00Z") == moment("86400") == moment(86400) == 86400
    assert moment("1970-01-01T01:00:00+01:00") == 0
    exact = 1_700_000_000_123_456_789
    assert moment(str(exact)) == exact != moment(exact + 1), "nanoseconds are not rounded"
    bad = [None, "", "soon", float("nan"), "nan", "inf", True, [1], "2024-13-01"]
    assert [moment(value) for value in bad] == [None] * len(bad)


def test_ids_are_the_same_in_all_formats() -> None:
    assert identity(7) == identity(7.0) == identity(" 7 ") == "7"
    assert [identity(value) for value in (None, "", "  ", float("nan"), True, [7], {})] == [None] * 7


def test_what_is_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    rows = [
        *taken("0 1 1 1 2 0"),
        {"u": None, "id": "i1", "t": 1},
        {"u": "u0", "t": 1},
        {"u": "u0", "id": "i1", "t": "soon"},
        {"u": "u0", "id": "elsewhere", "t": 1},
        {"u": "once", "id": "i1", "t": 1},
        {"u": "twice", "id": "i1", "t": 1},
        {"u": "twice", "id": "i2", "t": 2},
    ]
    figures = make(tmp_path, rows, CATALOGUE)
    assert figures["dropped"] == {
        "short_history": 3, "at_once_again": 2, "no_user": 1, "no_item": 1, "no_time": 1, "unknown_item": 1,
    }  # fmt: skip
    assert figures["dropped_users"] == 2 and figures["read"] == len(rows)
    assert figures["interactions"] + sum(figures["dropped"].values()) == len(rows)
    # one that comes again later is there; nobody touched the last three
    assert read(tmp_path).histories == [[0, 1]] and read(tmp_path).test == [0]
    assert figures["items_without_interactions"] == 3


def test_without_a_catalogue_ids_are_the_texts(tmp_path: Path) -> None:
    figures = make(tmp_path, taken("4 2 4 1"))
    assert figures["items"] == 3 and read(tmp_path).texts == read(tmp_path).items == ("i4", "i2", "i1")


def test_min_history_leaves_out_users(tmp_path: Path) -> None:
    figures = make(tmp_path, taken("0 1 2", "0 1 2 3 4"), CATALOGUE, min_history=4)
    assert (figures["users"], figures["dropped_users"]) == (1, 1)
    with pytest.raises(ConfigError, match="min_history is 2"):
        make(tmp_path, taken("0 1 2"), CATALOGUE, min_history=2)


def test_a_text_is_tidy_where_a_field_is_empty() -> None:
    template = Template("{title} ({year}): {genres}")
    full = {"title": " M*A*S*H \n", "year": 1970.0, "genres": ["Comedy", "War"]}
    assert template.fill(full) == "M*A*S*H (1970): Comedy, War"
    assert template.fill({**full, "genres": None}) == "M*A*S*H (1970)"
    assert template.fill({**full, "year": float("nan")}) == "M*A*S*H: Comedy, War"
    assert template.fill({**full, "year": "", "genres": []}) == "M*A*S*H"
    assert template.fill({"genres": "War"}) == "War"
    assert template.fill({}) == ""
    # nothing of a whole text is touched
    assert Template("{a}").fill({"a": "f(): x -"}) == "f(): x -"
    assert Template("{{{a}}}").fill({"a": "x"}) == "{x}"
    assert Template("{a}").fill({"a": "\ud800"}) == "?"


def test_rows_of_the_catalogue_that_give_nothing_are_counted(tmp_path: Path) -> None:
    odd = [*CATALOGUE, {"id": None, "title": "x"}, CATALOGUE[0], {"id": "bare"}, {**CATALOGUE[0], "id": "i9"}]
    figures = make(tmp_path, taken("0 1 2"), odd)
    assert figures["catalogue_dropped"] == {"no_item": 1, "same_row": 1}
    assert figures["items_without_text"] == 1 and read(tmp_path).texts[6] == "bare"
    assert figures["items_of_the_same_text"] == 1, "i0 and i9 are called the same"
    assert figures["items"] == 8


def other_ids(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "id": f"movie-{row['id']}"} for row in rows]


GOOD = taken("0 1 2")
# name of the case: (interactions, catalogue, options, what the error must say)
WRONG: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any], list[str]]] = {
    "all items unknown": (other_ids(GOOD), CATALOGUE, {},
                          ["none of 3 interactions", "'movie-i0'", "catalogue has 'i0'", "the same ids"]),
    "histories of one": (taken("0", "1", "2"), CATALOGUE, {},
                         ["no history is left of 3", "3 short_history", "min_history"]),
    "no time": ([{**row, "t": "soon"} for row in GOOD], CATALOGUE, {},
                ["no history is left", "3 no_time", "'soon' in", "rows.jsonl:1"]),
    "two texts of one id": (GOOD, [*CATALOGUE, {"id": "i0", "title": "Other"}], {},
                            ["1 ids of the catalogue have two texts", "i0", "Title 0 (1990)", "catalogue.jsonl:7"]),
    "missing columns": (GOOD, CATALOGUE, {"user": "user", "time": "timestamp"},
                        ["no field 'user'", "no field 'timestamp'", "it has: u, id, t", "corpus.items.time="]),
    "misspelt column": ([{"user_id": "a", "id": "i0", "t": 1}], CATALOGUE, {"user": "User_ID"},
                        ["no field 'User_ID' (nearest: user_id)", "corpus.items.user=user_id"]),
    "catalogue without ids": (GOOD, [{"item": "i0", "title": "x", "year": 1}], {},
                              ["catalogue.jsonl:1 has no field 'id'", "it has: item, title, year"]),
    "catalogue of empty ids": (GOOD, [{"id": None, "title": "x", "year": 1}], {},
                               ["no row of the catalogue has an id"]),
    "unknown fields": (GOOD, CATALOGUE, {"text": "{titel} {genre}"},
                       ["'titel' (nearest: title)", "'genre'", "it has: id, title, year"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_data_is_said_with_what_is_there(case: str, tmp_path: Path) -> None:
    rows, catalogue, options, said = WRONG[case]
    with pytest.raises(DataError) as caught:
        make(tmp_path, rows, catalogue, **options)
    assert all(words in str(caught.value) for words in said), str(caught.value)
    assert not (tmp_path / "interactions.jsonl").exists()


@pytest.mark.parametrize("text", ["no field", "{title", "{}", "{0.x!r}", "{title:>9}", ""])
def test_a_template_that_is_none_is_refused_before_anything_is_read(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"corpus\.items\.text"):
        make(tmp_path, GOOD, CATALOGUE, text=text)


def test_empty_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 bytes"):
        make(tmp_path, [], CATALOGUE)
    with pytest.raises(DataError, match=r"corpus\.items\.interactions=FILE"):
        build(tmp_path, interactions=(), catalogue=(), user="u", item="i", time="t", text="{x}")
    (tmp_path / "head.csv").write_text("u,id,t\n")
    with pytest.raises(DataError, match="no row in"):
        build(
            tmp_path, interactions=[str(tmp_path / "head.csv")], catalogue=(), user="u", item="id", time="t",
            text="{x}",
        )  # fmt: skip
    (tmp_path / "strings.json").write_text('["a", "b"]')
    with pytest.raises(DataError, match="no object with fields"):
        build(
            tmp_path, interactions=[str(tmp_path / "strings.json")], catalogue=(), user="u", item="id", time="t",
            text="{x}",
        )  # fmt: skip


def test_a_damaged_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not there"):
        read(tmp_path)
    make(tmp_path, GOOD, CATALOGUE)
    histories = tmp_path / "interactions.jsonl"
    text = histories.read_text()
    histories.write_text(text.replace("i1", "i77"))
    with pytest.raises(CheckpointError, match="'i77' of user 'u0' is not in"):
        read(tmp_path)
    histories.write_text(text[:20])
    with pytest.raises(CheckpointError, match="is damaged"):
        read(tmp_path)


@pytest.mark.skipif(not find_spec("recbole"), reason="recbole is not installed (--no-deps)")
def test_movielens_is_whole(tmp_path: Path) -> None:
    figures = build(
        tmp_path,
        interactions=["package:recbole/ml-100k"],
        catalogue=["package:recbole/ml-100k/items"],
        user="user_id",
        item="item_id",
        time="timestamp",
        text="{movie_title} ({release_year}): {class}",
    )
    # GroupLens: 943 users, 1,682 films, 100,000 ratings, each user at least 20, none of a film twice
    assert (figures["users"], figures["items"], figures["interactions"]) == (943, 1682, 100_000)
    assert figures["density"] == pytest.approx(100_000 / 943 / 1682, abs=1e-6)
    assert figures["dropped"] == {} and figures["targets_seen"] == 0
    assert figures["tied"] > 0.5, "every second rating is of the same second as the one before"
    assert [record["name"] for record in figures["packages"]] == ["recbole"]
    found = read(tmp_path)
    assert found.texts[0] == "Toy Story (1995): Animation Children's Comedy"
    assert min(len(history) for history in found.histories) == 18
