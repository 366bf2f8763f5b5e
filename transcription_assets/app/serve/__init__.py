"""serve: the search page and its API, for people and programs that only read.

The one place that knows FastAPI. `archive` is what is served, `site` puts the parts together, `server` runs it.
"""
