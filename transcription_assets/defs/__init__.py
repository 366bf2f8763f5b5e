"""Door 1: the only code that knows Dagster. It composes the steps and shows what they found."""
