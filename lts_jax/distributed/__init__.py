"""Devices as a mesh, and what several processes do together."""
