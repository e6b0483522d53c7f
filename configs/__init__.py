"""The shipped configs: each file has `get_config`."""
