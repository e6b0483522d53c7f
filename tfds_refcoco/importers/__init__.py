"""Import of annotations from other tools and datasets to a custom.json."""
