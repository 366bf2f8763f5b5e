"""Values and rules of the subject, without I/O: media keys, transcripts, passages, subtitles and text."""
