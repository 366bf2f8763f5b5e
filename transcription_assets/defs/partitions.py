"""The partitions of the graph: one for each recording, whose key is the media key."""

import dagster as dg

recordings = dg.DynamicPartitionsDefinition(name="recordings")
