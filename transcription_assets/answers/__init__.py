"""Answers to questions from passages of recordings, in which every sentence cites its passages."""
