"""The files that people have, read and checked."""
