"""What reproduces the paper: its numbers, its tables, its figures."""
