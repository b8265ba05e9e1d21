"""The rows of one structured source: jsonl, json, csv, parquet, yaml, and ``datasets`` from disk or a hub.

Each reader yields `Row`s in file order and knows nothing of what the rows are for. ``columns`` names the
fields that the caller will look at, where that is known: formats that store by column read no others.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastvocab.corpus import streams
from fastvocab.corpus.items import Display, Row, names
from fastvocab.corpus.sources import Source
from fastvocab.errors import DataError

#: Rows decoded at once from column formats: 256 documents of 100 kB are 25 MB.
BATCH = 256

#: Longest field of a csv file; an unclosed quote runs to the end of the file and would fill the memory.
CSV_FIELD = 1 << 26


def missing_key(where: str, key: str, found: object, likely: str | None = None) -> DataError:
    """The error for a row or table without the field that holds the text."""
    return DataError(
        f"{where} has no field {key!r}; it has: {names(found)}",
        fix=f"say which one holds the text: corpus.text_key={likely or 'NAME'}",
    )


def file_rows(source: Source, columns: Sequence[str] | None, display: Display | None) -> Iterator[Row]:
    """The rows of one `Source` of any kind but plain text and packages.

    Raises:
        DataError: damaged, of no structured format, or without a column that was asked for.
    """
    if source.kind == "disk":
        return _disk_rows(source, columns, display)
    if source.kind == "hub":
        return _hub_rows(source, columns, display)
    if source.format == "jsonl":
        return _jsonl_rows(source, display)
    if source.format == "json":
        return _json_rows(source, display)
    if source.format == "csv":
        return _csv_rows(source, display)
    if source.format == "parquet":
        return _parquet_rows(source, columns, display)
    if source.format == "yaml":
        return yaml_rows(Path(source.name), source.name, display)
    raise DataError(
        f"{source.name} holds no rows",
        rule="rows come from .jsonl, .json, .csv, .tsv or .parquet (also .gz, .zst)",
    )


def _parse(document: str, where: str) -> Any:
    try:
        return json.loads(document)
    except json.JSONDecodeError as error:
        place = f"{where}:{error.lineno}" if error.lineno > 1 else where
        raise DataError(
            f"{place} is not valid JSON: {error.msg} at column {error.colno}:"
            f" {document[error.pos : error.pos + 40]!r}",
            rule="one JSON value per line in .jsonl, one in all in .json",
            fix="mend or remove it",
        ) from None
    except (ValueError, RecursionError) as error:  # a number of over 4300 digits; nesting without end
        raise DataError(
            f"{where} is JSON that cannot be taken in: {error}", fix="mend or remove it"
        ) from None


def _jsonl_rows(source: Source, display: Display | None) -> Iterator[Row]:
    for number, line in streams.lines(streams.text(source, display)):
        if line and not line.isspace():
            where = f"{source.name}:{number}"
            yield Row(_parse(line, where), where)


def _json_rows(source: Source, display: Display | None) -> Iterator[Row]:
    """A .json file is one value and is therefore read as a whole, several times its size in memory."""
    document = "".join(streams.text(source, display))
    if not document.strip():
        return
    value = _parse(document, source.name)
    del document
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
    for number, fields in enumerate(value if isinstance(value, list) else [value], 1):
        yield Row(fields, f"{source.name}#{number}")


def _csv_rows(source: Source, display: Display | None) -> Iterator[Row]:
    csv.field_size_limit(CSV_FIELD)
    text_lines = (line + "\n" for _, line in streams.lines(streams.text(source, display)))
    header_line = next(text_lines, None)
    if header_line is None:
        return
    delimiter = "\t" if ".tsv" in Path(source.name).name.lower() else ","
    if delimiter not in header_line:  # spreadsheets of many European countries write semicolons
        delimiter = max(";\t,", key=header_line.count)

    def all_lines() -> Iterator[str]:
        yield header_line
        yield from text_lines

    reader = csv.reader(all_lines(), delimiter=delimiter, strict=True)
    try:
        header = next(reader)
        while True:
            start = reader.line_num + 1
            row = next(reader, None)
            if row is None:
                return
            if row:
                yield Row(dict(zip(header, row)), f"{source.name}:{start}")
    except csv.Error as error:
        raise DataError(
            f"{source.name}:{start} is not valid CSV: {error}",
            fix='close the quotes; a quote inside is written ""',
        ) from None


def _parquet_rows(source: Source, columns: Sequence[str] | None, display: Display | None) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    path, number, told = Path(source.name), 0, 0
    try:
        # pre_buffer would hold a whole row group, often all of the file
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
            _check_columns(source.name, columns, file.schema_arrow)
            rows, size = file.metadata.num_rows, path.stat().st_size
            for batch in file.iter_batches(BATCH, columns=list(columns) if columns else None):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(fields, f"{source.name}#{number}")
                if display:  # by rows: where the reader stands in the file is not to be known
                    display(size * number // rows - told)
                    told = size * number // rows
    except pyarrow.ArrowException as error:
        raise DataError(
            f"{source.name} is damaged or no parquet file: {error}", fix="fetch it again"
        ) from None
    except OSError as error:
        raise DataError(
            f"{source.name} cannot be read: {error}", fix="fetch it again or check permissions"
        ) from None


def _check_columns(where: str, columns: Sequence[str] | None, schema: Any) -> None:
    import pyarrow

    for column in columns or ():
        if column not in schema.names:
            strings = [field.name for field in schema if pyarrow.types.is_string(field.type)]
            raise missing_key(where, column, schema.names, strings[0] if len(strings) == 1 else None)


def _disk_rows(source: Source, columns: Sequence[str] | None, display: Display | None) -> Iterator[Row]:
    import datasets

    folder = f"{source.name}/{source.split}" if source.split else source.name
    try:
        table = datasets.load_from_disk(folder)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder} is no dataset that datasets.save_to_disk wrote: {error}", fix="save it again"
        ) from None
    assert isinstance(table, datasets.Dataset)
    _check_columns(folder, columns, table.features.arrow_schema)
    if columns:
        table = table.select_columns(list(columns))
    number, told, size = 0, 0, source.bytes or 0
    for batch in table.iter(BATCH):
        for values in zip(*batch.values()):
            number += 1
            yield Row(dict(zip(batch, values)), f"{folder}#{number}")
        if display:
            display(size * number // len(table) - told)
            told = size * number // len(table)


def _hub_rows(source: Source, columns: Sequence[str] | None, display: Display | None) -> Iterator[Row]:
    """Rows of a Hub dataset, streamed; ``display`` is told the size of the texts, the only one known."""
    import datasets
    from huggingface_hub.errors import HTTPError

    name = "hf:" + source.name
    try:
        stream: Any = datasets.load_dataset(
            source.name, source.config, split=source.split or "train", streaming=True
        )
        if columns and stream.features is not None:
            _check_columns(name, columns, stream.features.arrow_schema)
            stream = stream.select_columns(list(columns))
        for number, fields in enumerate(stream, 1):
            if display:
                display(sum(len(value.encode()) for value in fields.values() if isinstance(value, str)))
            yield Row(fields, f"{name}#{number}")
    except DataError:
        raise
    except (datasets.exceptions.DatasetsError, HTTPError, OSError, ValueError, RuntimeError) as error:
        raise _hub_error(name, error) from None


def _hub_error(name: str, error: Exception) -> DataError:
    said = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, ConnectionError) or "OfflineMode" in said:
        import huggingface_hub.constants

        offline = huggingface_hub.constants.HF_HUB_OFFLINE
        return DataError(
            f"{name} cannot be reached: {said}",
            fix="unset HF_HUB_OFFLINE, which forbids the network"
            if offline
            else "check the network and HF_ENDPOINT,"
            " or download it elsewhere and give its files: corpus.train='folder/*.parquet'",
        )
    if "Bad split" in said or "Unknown split" in said:
        return DataError(f"{name}: {said}", fix=f"write {name.split('@')[0]}@SPLIT")
    if "BuilderConfig" in said or "Config name" in said:
        return DataError(f"{name}: {said}", fix=f"write {name.split(':')[0]}:{name.split(':')[1]}:CONFIG")
    return DataError(
        f"{name} cannot be read: {said}",
        fix="check the name on the Hub; for a private or gated one accept its terms and set HF_TOKEN",
    )


def yaml_rows(path: Path, name: str, display: Display | None) -> Iterator[Row]:
    """Rows of a ChatterBot YAML file: ``conversations`` is a list of lists of lines.

    Only the first two lines of a conversation are taken, as prompt and completion. Most of the longer ones
    are a question with several answers to it (all of computers.yml and emotion.yml), a few are dialogues, and
    nothing in the file tells which; the first reply is right for both.

    Raises:
        DataError: not YAML, or without ``conversations``.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    data = b"".join(streams.chunks(Source("file", str(path)), display))
    try:
        value = YAML(typ="safe", pure=True).load(data.decode("utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{name} is not valid YAML: {str(error).splitlines()[0]}", fix="mend it") from None
    talks = value.get("conversations") if isinstance(value, dict) else None
    if not isinstance(talks, list):
        raise DataError(f"{name} has no list 'conversations'", rule="a YAML file is one of ChatterBot's form")
    for number, talk in enumerate(talks, 1):
        turns = [str(turn) for turn in talk] if isinstance(talk, list) else [str(talk)]
        # a line that lost its list marks in the file has no reply; the consumer counts it
        yield Row(
            {"prompt": turns[0] if turns else "", "completion": "".join(turns[1:2])}, f"{name}#{number}"
        )
