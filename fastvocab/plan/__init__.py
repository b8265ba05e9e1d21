"""What a run will do, what it takes, and what is wrong with it, before any weight is loaded; without torch.

`bases` finds the model, `outlook` reckons (`sizes`, `memory`, `duration` for a `device`), `checks` looks for what
would stop the run later, `show` prints.
"""
