"""A page on this machine to try a network on one's own pictures."""
