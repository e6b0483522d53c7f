"""Reads the files of annotation tools and of other data sets, and writes a custom.json."""
