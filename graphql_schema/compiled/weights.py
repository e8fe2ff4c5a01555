"""Estimates, in bytes, of what kept documents occupy: measured, and rounded up.

`tests/siege/test_documents.py` compares them with what Python allocates for documents of many
shapes.
"""

import sys
from typing import Final

BASE: Final = 4_000
"""The document itself and its entry in the cache."""
TOKEN: Final = 600
"""A token, its location, and its share of the nodes that are made of tokens."""
OPERATION: Final = 12_000
"""An executor, and the reader of variables."""
COLLECTION: Final = 1_000
"""The fields selected on one object."""
FIELD: Final = 600
"""One of them."""
REGION: Final = 4_000
"""A compiled function."""
LINE: Final = 250
"""A line of it."""
STRUCT: Final = 4_000
"""A struct that it fills."""


def text_bytes(text: str) -> int:
    """A document's text: as the key of the cache, in its tokens, and with escapes resolved.

    A character of text takes at most four bytes. One escape of six such characters can make all
    the others of its string wider.
    """
    return 2 * sys.getsizeof(text) + 4 * len(text)
