"""Conversion of raw files to a built dataset."""
