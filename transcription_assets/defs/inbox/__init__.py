"""The inbox sensor, and what it reads: a listing or the messages of a queue."""
