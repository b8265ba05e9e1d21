"""The corpus stage: read text of any ordinary form, clean it, and split it by what it says.

Import the modules by name; this file stays empty so that ``--help`` pays for none of them::

    items     what flows between the modules: documents and rows
    packages  text that ships in ordinary Python packages
    sources   what a person may write for a source, found and named
    streams   bytes to text: decompression, UTF-8, lines, in constant memory
    formats   a file's rows: jsonl, json, csv, parquet, yaml, datasets
    read      documents and rows of any mixture of sources
    clean     what a document must be, and why it was dropped
    seen      exact duplicates in constant memory
    minhash   near-duplicates in constant memory
    split     held out or not, decided by the text alone
    shards    the work on single documents, dealt out by source
    spread    who does it: this process or tasks
    executors datatrove's executors, which run the tasks
    chat      chat rows of any ordinary shape, as messages
    stage     the stage itself
"""
