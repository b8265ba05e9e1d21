"""The corpus stage: read, clean, split, write; and say what was dropped and why."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastvocab import console, files
from fastvocab.corpus import packages, split
from fastvocab.corpus.clean import REASONS, Cleaner, Judged, target_scripts
from fastvocab.corpus.items import Document
from fastvocab.corpus.read import Unit, check_unit, documents_of, some
from fastvocab.corpus.shards import Reading, Shard
from fastvocab.corpus.sources import Source, resolve
from fastvocab.corpus.spread import Executor, Spread
from fastvocab.corpus.write import DROPPED_KEPT, DROPPED_LENGTH, WRITING, Meter, Part
from fastvocab.errors import DataError
from fastvocab.unicode import dominant_scripts, letter_scripts

#: Characters at the head of a corpus by which its scripts are told. They are held in memory.
SAMPLE = 2_000_000

#: Below this share kept, wrong scripts are taken for a mistake in the language rather than for noise.
HARDLY_ANY = 0.02

#: Documents of a part as they were judged, each with its source, and what settles them.
_Judged = tuple[Cleaner, Iterator[tuple[str, Judged]]]


def build(
    folder: Path | str,
    *,
    train: str | Sequence[str],
    replay: str | Sequence[str] = (),
    language: str | None = None,
    text_key: str = "text",
    unit: Unit = "auto",
    min_chars: int = 10,
    min_script_share: float = 0.5,
    heldout: float = 0.02,
    near_duplicates: float | None = None,
    executor: Executor = "builtin",
    tasks: int | None = None,
    workers: int | None = None,
    memory_gb: int = 4,
    slurm: Mapping[str, Any] | None = None,
    saves: Path | None = None,
) -> dict[str, Any]:
    """Make ``train.jsonl``, ``heldout.jsonl``, ``replay.jsonl`` and ``replay_heldout.jsonl`` of a corpus.

    Each line is ``{"text": ...}``. Without ``replay`` its two files are empty. ``dropped.jsonl`` holds the
    first documents dropped for each reason (`DROPPED_KEPT` of each): ``{"part", "reason", "source",
    "text"}``, the text cut to 200 characters.

    Args:
        folder: an existing empty folder.
        train: text of the new language: paths, globs, folders, ``hf:...``, ``package:...``
            (`sources.resolve`).
        replay: text of what the base model knows already. Its scripts are found from itself.
        language: BCP 47 tag of the new language; its scripts are the target scripts. Without it, the scripts
            that dominate the first `SAMPLE` characters are.
        text_key: the field that holds the text, in structured files.
        unit: what a document is in plain text (`read.documents`).
        min_chars: fewest characters of a document.
        min_script_share: smallest share, 0 to 1, of a document's letters in the target scripts; 0 lets all
            pass.
        heldout: share of the documents, 0 to 0.5, that is held out; raised for small corpora (`split`).
        near_duplicates: similarity, 0.5 to 1, from which a document like an earlier one is dropped (`minhash`).
        executor, tasks, workers, memory_gb, slurm: who does the work (`spread.Spread`); the result is the same.
        saves: where the tasks of an executor leave what they have done, for the same call to go on from. It
            stays; its caller removes it.

    Returns:
        Figures, fit for JSON. For ``train``, ``heldout``, ``replay``, ``replay_heldout``: ``documents``,
        ``characters``, ``bytes`` (of text, in UTF-8). ``dropped``, ``replay_dropped``: documents by reason.
        ``scripts``, ``replay_scripts``: share of letters kept. ``target_scripts``, ``language``.
        ``heldout_share``, ``replay_heldout_share``: as used. ``packages``: records with licences.
        ``read_bytes`` (on disk), ``seconds``, ``mb_per_second``.

    Raises:
        DataError: sources missing or damaged, or nothing left of them (with the counts by reason).
        ConfigError: a share, unit or language that is none.
        DependencyError: a package source that is not installed, or datatrove for what needs it.
        ResourceError: too little disk space, or tasks that were lost.
    """
    started, folder = time.monotonic(), Path(folder)
    split.check_share(heldout)
    check_unit(unit)
    spread = Spread(executor, tasks, workers, memory_gb, slurm)
    spread.check()
    reading = Reading(text_key, unit, min_chars, min_script_share, near_duplicates)
    reading.cleaner(frozenset())
    found = {"train": resolve(train), "replay": resolve(replay) if replay else []}
    records = _packages([*found["train"], *found["replay"]])
    size = sum(_unpacked(source) for group in found.values() for source in group)
    files.require_space(folder, size if executor == "builtin" else 2 * size, "the corpus")
    figures: dict[str, Any] = {"language": language}
    with console.progress("MB") as bars, (folder / "dropped.jsonl").open("w", **WRITING) as dropped:
        meter = Meter(bars)
        languages = {"train": language, "replay": None}
        if executor == "builtin":
            read = _reader(found, languages, reading, meter)
        else:
            shards = (saves or folder) / ".shards"
            read = _distributed(found, languages, reading, meter, spread, shards)
        for part, prefix in (("train", ""), ("replay", "replay_")):
            meter.start(f"reading {part}", found[part])
            cleaner, stream = read(part)
            writer = Part(folder, part, f"{prefix}heldout", heldout)
            own = _settle(writer, stream, cleaner, languages[part], dropped, meter)
            figures |= writer.figures()
            figures[f"{prefix}heldout_share"] = writer.share
            figures |= {f"{prefix}{name}": value for name, value in own.items()}
    files.remove_folder(folder / ".shards")
    seconds = time.monotonic() - started
    figures |= {
        "packages": records,
        "read_bytes": meter.bytes,
        "seconds": round(seconds, 2),
        "mb_per_second": round(meter.bytes / 1e6 / seconds, 2),
    }
    return figures


def _packages(found: list[Source]) -> list[dict[str, Any]]:
    records = [packages.package_info(source.name) for source in found if source.kind == "package"]
    for record in records:
        console.say(f"text from {record['name']} {record['version']}, {record['licence']}, {record['url']}")
    return records


def _unpacked(source: Source) -> int:
    # text packs to a quarter or a third; for a hub dataset nothing is known
    return (source.bytes or 0) * (4 if source.compression or source.format == "parquet" else 1)


def _head(documents: Iterator[Document]) -> tuple[list[Document], Counter[str]]:
    """The first `SAMPLE` characters of a corpus, in whole documents, and their letters by script."""
    sample, letters, size = list[Document](), Counter[str](), 0
    for document in documents:
        sample.append(document)
        letters.update(letter_scripts(document.text))
        size += len(document.text)
        if size >= SAMPLE:
            break
    return sample, letters


_Found = Mapping[str, list[Source]]
_Languages = Mapping[str, str | None]


def _reader(found: _Found, languages: _Languages, reading: Reading, meter: Meter) -> Callable[[str], _Judged]:
    """Reads a part in this process."""

    def read(part: str) -> _Judged:
        documents = _documents(found[part], reading, meter)
        sample, letters = _head(documents)
        cleaner = reading.cleaner(target_scripts(languages[part], letters))
        whole = itertools.chain(sample, documents)
        return cleaner, ((document.source, cleaner.judge(document.text)) for document in whole)

    return read


def _distributed(
    found: _Found, languages: _Languages, reading: Reading, meter: Meter, spread: Spread, folder: Path
) -> Callable[[str], _Judged]:
    """Has all parts read by tasks, then takes up what they made."""
    folder.mkdir(parents=True, exist_ok=True)
    scripts: dict[str, frozenset[str]] = {}
    shards: dict[str, list[Shard]] = {}
    for part, sources in found.items():
        _, letters = _head(_documents(sources, reading, None))
        scripts[part] = target_scripts(languages[part], letters)
        shards[part] = [Shard.of(source, scripts[part], reading, folder) for source in sources]
    spread.run([shard for group in shards.values() for shard in group], folder)

    def read(part: str) -> _Judged:
        made = itertools.chain.from_iterable(shard.judged(meter) for shard in shards[part])
        return reading.cleaner(scripts[part]), some(made, found[part]) if found[part] else made

    return read


def _documents(sources: list[Source], reading: Reading, meter: Meter | None) -> Iterator[Document]:
    return documents_of(sources, reading.text_key, reading.unit, meter) if sources else iter(())


def _settle(
    part: Part,
    stream: Iterator[tuple[str, Judged]],
    cleaner: Cleaner,
    language: str | None,
    dropped: Any,
    meter: Meter,
) -> dict[str, Any]:
    """Decide on judged documents in their order, and write them into ``part``; the figures of the cleaning."""
    name, kept = part.name, 0
    try:
        for source, judged in stream:
            meter.documents += 1
            cleaned = cleaner.settle(judged)
            if cleaned.reason is None:
                kept += 1
                part.add(cleaned.text, cleaned.key, cleaned.bytes)
            elif cleaner.dropped[cleaned.reason] <= DROPPED_KEPT:
                text = cleaned.text[:DROPPED_LENGTH]
                row = {"part": name, "reason": cleaned.reason, "source": source, "text": text}
                dropped.write(json.dumps(row, ensure_ascii=False) + "\n")
    finally:
        part.close()
    _check_left(name, kept, cleaner, language)
    part.finish()
    return {
        "dropped": dict(cleaner.dropped.most_common()),
        "scripts": _shares(cleaner.kept_letters),
        "target_scripts": sorted(cleaner.scripts),
    }


def _shares(letters: Counter[str]) -> dict[str, float]:
    total = letters.total()
    return {script: round(count / total, 4) for script, count in letters.most_common() if count}


def _check_left(name: str, kept: int, cleaner: Cleaner, language: str | None) -> None:
    """Refuse a corpus of which nothing is left; warn where much is in another script than the language."""
    all_dropped, foreign = cleaner.dropped.total(), cleaner.dropped["wrong_script"]
    if not all_dropped:
        return
    count = kept + all_dropped
    if foreign > count / 5:
        shares = _shares(cleaner.read_letters)
        is_written = ", ".join(f"{share:.0%} {script}" for script, share in list(shares.items())[:3])
        expected = " or ".join(sorted(cleaner.scripts))
        who = (
            f"the language {language} is written in {expected}" if language else f"its head is in {expected}"
        )
        said = f"{name}: {who}, but the letters of the corpus are {is_written}"
        actual = sorted(dominant_scripts(cleaner.read_letters))
        tag = f"{language.split('-')[0]}-{actual[0]}" if language else f"sr-{actual[0]}"
        fix = f"give other text, or the tag of its language and script (such as {tag}), or min_script_share=0"
        if kept < count * HARDLY_ANY:
            raise DataError(f"{said}; {kept:,} of {count:,} documents are left", fix=fix)
        console.warn(f"{said}; {foreign:,} of {count:,} documents are dropped for it")
    if not kept:
        reasons = "".join(
            f"\n  {n:>9,} {reason}: {REASONS[reason]}" for reason, n in cleaner.dropped.most_common()
        )
        raise DataError(
            f"{name}: nothing is left of {count:,} documents after cleaning:{reasons}",
            fix="lower corpus.min_chars, choose another corpus.unit, or give other text",
        )
