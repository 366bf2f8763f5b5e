"""The labelled set that search is judged by: talks with their times, questions with their true moments, and figures."""
