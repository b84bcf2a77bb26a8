"""The one error of our own; a user's mistake is a ValueError or a TypeError."""

__all__ = ["WstrackError"]


class WstrackError(RuntimeError):
    """Trouble with a store: nothing at a reference, a file that cannot be read or written, a tracker that refuses."""


WstrackError.__module__ = "wstrack"
