"""Search: queries, ranking and the LanceDB tables."""
