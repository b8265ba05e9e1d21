"""The report of a run: one HTML page made from its records, with figures as inline SVG; and one about several runs.

`write` is what the line calls, `compare.write` puts runs side by side. ``sections/`` says what each section shows,
``templates/`` how; ``plots`` and ``svg`` draw, and import matplotlib only then. Imports only
`fastvocab.{run,config,files,console,unicode,errors,numbers,facts,table,outcome}`.
"""

from fastvocab.report.page import NAME, write

__all__ = ["NAME", "write"]
