"""Extend a base tokenizer in place: train pieces, merge them, prove that nothing else moved, measure.

Imports only `fastvocab.{run,config,files,console,unicode,errors}`. `stage.build` is what the line calls;
`verify.check` compares any two tokenizer folders.
"""
