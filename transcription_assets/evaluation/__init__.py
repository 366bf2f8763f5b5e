"""Evaluation of the search: a labelled set of talks and questions, and metrics over the answers."""
