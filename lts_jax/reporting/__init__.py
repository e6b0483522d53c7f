"""The HTML report on an evaluated run."""
