"""Where steps run: executors, pods, deadlines."""
