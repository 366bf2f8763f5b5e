"""Door 1: the only code that knows Dagster. It composes the steps and shows what they found."""

import warnings

import dagster as dg

# Checks with partitions and backfill policies are used knowingly, and constraints.txt holds Dagster's version: said
# again at every start of every process, this would drown what people should read.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
