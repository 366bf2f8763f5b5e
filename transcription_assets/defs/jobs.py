"""Jobs that sensors and people start."""

import dagster as dg

process_recordings = dg.define_asset_job(
    "process_recordings",
    selection=["video", "audio", "transcript", "embeddings"],
    description="The whole chain for one recording or a range of them: from the file to rows in the search table.",
)

refresh_search = dg.define_asset_job(
    "refresh_search",
    selection=["search_index"],
    description="Compact the search table and refresh its index now, without waiting for the automation.",
)
