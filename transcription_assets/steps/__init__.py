"""The steps of the graph for one recording, one module each, in the order of the pipeline; no Dagster.

Both doors call them: `defs/` as assets, `app/` as the command line. Each `materialise` reads what the step before left
in the store, writes its own artefacts, its record last, and returns that record; what is already there for the same
object, model and options is returned as it is (`reused`), so a second run costs nothing.
"""
