"""The training loop, initialization, logging and preemption."""
