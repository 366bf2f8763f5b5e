"""Slides: what a recording shows as text, and when."""
