"""Dagster definitions: the only package that imports Dagster. Assets call the steps and report their results."""

import warnings

import dagster as dg

# Checks with partitions and backfill policies are used deliberately, and constraints.txt pins Dagster's version.
# Repeated at each process start, these warnings would hide the messages that need attention.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
