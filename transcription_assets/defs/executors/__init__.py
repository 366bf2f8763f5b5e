"""Execution of steps: executors, pods, deadlines."""
