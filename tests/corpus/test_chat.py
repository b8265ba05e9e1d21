"""Chat rows of every ordinary shape become the same messages; what is useless is counted."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from fastvocab.corpus.chat import REASONS, chat_rows
from fastvocab.errors import DataError
from fastvocab.layout import Layout

ASK, REPLY = "Що таке мова?", "Мова — це лад."
WANTED = {"messages": [{"role": "user", "content": ASK}, {"role": "assistant", "content": REPLY}]}

SHAPES = {
    "messages": WANTED,
    "parts": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": ASK}]},
            {"role": "assistant", "content": [{"type": "text", "text": REPLY}]},
        ]
    },
    "sharegpt": {"conversations": [{"from": "human", "value": ASK}, {"from": "gpt", "value": REPLY}]},
    "alpaca": {"instruction": ASK, "input": "", "output": REPLY},
    "alpaca without input": {"instruction": ASK, "output": REPLY},
    "prompt and completion": {"prompt": ASK, "completion": REPLY},
    "prompt and completion as messages": {
        "prompt": [{"role": "user", "content": ASK}],
        "completion": [{"role": "assistant", "content": REPLY}],
    },
    "spelt in another way": {"prompt": f"\ufeff{ASK}\r\n", "completion": f"{REPLY} \n"},
}


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_becomes_the_same_messages(shape: str, tmp_path: Path) -> None:
    assert list(chat_rows(write(tmp_path / "a.jsonl", SHAPES[shape]))) == [WANTED]
    (tmp_path / "a.json").write_text(json.dumps([SHAPES[shape]] * 2))
    assert list(chat_rows(f"{tmp_path}/a.json")) == [WANTED] * 2


@pytest.mark.parametrize("shape", ["messages", "sharegpt", "alpaca", "prompt and completion"])
def test_parquet_and_csv_give_the_same_as_json(shape: str, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    row = SHAPES[shape]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "a.parquet")
    assert list(chat_rows(f"{tmp_path}/a.parquet")) == [WANTED]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow({k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()})
    assert list(chat_rows(f"{tmp_path}/a.csv")) == [WANTED]


def test_input_of_an_alpaca_row_follows_the_instruction(tmp_path: Path) -> None:
    row = {"instruction": "Переклади.", "input": "word", "output": "слово"}
    [chat] = chat_rows(write(tmp_path / "a.jsonl", row))
    assert chat["messages"][0]["content"] == "Переклади.\n\nword"


def turns(*pairs: tuple[str, str | None]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


def test_long_conversations_and_system_messages_are_kept_whole(tmp_path: Path) -> None:
    row = turns(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    assert list(chat_rows(write(tmp_path / "a.jsonl", row))) == [row]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (turns(("user", "a"), ("assistant", " ")), "empty_reply"),
        (turns(("user", "a"), ("assistant", None)), "empty_reply"),
        ({"instruction": "a", "output": None}, "empty_reply"),
        ({"prompt": "", "completion": "b"}, "empty_prompt"),
        ({"prompt": "a", "completion": "\ud83d"}, "empty_reply"),
        (turns(("assistant", "a"), ("user", "b"), ("assistant", "c")), "roles_out_of_order"),
        (turns(("user", "a"), ("user", "b"), ("assistant", "c")), "roles_out_of_order"),
        (turns(("user", "a"), ("system", "b"), ("assistant", "c")), "roles_out_of_order"),
        (turns(("user", "a"), ("assistant", "b"), ("user", "c")), "last_not_assistant"),
        (turns(), "last_not_assistant"),
        (turns(("system", "a")), "last_not_assistant"),
        ({"messages": None}, "last_not_assistant"),
        (turns(("user", "a"), ("tool", "b"), ("assistant", "c")), "other_role"),
    ],
)
def test_what_cannot_be_learnt_from_is_dropped_and_counted(
    row: dict[str, object], reason: str, tmp_path: Path
) -> None:
    dropped: Counter[str] = Counter()
    assert list(chat_rows(write(tmp_path / "a.jsonl", row, WANTED), dropped=dropped)) == [WANTED]
    assert dropped == {reason: 1} and reason in REASONS


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            {"q": "a", "a": "b"},
            ["a.jsonl:2", "it has: q, a", "messages; conversations", "instruction, input"],
        ),
        ({"prompt": "a"}, ["a.jsonl:2", "it has: prompt"]),
        ("text", ["a.jsonl:2 is no object"]),
        ({"messages": "hello"}, ["a.jsonl:2: messages is 'hello'"]),
        ({"messages": ["hello"]}, ["a.jsonl:2", "each with role and content"]),
        ({"messages": [{"role": "user", "text": "a"}]}, ["a.jsonl:2", "has the fields role, text"]),
        ({"messages": [{"role": "user", "content": 5}]}, ["a.jsonl:2", "content is '5'"]),
        ({"instruction": ["a"], "output": "b"}, ["a.jsonl:2", "instruction"]),
    ],
)
def test_rows_of_no_known_shape_are_an_error_that_names_them(
    row: object, says: list[str], tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        list(chat_rows(write(tmp_path / "a.jsonl", WANTED, row)))
    assert all(words in str(caught.value) for words in says), caught.value


def test_the_package_gives_pairs_in_its_language() -> None:
    dropped: Counter[str] = Counter()
    found = list(chat_rows("package:chatterbot-corpus/ukrainian", dropped=dropped))
    assert len(found) == 456
    assert dropped == {"empty_reply": 9}  # lines that lost their list marks in the package's files
    assert all([m["role"] for m in row["messages"]] == ["user", "assistant"] for row in found)


LAYOUT = Layout("<think>{reasoning}</think><answer>{output}</answer>")


def test_columns_of_other_names_and_a_reply_laid_out_from_several(tmp_path: Path) -> None:
    row = {"frage": ASK, "gedanken": "a\nb", "lösung": 7, "instruction": "of somebody else"}
    columns = {"instruction": "frage", "reasoning": "gedanken", "output": "lösung"}
    (found,) = chat_rows(write(tmp_path / "a.jsonl", row), columns=columns, reply=LAYOUT)
    assert found["messages"][0]["content"] == ASK
    assert LAYOUT.read(found["messages"][1]["content"]) == {"reasoning": "a\nb", "output": "7"}


def test_replies_that_are_not_laid_out_so_are_counted(tmp_path: Path) -> None:
    good = LAYOUT.write({"reasoning": "a", "output": "b"})
    rows = [
        {"messages": [{"role": "user", "content": ASK}, {"role": "assistant", "content": good}]},
        WANTED,
        {"prompt": ASK, "reasoning": None, "completion": "7"},
        {"instruction": ASK, "reasoning": "a <answer> b", "output": "7"},
    ]
    dropped = Counter[str]()
    assert len(list(chat_rows(write(tmp_path / "a.jsonl", *rows), dropped=dropped, reply=LAYOUT))) == 1
    assert dropped == {"not_in_layout": 1, "empty_field": 2} and dropped.keys() <= REASONS.keys()
