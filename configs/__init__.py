"""The shipped configs. Each module defines `get_config`."""
