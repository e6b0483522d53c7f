"""The records of a built data set, and their reader."""
