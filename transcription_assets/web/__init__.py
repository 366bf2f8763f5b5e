"""The search page and its API, both read-only.

This is the only package that imports FastAPI. `archive` provides the data, `server` composes the application and runs
it.
"""
