"""The report of a run: one HTML page made from its records, with figures as inline SVG.

`write` is what the line calls; ``plots`` draws, and imports matplotlib only then. Imports only
`fastvocab.{run,config,files,console,unicode,errors,numbers,facts,table}`.
"""

from fastvocab.report.page import NAME, write

__all__ = ["NAME", "write"]
