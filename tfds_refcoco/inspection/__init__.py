"""Checks, statistics and pictures of a built data set."""
