"""Every form that text comes in gives the same documents; memory stays constant."""

import csv
import gzip
import json
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from fastvocab.corpus import streams
from fastvocab.corpus.read import documents, rows, total_bytes

TEXTS = [
    "Кожна мова має свій лад, і це добре.",
    "हिन्दी में संयुक्ताक्षर क्षत्रिय लिखा जाता है।",
    "ภาษาไทยเขียนโดยไม่เว้นวรรคระหว่างคำ",
    "می‌خواهم کتاب‌ها را بخوانم",
    "한국어 문장은 띄어쓰기가 있다.",
    "日本語の文章は、漢字とかなで書く。",
]


def texts(sources: str | list[str], **options: object) -> list[str]:
    return [document.text for document in documents(sources, **options)]  # type: ignore[arg-type]


def write_txt(path: Path) -> None:
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")


def write_crlf_with_mark(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(TEXTS).encode())


def write_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps({"id": 1, "text": text}) + "\n" for text in TEXTS))


def write_json(path: Path) -> None:
    path.write_text(json.dumps([{"text": text} for text in TEXTS]))


def write_json_strings(path: Path) -> None:
    path.write_text(json.dumps(TEXTS, ensure_ascii=False), encoding="utf-8")


def write_json_data(path: Path) -> None:
    path.write_text(json.dumps({"version": 2, "data": [{"text": text} for text in TEXTS]}, indent=1))


def write_csv(path: Path, delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["id", "text"])
        writer.writerows(enumerate(TEXTS))


def write_tsv(path: Path) -> None:
    write_csv(path, "\t")


def write_semicolons(path: Path) -> None:
    write_csv(path, ";")


FORMS = [
    ("a.txt", write_txt),
    ("a.md", write_crlf_with_mark),
    ("a.uk", write_txt),
    ("a.jsonl", write_jsonl),
    ("a.ndjson", write_jsonl),
    ("a.json", write_json),
    ("a.json", write_json_strings),
    ("a.json", write_json_data),
    ("a.csv", write_csv),
    ("a.csv", write_semicolons),
    ("a.tsv", write_tsv),
]


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize(("name", "write"), FORMS)
def test_every_form_gives_the_same_documents(tmp_path: Path, name: str, write, packing: str) -> None:
    path = tmp_path / name
    write(path)
    if packing:
        raw = path.read_bytes()
        path = tmp_path / (name + packing)
        # two members in one file, as `cat a.gz b.gz` makes them
        pack = gzip.compress if packing == ".gz" else zstandard.ZstdCompressor().compress
        path.write_bytes(pack(raw[:50]) + pack(raw[50:]))
    read = []
    assert texts(str(path), display=read.append) == TEXTS
    assert sum(read) == path.stat().st_size == total_bytes(str(path))


def test_parquet_gives_the_same_documents(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"id": range(len(TEXTS)), "text": TEXTS})
    pyarrow.parquet.write_table(
        pyarrow.concat_tables([table] * 100), tmp_path / "a.parquet", row_group_size=70
    )
    read = []
    assert texts(str(tmp_path), display=read.append) == TEXTS * 100
    assert sum(read) == (tmp_path / "a.parquet").stat().st_size


def test_saved_datasets_and_their_splits_are_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    one = datasets.Dataset.from_dict({"text": TEXTS, "n": list(range(len(TEXTS)))})
    one.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": one, "test": one.select([0])}).save_to_disk(tmp_path / "both")
    assert texts(f"{tmp_path}/one") == TEXTS
    assert texts(f"{tmp_path}/both") == TEXTS
    assert texts(f"{tmp_path}/both@test") == TEXTS[:1]
    # found on the way through a folder too, where its own json files are no text
    assert texts(str(tmp_path)) == TEXTS + TEXTS


def test_a_dataset_of_the_hub_form_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `datasets` takes a local folder named org/name as it takes a repository
    folder = tmp_path / "org" / "name"
    folder.mkdir(parents=True)
    write_jsonl(folder / "train.jsonl")
    (folder / "test.jsonl").write_text('{"id": 1, "text": "test"}\n')
    monkeypatch.chdir(tmp_path)
    assert texts("hf:org/name") == TEXTS
    assert texts("hf:org/name@test") == ["test"]
    assert total_bytes("hf:org/name") is None


def test_folders_and_globs_are_sorted_and_hidden_files_left_out(tmp_path: Path) -> None:
    for name in ("b/2.txt", "b/1.jsonl", "a/x.txt", ".git/no.txt", "b/.no.txt", "b/no.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"text": name}) if name.endswith("l") else name)
    assert texts(str(tmp_path)) == ["a/x.txt", "b/1.jsonl", "b/2.txt"]
    assert texts(f"{tmp_path}/**/*.txt") == ["a/x.txt", "b/2.txt"]
    assert texts(f"{tmp_path}/b/*") == ["b/1.jsonl", "b/2.txt"]
    assert texts([f"{tmp_path}/b/2.txt", str(tmp_path)]) == ["b/2.txt", "a/x.txt", "b/1.jsonl"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("one\n")
    (tmp_path / "a1.txt").write_text("other\n")
    assert texts(f"{tmp_path}/a[1].txt") == ["one"]


PROSE = "перший рядок\nйого кінець\n\n\nдругий абзац\n"


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("line", ["перший рядок", "його кінець", "другий абзац"]),
        ("blank_line", ["перший рядок\nйого кінець", "другий абзац"]),
        ("file", [PROSE]),
        ("auto", ["перший рядок\nйого кінець", "другий абзац"]),
    ],
)
def test_units_of_plain_text(tmp_path: Path, unit: str, expected: list[str]) -> None:
    (tmp_path / "a.txt").write_text(PROSE)
    assert texts(f"{tmp_path}/a.txt", unit=unit) == expected


def test_auto_takes_lines_where_blank_lines_are_slips(tmp_path: Path) -> None:
    lines = [f"речення номер {n}" for n in range(1000)]
    (tmp_path / "a.txt").write_text("\n".join([*lines[:500], "", *lines[500:], "", ""]))
    assert texts(f"{tmp_path}/a.txt") == lines


def test_sources_name_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(PROSE)
    write_jsonl(tmp_path / "b.jsonl")
    assert [d.source for d in documents(str(path))] == [f"{path}:1", f"{path}:5"]
    assert [d.source for d in documents(f"{tmp_path}/b.jsonl")][-1] == f"{tmp_path}/b.jsonl:{len(TEXTS)}"


def test_rows_without_text_become_empty_documents_once_the_field_is_known(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "so"}\n{"text": null}\n{"other": 1}\n\n"bare"\n')
    assert texts(f"{tmp_path}/a.jsonl") == ["so", "", "", "bare"]


def test_csv_fields_may_hold_line_ends_and_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,id\n"two\r\nlines, ""so""",1\nnext,2\n')
    assert [(r.fields["text"], r.source[-2:]) for r in rows(f"{tmp_path}/a.csv")] == [
        ('two\nlines, "so"', ":2"),
        ("next", ":4"),
    ]


@pytest.mark.parametrize("unit", ["line", "blank_line", "file", "auto"])
def test_a_huge_line_is_cut_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    monkeypatch.setattr(streams, "MAX_CHARACTERS", 1000)
    line = "слово " * 5000 + "क" + "क्षि" * 2000  # with spaces, then without
    (tmp_path / "a.txt").write_text(f"before\n{line}\nafter")
    found = texts(f"{tmp_path}/a.txt", unit=unit)
    assert "".join(found).replace("\n", "") == f"before{line}after"
    assert max(map(len, found)) <= 1000
    assert not any(text[0] in "\u094d\u093f" for text in found)  # no vowel sign is cut from its letter
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": line}))
    assert "".join(texts(f"{tmp_path}/b.jsonl")) == line


@pytest.mark.parametrize("name", ["lines.txt.gz", "one_line.txt.gz"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    def peak(megabytes: int) -> float:
        path = tmp_path / name
        block = " ".join(TEXTS) + ("\n" if name.startswith("lines") else " ")
        block *= 20_000
        with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
            for _ in range(megabytes * 1_000_000 // len(block.encode())):
                file.write(block)
        tracemalloc.start()
        try:
            count = sum(len(document.text) for document in documents(str(path)))
            assert count > megabytes * 300_000
            return tracemalloc.get_traced_memory()[1] / 1e6
        finally:
            tracemalloc.stop()

    small, large = peak(20), peak(100)
    assert large < 30  # a third of the text
    assert large < small + 5
