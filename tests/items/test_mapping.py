"""The file of items and tokens: both ways, there and back, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastvocab.errors import ModelError
from fastvocab.items.codes import resolve_collisions
from fastvocab.items.mapping import ItemTokens


def small() -> ItemTokens:
    return ItemTokens(("x", "9", "é <a_1>"), np.array([[12, 3, 0], [2, 3, 0], [12, 3, 1]]))


def test_items_and_tokens_both_ways() -> None:
    found = small()
    assert found.of_item("é <a_1>") == ["<a_12>", "<b_3>", "<c_1>"]
    assert found.item_of(["<a_2>", "<b_3>", "<c_0>"]) == "9"
    assert found.tokens() == ["<a_2>", "<a_12>", "<b_3>", "<c_0>", "<c_1>"]
    for ask in (lambda: found.item_of(["<a_2>", "<b_3>"]), lambda: found.of_item("no")):
        with pytest.raises(KeyError):
            ask()


def test_ids_are_those_of_the_tokenizer(tied_llama: Path) -> None:
    from transformers import AutoTokenizer

    found, tokenizer = small(), AutoTokenizer.from_pretrained(tied_llama)
    with pytest.raises(ModelError, match="lacks 5 tokens of items: <a_2>"):
        found.ids(tokenizer)
    tokenizer.add_tokens(found.tokens())
    ids = found.ids(tokenizer)
    assert (ids == found.ids(tokenizer.get_vocab())).all()
    for item, own in zip(found.items, ids.tolist()):
        text = "".join(found.of_item(item))
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == own
        assert found.item_of(tokenizer.convert_ids_to_tokens(own)) == item


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.text(), st.integers(0, 5), st.integers(0, 99)), min_size=1, unique_by=lambda r: r[0]
    )
)
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, given_rows: Any) -> None:
    items = tuple(text.encode("utf-8", "replace").decode() for text, *_ in given_rows)
    if len(set(items)) < len(items):
        return
    path = tmp_path_factory.mktemp("map") / "item_tokens.json"
    before = ItemTokens(items, resolve_collisions(np.array([codes for _, *codes in given_rows])))
    before.write(path)
    after = ItemTokens.read(path)
    assert after.items == before.items and (after.codes == before.codes).all()
    assert all(after.item_of(after.of_item(item)) == item for item in items)


def test_the_file_is_what_others_can_read(tmp_path: Path) -> None:
    small().write(tmp_path / "item_tokens.json")
    found = json.loads((tmp_path / "item_tokens.json").read_text())
    assert found["schema"] == 1 and found["levels"] == 3
    assert found["items"]["9"] == ["<a_2>", "<b_3>", "<c_0>"]
    assert found["codes"]["<a_2><b_3><c_0>"] == "9"


def test_more_levels_than_letters_are_refused() -> None:
    ItemTokens(("x",), np.zeros((1, 26), np.int64))
    with pytest.raises(ModelError, match="27 tokens"):
        ItemTokens(("x",), np.zeros((1, 27), np.int64))


def _twins(found: dict[str, Any]) -> None:
    found["items"]["9"] = found["items"]["x"]


def _other_way(found: dict[str, Any]) -> None:
    found["codes"]["<a_2><b_3><c_0>"] = "x"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_twins, "same tokens: x, 9"),
        (_other_way, "differ in 1 places"),
        (lambda f: f["codes"].pop("<a_2><b_3><c_0>"), "differ in 1 places"),
        (lambda f: f["items"].pop("9"), "differ in 1 places"),
        (lambda f: f["items"].update(x=["<b_12>", "<b_3>", "<c_0>"]), "1 items are not 3 tokens"),
        (lambda f: f["items"].update(x=["<a_012>", "<b_3>", "<c_0>"]), "1 items are not 3 tokens"),
        (lambda f: f["items"].update(x=["<a_12>", "<b_3>"]), "1 items are not 3 tokens"),
        (lambda f: f["items"].update(x="<a_12>"), "1 items are not 3 tokens"),
        (lambda f: f.update(levels=2), "3 items are not 2 tokens"),
        (lambda f: f.update(levels=True), "'levels' is True"),
        (lambda f: f.update(items={}), "empty"),
        (lambda f: f.update(schema=2), "schema 2"),
        (lambda f: f.clear(), "'levels' is None"),
    ],
)
def test_damaged_files_are_refused(
    tmp_path: Path, harm: Callable[[dict[str, Any]], object], said: str
) -> None:
    path = tmp_path / "item_tokens.json"
    small().write(path)
    found = json.loads(path.read_text())
    harm(found)
    path.write_text(json.dumps(found))
    with pytest.raises(ModelError) as caught:
        ItemTokens.read(path)
    assert said in caught.value.message


def test_files_that_are_no_json_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "item_tokens.json"
    with pytest.raises(ModelError, match="not there"):
        ItemTokens.read(path)
    for content in ("", "[1]", '{"schema": 1, "levels"'):
        path.write_text(content)
        with pytest.raises(ModelError, match="damaged"):
            ItemTokens.read(path)
