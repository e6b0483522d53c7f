"""Generation of referring expressions for annotated objects with masks."""
