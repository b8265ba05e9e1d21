"""Whether the tokenizer in a GGUF file gives the ids of tokenizer.json, on each family of base, before and after.

    uv run python scripts/gguf_families.py
    uv run python scripts/gguf_families.py --bases llama3 path/to/base --languages hi --new-tokens 4000

Bases: SmolLM2, Llama-3 and Mistral v3 from their packages, any folder, and two trained on the spot on English: one with
Qwen's regex and normaliser, one like Gemma (SentencePiece-style, tokenizer.json alone). Languages from message
catalogues, as in bench_tokenizer.py. A markdown table on standard output. Columns:

- regex: whether the base's was repaired for the language (tokenizer.pretokenizer=auto), or kept as it was
- pre: the name in the file (tokenizer.ggml.pre)
- texts: of the probe: all scripts, code, emoji, spaces, random Unicode, tokens one by one, conversations
- rule: share with equal ids by llama.cpp's rule (fastvocab.export.gguf.llama_cpp); none: the export is refused
- otherwise: texts that llama.cpp reads otherwise for a reason of its own, and which
- transformers: share with equal ids, tokens and merges as its GGUF loader reads them (cut by tokenizer.json)
- as loaded: the same as it cuts them itself
- llama.cpp: share on which llama.cpp itself gives the ids that the rule says, where llama_cpp can be imported
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import bench_material as material
from bench_harness import markdown, progress

from fastvocab.errors import ModelError
from fastvocab.export import gguf
from fastvocab.export.gguf import pretokenizers, probe, readback, vocabulary
from fastvocab.export.gguf.llama_cpp import Reader
from fastvocab.tokenizer import stage

_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SHORT = {
    probe.NORMALISER: "normaliser", probe.NO_BYTE: "byte without a token", probe.SPACE: "space behind special tokens",
    probe.NO_SPACE: "space before plain text",
}  # fmt: skip


def qwen_like(out: Path) -> None:
    """Byte-level, with Qwen's regex, NFC, and ChatML's tokens."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pretokenizers.KNOWN["qwen2"].step
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(english(), trainers.BpeTrainer(vocab_size=8000, initial_alphabet=alphabet))
    tokenizer.add_special_tokens(special)
    save(tokenizer, out, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=_CHATML)


def gemma_like(out: Path) -> None:
    """Characters with byte fallback, a space as ▁, none in front."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    special = ["<unk>", "<bos>", "<eos>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    tokenizer.train_from_iterator(english(), trainers.BpeTrainer(vocab_size=8000, special_tokens=special))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    spec = json.loads(tokenizer.to_str())
    spec |= {"pre_tokenizer": None, "added_tokens": spec["added_tokens"][:3]}
    save(Tokenizer.from_str(json.dumps(spec)), out, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")


def english() -> list[str]:
    import pydoc_data.topics as topics

    return list(topics.topics.values())


def save(tokenizer: Any, out: Path, **config: str) -> None:
    out.mkdir(parents=True)
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | config
    (out / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def row(name: str, text: str, folder: Path, repaired: bool | None, work: Path) -> dict[str, str]:
    """A line of the table."""
    regex = "-" if repaired is None else "repaired" if repaired else "kept"
    line = {"base": name, "text": text, "regex": regex}
    path = work / f"{folder.name}-{name.rpartition('/')[2]}-{text}-{regex}.gguf"
    try:
        figures = gguf.write(folder, path, tokenizer_only=True)
    except ModelError as error:
        progress(error.message)
        return (
            line
            | {"pre": "none fits", "texts": "-", "rule": "refused"}
            | dict.fromkeys(("otherwise", "transformers", "as loaded", "llama.cpp"), "-")
        )
    found = figures["probe"]
    known, theirs = found["not_in_llama_cpp"], found["transformers"]
    total = found["lines"]
    return line | {
        "pre": figures["pre"],
        "texts": f"{total:,}",
        "rule": f"{found['equal'] / total:.2%}",
        "otherwise": ", ".join(f"{one['lines']:,} {_SHORT[one['rule']]}" for one in known) or "0",
        "transformers": f"{theirs['equal'] / total:.2%}" if "equal" in theirs else theirs["not_read"],
        "as loaded": f"{theirs['as_loaded'] / total:.2%}" if "equal" in theirs else "-",
        "llama.cpp": by_llama_cpp(folder, path) if find_spec("llama_cpp") else "not installed",
    }


def by_llama_cpp(folder: Path, path: Path) -> str:
    import llama_cpp  # type: ignore[import-not-found, unused-ignore]

    base, _, chats = vocabulary.read(folder)
    lines = [*probe.lines_for(base), *chats]
    expected = Reader(readback.vocabulary(path)).encode_all(lines)
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    found = [model.tokenize(line.encode("utf-8"), add_bos=False, special=True) for line in lines]
    return f"{sum(a == b for a, b in zip(found, expected)) / len(lines):.2%}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--bases", nargs="+", default=["smollm2", "llama3", "qwen-like", "mistral", "gemma-like"]
    )
    parser.add_argument("--languages", nargs="+", default=["uk", "hi"])
    parser.add_argument("--new-tokens", type=int, default=1500)
    given = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for language in given.languages:
            material.write_language(language, None, None, work / language)
        for name in given.bases:
            base = work / f"base-{Path(name).name}"
            makers = {"qwen-like": qwen_like, "gemma-like": gemma_like}
            if name in makers:
                makers[name](base)
            else:
                base = material.make_base(name, base)
            progress(name)
            lines.append(row(name, "base", base, None, work))
            for language in given.languages:
                for mode in ("auto", "keep"):
                    out = work / f"{base.name}-{language}-{mode}"
                    out.mkdir()
                    text, held = work / language / "train.jsonl", work / language / "heldout.jsonl"
                    figures = stage.build(
                        base, text, out, heldout=held, new_tokens=given.new_tokens, method="continued", pretokenizer=mode
                    )  # fmt: skip
                    changed = figures["pretokenizer"]["changed"]
                    lines.append(row(name, language, out, changed, work))
                    if not changed:  # then both are one
                        break
    sys.stdout.write(markdown(lines) + "\n")


if __name__ == "__main__":
    main()
