"""Estimates of the memory that cached documents take, in bytes: measured, and rounded up.

`tests/siege/test_documents.py` compares them with what Python allocates for documents of many
shapes.
"""

import sys
from typing import Final

BASE: Final = 4_000
"""The document itself and its entry in the cache."""
TOKEN: Final = 600
"""A token, its location, and its share of the nodes."""
OPERATION: Final = 12_000
"""An executor, and the reader of variables."""
COLLECTION: Final = 1_000
"""The fields that are selected on one object."""
FIELD: Final = 600
"""One field of a collection."""
FUNCTION: Final = 4_000
"""A compiled function."""
LINE: Final = 250
"""A line of a compiled function."""
STRUCT: Final = 4_000
"""A struct type that a compiled function creates values of."""


def text_bytes(text: str) -> int:
    """The bytes of a document's text: as the cache's key, in tokens, and with escapes resolved.

    A character takes at most four bytes. One escape can widen all characters of its string.
    """
    return 2 * sys.getsizeof(text) + 4 * len(text)
