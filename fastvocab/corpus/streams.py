"""From bytes on disk to text: decompression, UTF-8, lines; every fault named with file and place.

Memory is bounded by the chunk and by `MAX_CHARACTERS`, however long the file or one of its lines is.
"""

from __future__ import annotations

import codecs
import gzip
import io
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, cast

from fastvocab.corpus.items import Display
from fastvocab.corpus.sources import Source
from fastvocab.errors import DataError

#: Bytes read at once.
CHUNK = 1 << 18

#: A longer text is cut into several documents, at white space if there is any near. Most novels are below it;
#: without it a file that has no line ends, or a dump read with unit=file, would be held in memory whole.
MAX_CHARACTERS = 1_000_000

_MAGIC = {
    b"%PDF-": "a PDF; export it as text first",
    b"PK\x03\x04": "a zip archive (docx, epub, xlsx...); export it as text first",
    b"\x1f\x8b": "gzip-compressed; its name must end in .gz",
    b"\x28\xb5\x2f\xfd": "zstd-compressed; its name must end in .zst",
    b"\xfd7zXZ\x00": "xz-compressed; unpack it first",
    b"PAR1": "parquet; its name must end in .parquet",
    b"ARROW1": "an Arrow file; save it as parquet",
    b"GGUF": "a GGUF model",
    b"\x7fELF": "a program",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"SQLite format 3\x00": "an SQLite database; export it as jsonl or csv",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


class _CountingFile(io.FileIO):
    """A file that says how many bytes were taken from it."""

    def __init__(self, name: str, display: Display | None) -> None:
        super().__init__(name, "rb")
        self._display = display

    def readinto(self, buffer) -> int | None:
        count = super().readinto(buffer)
        if self._display and count:
            self._display(count)
        return count


def _open(source: Source, display: Display | None) -> IO[bytes]:
    raw = io.BufferedReader(_CountingFile(source.name, display), CHUNK)
    if source.compression == "gzip":
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    if source.compression == "zstd":
        # pyarrow, because zstandard's reader ends quietly where a frame is cut off, and its other interface
        # (decompressobj) cannot bound its output; this one does both and reads several frames in a row.
        import pyarrow

        return cast(IO[bytes], pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd"))
    return raw


def chunks(source: Source, display: Display | None = None) -> Iterator[bytes]:
    """The file's bytes, decompressed, in chunks.

    Raises:
        DataError: unreadable, damaged compression, or binary by its first bytes.
    """
    first = True
    try:
        with _open(source, display) as file:
            while chunk := file.read(CHUNK):
                if first:
                    _refuse_binary(source, chunk)
                    first = False
                yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(source, error) from None
    except OSError as error:
        if source.compression and error.errno is None:  # pyarrow reports damage as a bare OSError
            raise _damaged(source, error) from None
        raise DataError(
            f"{source.name} cannot be read: {error.strerror or error}", fix="check its permissions"
        ) from None


def _damaged(source: Source, error: BaseException) -> DataError:
    return DataError(
        f"{source.name} is damaged or no {source.compression} file: {error}",
        fix=f"fetch or pack it again; '{source.compression} -t FILE' checks it",
    )


def _refuse_binary(source: Source, head: bytes) -> None:
    kind = next((what for magic, what in _MAGIC.items() if head.startswith(magic)), None)
    if kind is None and (offset := head.find(b"\0")) >= 0:
        # UTF-16 text without a mark has a NUL in nearly every second byte of its ASCII part
        kind = "UTF-16 or UTF-32" if head[:200].count(b"\0") > 20 and offset < 4 else None
        kind = kind or f"binary (a NUL byte at offset {offset})"
    if kind:
        fix = f"iconv -f UTF-16 -t UTF-8 {source.name} > NEW" if kind.startswith("UTF") else None
        raise DataError(f"{source.name} is not text, it is {kind}", rule="text files are UTF-8", fix=fix)


def text(source: Source, display: Display | None = None) -> Iterator[str]:
    """The file's text in pieces: UTF-8 without its mark, all line ends as ``\\n``.

    Raises:
        DataError: as `chunks`; and where the bytes are not UTF-8, with the offset of the first wrong one.
    """
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)
    fed, started = 0, False

    def decode(chunk: bytes, final: bool) -> str:
        try:
            return decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            # error.object is what was still undecoded before this chunk, then the chunk
            offset = fed - len(error.object) + error.start
            where = f"byte {offset}" + (" of the unpacked text" if source.compression else "")
            raise DataError(
                f"{source.name} is not UTF-8: {error.object[error.start : error.start + 4].hex(' ')}"
                f" at {where} ({error.reason})",
                rule="text files are UTF-8, with or without a byte order mark",
                fix="convert it: iconv -f CP1251 -t UTF-8 FILE > NEW (CP1251 for Cyrillic, CP1256 for Arabic,"
                " CP1252 for Western, GB18030, SHIFT_JIS...)",
            ) from None

    for chunk in chunks(source, display):
        fed += len(chunk)
        piece = decode(chunk, False)
        if not started and piece:
            piece, started = piece.removeprefix("\ufeff"), True
        if piece:
            yield piece
    if last := decode(b"", True):
        yield last


def pieces(long: str, limit: int) -> Iterator[str]:
    """``long`` in pieces of at most ``limit`` characters (one empty piece if it is empty).

    A piece ends after white space if its last tenth has some. Otherwise (Chinese, Thai) the next one never
    begins with a combining mark, which belongs to the letter before it.
    """
    start = 0
    while len(long) > (end := start + limit):
        floor = end - limit // 10
        at = max(long.rfind("\n", floor, end), long.rfind(" ", floor, end)) + 1
        if not at:
            at = end
            while at > floor and unicodedata.category(long[at]).startswith("M"):
                at -= 1
        yield long[start:at]
        start = at
    yield long[start:] if start else long


def lines(parts: Iterable[str], limit: int | None = None) -> Iterator[tuple[int, str]]:
    """``(line number, line without its end)``; with ``limit``, a longer line comes in several pieces."""
    number, pending, size = 1, list[str](), 0
    for part in parts:
        first, *more = part.split("\n")
        pending.append(first)
        size += len(first)
        for line in more:  # the one before it has ended
            whole = "".join(pending)
            for piece in pieces(whole, limit) if limit else (whole,):
                yield number, piece
            number += 1
            pending, size = [line], len(line)
        if limit and size > limit:
            *ready, rest = pieces("".join(pending), limit)
            for piece in ready:
                yield number, piece
            pending, size = [rest], len(rest)
    if size:
        whole = "".join(pending)
        for piece in pieces(whole, limit) if limit else (whole,):
            yield number, piece
