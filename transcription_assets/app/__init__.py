"""Door 2: the command line, without Dagster. It composes the same steps as the assets."""
