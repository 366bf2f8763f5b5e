"""Sources of recordings: feeds, links, single files and other stores, whose recordings land in the inbox."""
