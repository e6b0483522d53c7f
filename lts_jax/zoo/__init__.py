"""Trained networks that come with the package: a folder for each, as `lts export --format hub`."""
