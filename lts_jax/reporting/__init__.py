"""One HTML file of an evaluated run."""
