"""A least-recently-used mapping bounded by weight. For one event loop, not for threads."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Keeps the most recently used values whose weights together are at most `capacity`."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.weight = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def get(self, key: K) -> V | None:
        """The value under `key`, now the most recently used, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, weight: int) -> None:
        """Keep `value`. A value heavier than the whole cache is not kept."""
        self._drop(key)
        if weight > self.capacity:
            return
        self._entries[key] = (value, weight)
        self.weight += weight
        self._shrink()

    def grow(self, key: K, weight: int) -> None:
        """Add to the weight of the value under `key`, if it is still kept."""
        entry = self._entries.get(key)
        if entry is None:
            return
        self._entries[key] = (entry[0], entry[1] + weight)
        self.weight += weight
        self._shrink()

    def _shrink(self) -> None:
        while self.weight > self.capacity:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.weight -= entry[1]
