"""The one exception whose message a person reads as a single line."""


class UsageError(ValueError):
    """Bad input. The message names the thing, the value and the way out; the command line prints
    it alone and exits with 2."""
