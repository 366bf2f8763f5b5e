"""Prices, timing and the cost report."""
