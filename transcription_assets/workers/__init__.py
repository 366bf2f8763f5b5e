"""Decoding in other processes: manifests, the worker, launchers, and the coordinator that merges their work."""
