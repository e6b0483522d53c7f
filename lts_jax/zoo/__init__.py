"""Trained networks included in the package, one folder each (`lts export --format hub`)."""
