"""The error of this package."""

from __future__ import annotations


class EmbeddedError(Exception):
    """A server cannot run on this machine; the message is a sentence for the terminal."""


def describe(error: OSError) -> str:
    """What the system refused, and for which file, as a clause of a sentence."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)
