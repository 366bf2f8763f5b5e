"""One partition for each recording, shared by the whole graph; its key is the media key."""

import dagster as dg

recordings = dg.DynamicPartitionsDefinition(name="recordings")
