"""A local web page to try a network on your own images."""
