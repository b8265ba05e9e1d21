"""The live model out of base, rows and LoRA; and the same folder as its own library loads it, to compare."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastvocab import console
from fastvocab.errors import CheckpointError, FastvocabError
from fastvocab.model import backend, text
from fastvocab.model import load as loader
from fastvocab.model.adopt import find
from fastvocab.model.adopt.lora import Lora
from fastvocab.model.adopt.tensors import Findings, Matrix
from fastvocab.model.reference import Base
from fastvocab.model.tying import untie

Missing = Literal["error", "subtokens", "mean"]


@dataclass
class Vocabulary:
    """Tokens of the folder beside those of its base.

    Attributes:
        tokenizer: of the folder.
        base_tokenizer: of the base.
        new_ids: ids that the base has no token for; empty where there are none.
        stop: one more than the highest id of a token.
    """

    tokenizer: Any
    base_tokenizer: Any
    new_ids: range
    stop: int


def vocabulary(source: find.Source, base: Base, rows: int, said: Findings) -> Vocabulary:
    """Compare the folder's tokenizer with the base's.

    Args:
        rows: of the largest matrix in the folder, or of the base where it has none.
        said: gets a note for base tokens that were renamed.

    Raises:
        CheckpointError: no tokenizer where the matrix has grown; old tokens with other ids; ids without a token
            between the new ones.
    """
    base_rows = (base.config.get("text_config") or base.config)["vocab_size"]
    if source.tokenizer is None and rows > base_rows:
        raise CheckpointError(
            f"{source.folder}: the matrix has {rows:,} rows, {rows - base_rows:,} more than the base, and there is no "
            f"tokenizer in the folder or beside it: which tokens the rows {base_rows:,} to {rows - 1:,} are for is in "
            "no file",
            fix="put the tokenizer of the training into the folder (tokenizer.json and tokenizer_config.json)",
        )
    old = _tokenizer(base.folder)
    if source.tokenizer is None:
        said.notes.append("no tokenizer in the folder: the base's own is used, and the matrix has not grown")
    new = _tokenizer(source.tokenizer) if source.tokenizer else old
    old_ids, new_ids = old.get_vocab(), new.get_vocab()
    if base.folder == source.folder.resolve():  # a model that stands on itself: what has no row is new
        old_ids = {token: i for token, i in old_ids.items() if i < rows}
    moved = [t for t, i in old_ids.items() if new_ids.get(t, i) != i]
    if moved:
        raise CheckpointError(
            f"{source.tokenizer}: {len(moved)} tokens of the base have another id there, such as {moved[0]!r} "
            f"({old_ids[moved[0]]} in the base, {new_ids[moved[0]]} here)",
            rule="an extended tokenizer keeps every id of the base's",
            fix="name the base that it was made from with --base",
        )
    if renamed := sorted(old_ids[t] for t in old_ids.keys() - new_ids.keys()):
        said.notes.append(
            f"{len(renamed)} tokens of the base are spelled otherwise here: ids {find.spans(renamed)}"
        )
    first = max(old_ids.values()) + 1
    stop = max(first, max(new_ids.values()) + 1)
    gaps = sorted(set(range(first, stop)) - set(new_ids.values()))
    if gaps:
        raise CheckpointError(
            f"{source.tokenizer}: no token has the ids {find.spans(gaps)}, between the new ones",
            rule="the ids of new tokens follow one another",
        )
    return Vocabulary(new, old, range(first, stop), stop)


def _tokenizer(folder: Path) -> Any:
    try:
        with console.quiet():
            return text.tokenizer(folder)
    # the tokenizers library raises bare Exception for a damaged tokenizer.json
    except Exception as error:
        raise CheckpointError(
            f"the tokenizer in {folder} cannot be loaded: {find.reads(error)}",
            fix="copy or download its files again",
        ) from error


def base_pieces(vocabulary: Vocabulary, ids: list[int], known: int) -> list[list[int]]:
    """For each new id the ids below ``known`` that its text had before; empty where it has no text of its own."""
    tokenizer = _reader(vocabulary, known)
    out = []
    for i in ids:
        spelled = vocabulary.tokenizer.decode([i], clean_up_tokenization_spaces=False)
        found = [] if "\ufffd" in spelled else tokenizer(spelled)
        out.append(found if all(j < known for j in found) else [])
    return out


def _reader(vocabulary: Vocabulary, known: int) -> Any:
    """The tokenizer as it was before ids from ``known`` on, as text -> ids."""
    base = vocabulary.base_tokenizer
    if max(base.get_vocab().values()) < known:
        return lambda spelled: base(spelled, add_special_tokens=False)["input_ids"]
    from tokenizers import Tokenizer

    data = json.loads(base.backend_tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if t["id"] < known]
    data["post_processor"] = None
    if isinstance(vocab := data["model"].get("vocab"), dict):
        vocab = data["model"]["vocab"] = {token: i for token, i in vocab.items() if i < known}
        merges = data["model"].get("merges", [])
        parts = [tuple(m.split(" ", 1)) if isinstance(m, str) else tuple(m) for m in merges]
        data["model"]["merges"] = [
            m for m, p in zip(merges, parts) if "".join(p) in vocab and set(p) <= set(vocab)
        ]
    old = Tokenizer.from_str(json.dumps(data))
    return lambda spelled: old.encode(spelled, add_special_tokens=False).ids


def complete(matrices: dict[str, Matrix], rows: int, words: Vocabulary, missing: Missing) -> list[int]:
    """Give every matrix ``rows`` rows; returns the ids that had to be started anew.

    Args:
        missing: how: ``subtokens`` (mean of what the base read in its place) or ``mean`` (of all rows).
    """
    import torch

    begun: set[int] = set()
    for part in {id(m): m for m in matrices.values()}.values():
        absent = sorted(part.lost | set(range(len(part.rows), rows)))
        if not absent:
            continue
        known = absent[0]
        grown = torch.cat([part.rows, part.rows.new_zeros(rows - len(part.rows), part.rows.shape[1])])
        have = torch.ones(rows, dtype=torch.bool)
        have[torch.tensor(absent)] = False
        grown[~have] = grown[have].float().mean(0).to(grown.dtype)
        if missing == "subtokens":
            of_tokens = [i for i in absent if i < words.stop]
            for i, pieces in zip(of_tokens, base_pieces(words, of_tokens, known)):
                if pieces:
                    grown[i] = grown[pieces].float().mean(0).to(grown.dtype)
        part.rows = grown
        begun |= set(absent)
    return sorted(begun)


def live(base: Base, words: Vocabulary, matrices: dict[str, Matrix], lora: Lora) -> Any:
    """The model that was saved: base, grown, rows laid, LoRA on; in inference mode.

    Raises:
        CheckpointError: LoRA that did not find its places.
    """
    import torch

    from fastvocab.model.extend import grow

    model, own = loader.base_model(base, load_in_4bit=False, block=2048, seed=3407)
    rows = len(matrices["embed_tokens"].rows)
    spellings = words.tokenizer.convert_ids_to_tokens(list(words.new_ids))
    grow(model, own, words.new_ids, spellings, rows=rows)
    if loader.is_tied(model) and matrices["lm_head"] is not matrices["embed_tokens"]:
        untie(model)
    with torch.no_grad():
        for part, weight in loader.embedding_weights(model).items():
            weight[:rows] = matrices[part].rows.to(weight.device, weight.dtype)
    if lora.settings is not None:
        model = loader.add_lora(
            model, **lora.settings, embeddings="frozen", new_ids=words.new_ids, block=2048, seed=3407,
            gradient_checkpointing=False,
        )  # fmt: skip
        _lay(model, lora)
    return model.eval()


def _lay(model: Any, lora: Lora) -> None:
    import torch

    left = set(lora.pairs)
    with torch.no_grad():
        for name, module in model.named_modules():
            # PEFT's name: base_model.model.model.layers.0...
            pair = lora.pairs.get(name.removeprefix("base_model.model."))
            if pair is not None and hasattr(module, "lora_A"):
                module.lora_A["default"].weight.copy_(pair[0])
                module.lora_B["default"].weight.copy_(pair[1])
                left.discard(name.removeprefix("base_model.model."))
    if left:
        raise CheckpointError(
            f"LoRA of {len(left)} modules has no place in the loaded model, such as {min(left)}"
        )


def probe_ids(words: Vocabulary, rows: int) -> list[int]:
    """Ids that the folder is compared by: a BOS, 64 from everywhere, 32 new ones; all below ``rows``."""
    stop = min(words.stop, rows)
    everywhere = [i * (stop - 1) // 63 for i in range(64)]
    new = [i for i in words.new_ids if i < stop]
    picks = [new[i * (len(new) - 1) // 31] for i in range(32)] if new else []
    return [text.bos_id(words.tokenizer), *everywhere, *picks]


def as_its_library(source: find.Source, base: Base, rows: int, ids: list[int], lora: Lora) -> tuple[Any, str]:
    """Logits of the folder as PEFT or transformers load it, (len(ids), rows); None and why where they cannot."""
    import torch
    from transformers import AutoModelForCausalLM

    from fastvocab.model import probe

    backend.unsloth()  # first: it patches what both sides use
    dtype = getattr(torch, backend.dtype_name())
    where = source.folder if source.kind == "model" else base.folder
    try:
        with console.quiet():
            model: Any = AutoModelForCausalLM.from_pretrained(
                where, dtype=dtype, trust_remote_code=False, use_safetensors=True
            )
            model = model.to(backend.device())
            if source.kind == "adapter":
                from peft import PeftConfig, PeftModel

                if model.get_input_embeddings().weight.shape[0] != rows:
                    model.resize_token_embeddings(rows, mean_resizing=False)
                config = PeftConfig.from_pretrained(str(source.folder))
                config.inference_mode = True
                if isinstance(getattr(config, "target_modules", None), str) and lora.pairs:
                    # an untrusted regular expression can run for ever; these are the modules that it named
                    config.target_modules = sorted(lora.pairs)
                model = PeftModel.from_pretrained(model, str(source.folder), config=config)
        return probe.logits(model, ids), "PEFT" if source.kind == "adapter" else "transformers"
    except FastvocabError:
        raise
    # whatever a library makes of a folder that it does not know
    except Exception as error:  # noqa: BLE001
        library = "PEFT" if source.kind == "adapter" else "transformers"
        why = find.reads(error)[:200]
        for place in (source.folder, base.folder):  # a checkpoint keeps this, and goes to other machines
            why = why.replace(str(place), place.name)
        return None, f"{library} cannot load it: {why}"
