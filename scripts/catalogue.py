"""The catalogue of recipes: which base on which GPU, with which settings. ``write_catalogue.py`` writes the files.

Numbers of `BASES` are those of each model's published config.json, as far as a plan reads it, and what its safetensors
files hold by the Hub's own count; ``tests/test_catalogue.py`` holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Base:
    """A base model.

    Attributes:
        name: on the Hub, one that needs no licence to be clicked and no token.
        config: config.json's fields that a plan reads.
        published: numbers in the safetensors files. A tied head that is stored as well is in it.
        stored_twice: the files hold the tied head, too.
        licence: of the weights.
        note: one sentence for the recipe's head, if there is something to know.
    """

    name: str
    config: dict[str, Any]
    published: int
    licence: str
    stored_twice: bool = False
    note: str = ""


def _config(
    kind: str,
    cls: str,
    width: int,
    layers: int,
    heads: tuple[int, int, int],
    inner: int,
    rows: int,
    tied: bool,
) -> dict[str, Any]:
    """config.json of a decoder; ``heads`` are those of queries, of keys and values, and the size of one."""
    return {
        "architectures": [f"{cls}ForCausalLM"], "model_type": kind, "hidden_size": width, "num_hidden_layers": layers,
        "num_attention_heads": heads[0], "num_key_value_heads": heads[1], "head_dim": heads[2],
        "intermediate_size": inner, "vocab_size": rows, "tie_word_embeddings": tied, "max_position_embeddings": 32768,
    }  # fmt: skip


_LLAMA_32, _LLAMA_31 = "Llama 3.2 Community License", "Llama 3.1 Community License"
#: Sources: huggingface.co/NAME/blob/main/config.json, and "safetensors" of huggingface.co/api/models/NAME (of the
#: makers' own repository, whose weights these are); read in other repositories' copies on 28 November 2026.
BASES = {
    # meta-llama/Llama-3.2-1B-Instruct
    "llama-3.2-1b": Base(
        "unsloth/Llama-3.2-1B-Instruct",
        _config("llama", "Llama", 2048, 16, (32, 8, 64), 8192, 128256, True), 1_235_814_400, _LLAMA_32,
    ),
    # meta-llama/Llama-3.2-3B-Instruct
    "llama-3.2-3b": Base(
        "unsloth/Llama-3.2-3B-Instruct",
        _config("llama", "Llama", 3072, 28, (24, 8, 128), 8192, 128256, True), 3_212_749_824, _LLAMA_32,
    ),
    # meta-llama/Llama-3.1-8B-Instruct
    "llama-3.1-8b": Base(
        "unsloth/Llama-3.1-8B-Instruct",
        _config("llama", "Llama", 4096, 32, (32, 8, 128), 14336, 128256, False), 8_030_261_248, _LLAMA_31,
    ),
    # Qwen/Qwen3-1.7B, whose files hold the tied head as well
    "qwen3-1.7b": Base(
        "unsloth/Qwen3-1.7B",
        _config("qwen3", "Qwen3", 2048, 28, (16, 8, 128), 6144, 151936, True), 2_031_739_904, "Apache-2.0",
        stored_twice=True,
    ),
    # Qwen/Qwen3-4B
    "qwen3-4b": Base(
        "unsloth/Qwen3-4B",
        _config("qwen3", "Qwen3", 2560, 36, (32, 8, 128), 9728, 151936, True), 4_022_468_096, "Apache-2.0",
    ),
    # Qwen/Qwen3-8B
    "qwen3-8b": Base(
        "unsloth/Qwen3-8B",
        _config("qwen3", "Qwen3", 4096, 36, (32, 8, 128), 12288, 151936, False), 8_190_735_360, "Apache-2.0",
    ),
    # google/gemma-3-1b-it. The larger ones are of text and images (Gemma3ForConditionalGeneration), which is refused
    "gemma-3-1b": Base(
        "unsloth/gemma-3-1b-it",
        _config("gemma3_text", "Gemma3", 1152, 26, (4, 1, 256), 6912, 262144, True), 999_885_952, "Gemma Terms of Use",
        note="Not for a T4: Unsloth computes Gemma 3 in float32 where there is no bfloat16. Larger ones read images, "
        "too, and are refused.",
    ),
    # mistralai/Mistral-7B-Instruct-v0.3
    "mistral-7b-v0.3": Base(
        "unsloth/mistral-7b-instruct-v0.3",
        _config("mistral", "Mistral", 4096, 32, (32, 8, 128), 14336, 32768, False), 7_248_023_552, "Apache-2.0",
        note="Its vocabulary is small (32,768 rows), so that training all of it costs little.",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """A base on a GPU.

    Attributes:
        base: key of `BASES`.
        gpu: as ``--gpu`` takes it.
        embeddings: ``full`` where that takes less than three quarters of the memory, else ``new_rows``.
        batch, block: of a forward pass; `accumulate` of them make a step of 16,384 tokens.
        four_bit: where 16-bit weights leave no room.
        minutes: of pretraining.
        export: False where a merge, which holds the 16-bit model twice, has no room on this GPU.
    """

    base: str
    gpu: str
    embeddings: str
    batch: int
    block: int = 1024
    four_bit: bool = False
    minutes: int = 120
    export: bool = True

    @property
    def name(self) -> str:
        """Of the file and of the run."""
        return f"{self.base}-{self.gpu.lower()}"

    @property
    def accumulate(self) -> int:
        """Passes in a step."""
        return 16384 // (self.batch * self.block)


RECIPES = (
    Recipe("llama-3.2-1b", "T4", "new_rows", 4),
    Recipe("llama-3.2-1b", "L4", "full", 8),
    Recipe("llama-3.2-1b", "A100", "full", 8, 2048),
    Recipe("llama-3.2-3b", "T4", "new_rows", 2),
    Recipe("llama-3.2-3b", "L4", "new_rows", 8),
    Recipe("llama-3.2-3b", "A100", "full", 8, 2048),
    Recipe("llama-3.1-8b", "T4", "new_rows", 2, four_bit=True, minutes=180, export=False),
    Recipe("llama-3.1-8b", "L4", "new_rows", 4, four_bit=True, minutes=180, export=False),
    Recipe("llama-3.1-8b", "A100", "new_rows", 4, 2048, minutes=180),
    Recipe("llama-3.1-8b", "A100-80GB", "full", 8, 2048, minutes=180),
    Recipe("qwen3-1.7b", "T4", "new_rows", 4),
    Recipe("qwen3-4b", "L4", "new_rows", 8),
    Recipe("qwen3-8b", "A100", "new_rows", 4, 2048, minutes=180),
    Recipe("gemma-3-1b", "L4", "full", 8),
    Recipe("mistral-7b-v0.3", "L4", "full", 4, four_bit=True, minutes=180, export=False),
)
