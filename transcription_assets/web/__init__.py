"""The search page and its API, both read-only.

This is the only package that imports FastAPI. `archive` provides the data, `site` composes the application, and
`server` runs it.
"""
