"""Counts of what a schema's documents have cost more than they need."""

from dataclasses import dataclass


@dataclass(slots=True)
class Statistics:
    """Counts since the schema was made.

    Attributes:
        hits: documents that were in the cache.
        misses: documents that had to be parsed and validated, rejected ones included.
        fallbacks: values that the stock executor has completed in place of a compiled function:
            the function met a value whose type it does not know, it could not be compiled, or the
            operation has too many selections. The response is the same, several times slower.
    """

    hits: int = 0
    misses: int = 0
    fallbacks: int = 0
