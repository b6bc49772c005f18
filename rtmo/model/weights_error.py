"""The one error of weights files."""


class WeightsError(ValueError):
    """A weights file that cannot be used; the message says what to do."""
