"""The command line. It runs the same steps as the Dagster assets, without Dagster."""
