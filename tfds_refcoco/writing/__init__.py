"""From raw files to a built data set."""
