"""Reading and validation of raw files."""
