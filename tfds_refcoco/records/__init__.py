"""The records of a built dataset, and their reader."""
