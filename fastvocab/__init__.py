"""fastvocab: give a Llama-family model a new language, on top of Unsloth.

Layers, imports point down only (import-linter enforces it)::

    cli, recipes
    control                                                             the same time spent in other ways
    corpus  tokenizer  model  train  evaluate  export  report  plan     the stages; model alone imports unsloth
    run                                                                 run folder, records, reuse, lock
    config                                                              every key a person may set
    files  console                                                      atomic folders, hashes; output
    errors                                                              what a user may do wrong
"""

__version__ = "0.1.0"
