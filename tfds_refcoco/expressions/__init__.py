"""Generated referring expressions for annotated objects that have masks and no sentences."""
