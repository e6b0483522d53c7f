"""What a user can mend."""


class ConfigError(ValueError):
    """A field that cannot be, or that does not fit the data, the devices or the workdir."""


class NonFiniteLossError(ArithmeticError):
    """The training has diverged."""


class UnreadableCheckpointError(ConfigError):
    """A checkpoint that is damaged, or not of this network."""


class SaveError(OSError):
    """A checkpoint that could not be written."""
