"""Files that an export carries; they import nothing of this project."""
