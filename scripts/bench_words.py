"""Tokens a word of well-known tokenizers in many languages: where there is something to gain, and where not.

    python scripts/bench_words.py                               (26 languages, three bases, a minute)
    python scripts/bench_words.py --languages uk de --bases llama3 DIR

Text: the translated messages of Plone and Django, each once, 100 kB at most (`bench_material.messages`); English is
Python's own documentation. Only words count, each with the space before it, so that what stands between them does not.
Scripts without spaces between words have tokens a character instead.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench_harness import markdown, progress
from bench_material import make_base, messages

from fastvocab.tokenizer import base as bases
from fastvocab.tokenizer.measure import measure

LANGUAGES = (
    "en", "de", "es", "fr", "it", "pt", "pl", "cs", "hu", "fi", "tr", "vi", "ru", "uk", "el", "he", "ar", "hi", "bn",
    "ta", "ka", "hy", "ko", "th", "ja", "zh",
)  # fmt: skip
BYTES = 100_000


def text(language: str) -> list[str]:
    """Lines of a language, `BYTES` of them."""
    if language == "en":
        import pydoc_data.topics as topics

        lines = (line for topic in topics.topics.values() for line in topic.splitlines() if line.strip())
    else:
        lines = messages(language)
    found, size = [], 0
    for line in dict.fromkeys(lines):
        size += len(line.encode())
        if size > BYTES:
            break
        found.append(line)
    return found


def main(arguments: list[str]) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--languages", nargs="+", default=LANGUAGES)
    parser.add_argument("--bases", nargs="+", default=["llama3", "mistral", "smollm2"], help="or folders")
    options = parser.parse_args(arguments)
    texts = {language: text(language) for language in options.languages}
    rows: dict[str, dict[str, str]] = {
        language: {"language": language, "kB": f"{sum(len(x.encode()) for x in lines) / 1000:.0f}"}
        for language, lines in texts.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in options.bases:
            place = Path(name) if Path(name).is_dir() else make_base(name, Path(folder) / name)
            tokenizer = bases.read(place).tokenizer
            for language, lines in texts.items():
                found = measure(tokenizer, lines)
                figure, unit = found["tokens_per_word_alone"], ""
                if figure is None:
                    figure, unit = found["tokens_per_character"], " a character"
                rows[language][place.name] = f"{figure:.2f}{unit}"
            progress(name)
    print(markdown(list(rows.values())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
