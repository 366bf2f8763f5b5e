"""The inbox sensor: listing, queue, active runs."""
