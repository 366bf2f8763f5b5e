"""The steps of the pipeline for one recording, one module each; they do not use Dagster.

`defs/` calls them as assets and `cli/` from the command line. Each `materialise` reads the artefacts of previous steps
from the store, writes its own, its record last, and returns the record. If a record for the same object, model and
options exists, it is returned unchanged (`reused`).
"""
