"""Whether the tokenizer in a GGUF file gives the ids of tokenizer.json, on each family of base, before and after.

    uv run python scripts/gguf_families.py [--bases llama3 path/to/base] [--languages hi] [--new-tokens 4000]

Two of the bases are trained on the spot: with Qwen's regex and normaliser, and SentencePiece-style like Gemma. Columns:
regex: repaired for the language (tokenizer.pretokenizer=auto), or kept. pre: tokenizer.ggml.pre. texts: of the probe.
rule: share with equal ids by llama.cpp's rule. otherwise: texts that it reads otherwise for a reason of its own.
transformers: share with equal ids by the tokens and merges that its loader reads. as loaded: cut as it cuts them.
llama.cpp: share on which it gives the ids that the rule says, where llama_cpp can be imported.
"""

from __future__ import annotations

import argparse
import json
import pydoc_data.topics
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

_BASES = ["smollm2", "llama3", "qwen-like", "mistral", "gemma-like"]
_ENGLISH = list(pydoc_data.topics.topics.values())
_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SHORT = {
    probe.NORMALISER: "normaliser", probe.NO_BYTE: "byte without a token", probe.SPACE: "space behind special tokens",
    probe.NO_SPACE: "space before plain text", probe.MADE_UP: "made-up text",
}  # fmt: skip


def qwen_like(out: Path) -> None:
    """Byte-level, with Qwen's regex, NFC, and ChatML's tokens."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pretokenizers.KNOWN["qwen2"].step
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(_ENGLISH, trainers.BpeTrainer(vocab_size=8000, initial_alphabet=alphabet))
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    save(tokenizer, out, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=_CHATML)


def gemma_like(out: Path) -> None:
    """Characters with byte fallback, a space as ▁, none in front."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    special = ["<unk>", "<bos>", "<eos>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")
    tokenizer.train_from_iterator(_ENGLISH, trainers.BpeTrainer(vocab_size=8000, special_tokens=special))
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(parts)
    spec = json.loads(tokenizer.to_str())
    spec |= {"pre_tokenizer": None, "added_tokens": spec["added_tokens"][:3]}
    save(Tokenizer.from_str(json.dumps(spec)), out, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")


def save(tokenizer: Any, out: Path, **config: str) -> None:
    out.mkdir(parents=True)
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "TokenizersBackend"} | config))


def row(name: str, text: str, folder: Path, repaired: bool | None, work: Path) -> dict[str, str]:
    regex = "-" if repaired is None else "repaired" if repaired else "kept"
    line = {"base": name, "text": text, "regex": regex}
    path = work / f"{folder.name}.gguf"
    try:
        figures = gguf.write(folder, path, tokenizer_only=True)
    except ModelError as error:
        progress(error.message)
        empty = dict.fromkeys(("otherwise", "transformers", "as loaded", "llama.cpp"), "-")
        return line | {"pre": "none fits", "texts": "-", "rule": "refused"} | empty
    found = figures["probe"]
    known, theirs, total = found["not_in_llama_cpp"], found["transformers"], found["lines"]
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
    lines = [*probe.lines_for(base), *chats, *probe.odd_lines()]
    expected = Reader(readback.vocabulary(path)).encode_all(lines)
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    found = [model.tokenize(line.encode("utf-8"), add_bos=False, special=True) for line in lines]
    return f"{sum(a == b for a, b in zip(found, expected)) / len(lines):.2%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bases", nargs="+", default=_BASES)
    parser.add_argument("--languages", nargs="+", default=["uk", "hi"])
    parser.add_argument("--new-tokens", type=int, default=1500)
    given = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for language in given.languages:
            material.write_language(language, None, None, work / language)
        for name in given.bases:
            base, makers = (
                work / f"base-{Path(name).name}",
                {"qwen-like": qwen_like, "gemma-like": gemma_like},
            )
            if name in makers:
                makers[name](base)
            else:
                base = material.make_base(name, base)
            lines.append(row(name, "base", base, None, work))
            for language in given.languages:
                for mode in ("auto", "keep"):
                    out = work / f"{base.name}-{language}-{mode}"
                    out.mkdir()
                    text, held = work / language / "train.jsonl", work / language / "heldout.jsonl"
                    asked = {"new_tokens": given.new_tokens, "method": "continued", "pretokenizer": mode}
                    figures = stage.build(base, text, out, heldout=held, **asked)
                    lines.append(row(name, language, out, figures["pretokenizer"]["changed"], work))
                    if not figures["pretokenizer"]["changed"]:  # then both are one
                        break
    sys.stdout.write(markdown(lines) + "\n")


if __name__ == "__main__":
    main()
