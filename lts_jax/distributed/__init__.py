"""The device mesh, and communication between the processes of a run."""
