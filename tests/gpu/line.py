"""What `tests/gpu/test_gpu_classes.py` looks at, made in a process of its own: ``python -m tests.gpu.line FOLDER``.

Prints one JSON object on its last line.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.gpu import stand_in

FOUND: dict[str, Any] = {}


def note(step: Callable[..., Any], name: str, *args: Any) -> None:
    """What ``step`` returns, or its error; one failure does not hide the others."""
    began = time.monotonic()
    try:
        FOUND[name] = step(*args)
    except Exception as error:  # noqa: BLE001 - the test shows it
        FOUND[name] = {"error": repr(error), "where": traceback.format_exc()[-3000:]}
    print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)


def contents(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def loaded(root: Path, name: str, shape: dict[str, Any]) -> dict[str, Any]:
    """A base of a kind, through unsloth's GPU loader."""
    from transformers import AutoTokenizer

    from fastvocab.model import load, reference
    from tests.conftest import make_llama

    more = shape.pop("tokens", 0)
    base = make_llama(root / name, **shape)
    if more:
        tokenizer = AutoTokenizer.from_pretrained(base)
        tokenizer.add_tokens([f"<extra_{number}>" for number in range(more)])
        tokenizer.save_pretrained(base)
    config = json.loads((base / "config.json").read_text())
    model, tokenizer = load.base_model(reference.resolve(str(base)), load_in_4bit=False, block=64, seed=1)
    return {
        "finite": all(bool(p.isfinite().all()) for p in model.parameters()),
        "rows": [len(model.get_input_embeddings().weight), config["vocab_size"]],
        "pad": [model.config.pad_token_id, model.generation_config.pad_token_id, config["eos_token_id"]],
        "tokenizer_pad": tokenizer.pad_token_id,
        "fast": type(model).forward.__name__,
    }


def opened(root: Path, tied: bool) -> dict[str, Any]:
    """Embeddings opened as a whole with activations offloaded, as a GPU does from blocks of 512 tokens on."""
    from fastvocab.model import load, reference
    from tests.conftest import make_llama

    base = make_llama(root / f"long-{tied}", tied=tied)
    path = base / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": 1024}))
    before = contents(base)
    model, _ = load.base_model(reference.resolve(str(base)), load_in_4bit=False, block=1024, seed=1)
    rows = model.get_input_embeddings().weight.detach().clone()
    model = load.add_lora(
        model, r=4, alpha=8, dropout=0.0, targets=load.LINEAR, embeddings="full", new_ids=range(690, 700),
        block=1024, seed=1, gradient_checkpointing=True,
    )  # fmt: skip
    weights = load.embedding_weights(model)
    return {
        "untouched": contents(base) == before,
        "path": [model.config._name_or_path, str(base)],
        "offloads": model._unsloth_gradient_checkpointing,
        "parts": sorted(weights),
        "dtypes": sorted({str(w.dtype) for w in weights.values()}),
        "same": bool((weights["embed_tokens"] == rows).all()),
        "here": Path("_unsloth_temporary_saved_buffers").exists(),
    }


def gradients(zero: Path) -> dict[str, Any]:
    """Loss, gradient of the added rows and nats through unsloth's forward pass, and by plain transformers."""
    import torch
    from transformers import LlamaForCausalLM

    from fastvocab.model import checkpoint, load, manifest
    from fastvocab.model.nats import nats

    model, tokenizer = checkpoint.load(zero, trainable=True, embeddings="new_rows", block=64, seed=3)
    new = manifest.new_ids(manifest.read(zero))
    config = model.config.to_dict() | {"vocab_size": len(model.get_input_embeddings().weight)}
    plain = LlamaForCausalLM(type(model.config)(**config)).float()
    base = model.get_base_model()
    plain.load_state_dict(
        {
            name.replace(".base_layer", ""): tensor.float()
            for name, tensor in base.state_dict().items()
            if "lora_" not in name
        }
    )
    plain.tie_weights()
    torch.manual_seed(0)
    ids = torch.randint(2, len(tokenizer), (2, 12))
    ids[:, ::3] = torch.randint(new.start, new.stop, (2, 4))
    labels = ids.clone()
    labels[1, -4:] = -100
    model.train()
    found: dict[str, Any] = {"base": type(base).__module__, "plain": type(plain).__module__}
    for items in (None, torch.tensor(40)):
        (rows,) = load.trained_rows(model).values()
        rows.grad, plain_weight = None, plain.get_input_embeddings().weight
        plain_weight.grad = None
        ours = model(
            input_ids=ids, labels=labels, attention_mask=torch.ones_like(ids),
            **({} if items is None else {"num_items_in_batch": items}),
        ).loss  # fmt: skip
        ours.backward()
        logits = plain(input_ids=ids).logits.float()
        theirs = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1),
            labels[:, 1:].flatten(),
            reduction="sum" if items is not None else "mean",
        ) / (1 if items is None else 40)
        theirs.backward()
        wanted = plain_weight.grad[new.start : new.stop]
        found[str(items is None)] = [
            float(ours), float(theirs), float((rows.grad - wanted).norm() / wanted.norm()), float(wanted.norm()),
        ]  # fmt: skip
    # of rows of one length, and of two
    alike, unlike = ids.tolist(), [ids[0].tolist(), ids[1, :7].tolist()]
    found["nats"] = [*nats(model, alike), *nats(model, unlike)]
    with torch.no_grad():
        found["plain_nats"] = [
            float(plain(input_ids=torch.tensor([row]), labels=torch.tensor([row])).loss) * (len(row) - 1)
            for row in [*alike, *unlike]
        ]
    found["training"] = model.training
    return found


def spoken(zero: Path) -> dict[str, Any]:
    """Text written in the middle of training: greedily by hand and by `generation`, and the gradient around it."""
    import torch

    from fastvocab.model import checkpoint, generation, load

    model, tokenizer = checkpoint.load(
        zero, trainable=True, embeddings="new_rows", block=64, seed=3, gradient_checkpointing=True
    )
    model.train()
    modes = {name: module.training for name, module in model.named_modules()}
    ids = torch.randint(2, len(tokenizer), (1, 12), generator=torch.Generator().manual_seed(1))

    def gradient() -> Any:
        (rows,) = load.trained_rows(model).values()
        rows.grad = None
        model(input_ids=ids, labels=ids, attention_mask=torch.ones_like(ids)).loss.backward()
        return rows.grad.clone()

    before = gradient()
    (written,) = generation.continuations(model, tokenizer, [ids[0].tolist()], max_new_tokens=4)
    after = gradient()
    same_modes = modes == {name: module.training for name, module in model.named_modules()}
    recomputing = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    model.eval()
    row = ids[0].tolist()
    with torch.no_grad():
        for _ in range(4):
            whole = torch.tensor([row])
            row.append(
                int(model(input_ids=whole, attention_mask=torch.ones_like(whole)).logits[0, -1].argmax())
            )
    return {
        "same_gradient": bool((before == after).all()),
        "same_modes": same_modes,
        "recomputing": recomputing,
        "written": written,
        "by_hand": [i for i in row[12:] if i not in tokenizer.all_special_ids],
    }


def borders(zero: Path) -> dict[str, Any]:
    """Logits of a second document in training: behind another one, and with the border between them told."""
    import torch

    from fastvocab.model import checkpoint

    model, tokenizer = checkpoint.load(zero, block=64)
    torch.manual_seed(0)
    ids = torch.randint(2, len(tokenizer), (2, 12))
    row, places = ids.reshape(1, -1), torch.arange(12)
    model.train()

    def logits(ids: Any, **more: Any) -> Any:
        with torch.no_grad():
            return model(input_ids=ids, use_cache=False, **more).logits[:, -12:].float()

    alone = logits(ids[1:])
    told = {"position_ids": torch.cat([places, places])[None]}
    lengths = torch.tensor([12, 12], dtype=torch.int32)
    two_rows = {"position_ids": torch.cat([places[:6], places[:6]]).repeat(2, 1)}
    return {
        name: float((found - wanted).abs().max() / alone.std())
        for name, found, wanted in (
            ("behind", logits(row), alone),
            ("positions of one row", logits(row, **told), alone),
            ("packed_seq_lengths", logits(row, **told, packed_seq_lengths=lengths), alone),
            # of two rows, the second half of each is a document of its own
            ("positions of two rows", logits(ids, **two_rows)[:, 6:], logits(ids[:, 6:])),
        )
    }


def trained(root: Path, zero: Path, corpus: Path, mode: str, counts: float) -> dict[str, Any]:
    """Two steps of the pretrain stage, and its checkpoint loaded again."""
    import torch
    from safetensors.torch import load_file

    from fastvocab.config import load as configure
    from fastvocab.model import checkpoint, load, manifest
    from fastvocab.train import trainer
    from fastvocab.train.pretrain import pretrain

    accumulate = 2 if mode == "new_rows" else 1  # a pass takes 5 s and more
    settings = ("block=16", "batch=1", "lora.r=4", "steps=2", "evaluations=0", "save_minutes=100", "warmup=0",
                f"accumulate={accumulate}", f"embeddings={mode}", f"count_targets={counts}")  # fmt: skip
    section = configure(None, [f"pretrain.{setting}" for setting in settings]).pretrain
    runs: list[Any] = []
    build = trainer.build

    def watched(*args: Any) -> Any:
        runs.append(build(*args))
        return runs[-1]

    trainer.build = watched
    try:
        out = root / f"{mode}-{counts}"
        out.mkdir()
        figures = pretrain(
            out, previous=zero, corpus=corpus, section=section, key="k", saves_folder=root / f"{mode}-{counts}-saves",
            seed=3,
        )  # fmt: skip
    finally:
        trainer.build = build
    (run,) = runs
    optimizer = run.optimizer.optimizer
    new = manifest.new_ids(manifest.read(zero))
    model, _ = checkpoint.load(out)
    start, _ = checkpoint.load(zero)
    apart = (
        (load.live(model.get_input_embeddings()).float() - load.live(start.get_input_embeddings()).float())
        .abs()
        .amax(1)
    )
    log = [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]
    return {
        "class": [kind.__name__ for kind in type(run).__mro__],
        "optimizer": f"{type(optimizer).__module__}.{type(optimizer).__name__}",
        "scale": run.accelerator.scaler.get_scale(),
        "losses": [entry["loss"] for entry in log],
        "norms": [entry["grad_norm"] for entry in log],
        "trainable": figures["trainable_parameters"],
        "old_rows_moved": int((apart[: new.start] > 0).sum()),
        "new_rows_moved": [int((apart[new.start : new.stop] > 0).sum()), len(new)],
        "bits": {
            group["name"]: sorted(
                {str(state["state1"].dtype) for p in group["params"] if (state := optimizer.state.get(p))}
            )
            for group in optimizer.param_groups
        },
        "finite": all(
            bool(torch.isfinite(t).all()) for t in load_file(out / "adapter_model.safetensors").values()
        ),
    }


def main(root: Path) -> None:
    """All of it, on one tied and one untied model."""
    from fastvocab.model import backend, reference
    from fastvocab.model.extend import extend
    from fastvocab.tokenizer.stage import build
    from tests.conftest import english, make_llama, sentences, write_jsonl

    FOUND["device"], FOUND["dtype"] = backend.device(), backend.dtype_name()
    for name, shape in {
        "plain": {},
        "bare": {"bare": True},
        "padded": {"pad_rows": 36},
        "longer": {"tokens": 3},
    }.items():
        note(loaded, f"load {name}", root, name, shape)
    for tied in (True, False):
        note(opened, f"open {'tied' if tied else 'untied'}", root, tied)
    corpus, texts = root / "corpus", sentences(120)
    corpus.mkdir()
    write_jsonl(corpus / "train.jsonl", texts[:-40])
    write_jsonl(corpus / "heldout.jsonl", texts[-40:])
    write_jsonl(corpus / "replay.jsonl", english(10))
    base, tokenizer, zero = make_llama(root / "base"), root / "tokenizer", root / "zero"
    tokenizer.mkdir()
    zero.mkdir()
    build(base, corpus / "train.jsonl", tokenizer, heldout=corpus / "heldout.jsonl", new_tokens=60,
          scripts=frozenset({"Cyrl"}))  # fmt: skip
    extend(zero, reference.resolve(str(base)), tokenizer, init="subtokens", seed=3)
    note(gradients, "gradients", zero)
    note(spoken, "spoken", zero)
    note(borders, "borders", zero)
    for mode, counts in (("new_rows", 0.9), ("full", 0.0)):
        note(trained, f"train {mode} {counts}", root, zero, corpus, mode, counts)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    stand_in.install(str(folder / "compiled"))
    main(folder)
    print(json.dumps(FOUND))
