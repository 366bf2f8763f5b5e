"""Export of transcripts and passages: Parquet and Postgres."""
