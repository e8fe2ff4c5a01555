"""The error of this package."""


class EmbeddedError(Exception):
    """A server cannot run on this machine; the message is a sentence for the terminal."""
