"""The search page, its API, and the MCP server.

Most routes only read; with write access users also upload recordings and name speakers. This is the only package that
imports FastAPI. `archive` provides the data, `server` composes the application and runs it.
"""
