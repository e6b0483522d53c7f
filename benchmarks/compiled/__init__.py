"""Compiles for devices that are not attached, and reads the programs that come out."""
