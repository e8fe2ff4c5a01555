"""A least-recently-used cache with a bound on weight. For one event loop; not thread-safe."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Holds the most recently used values, with a total weight of at most `capacity`."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.weight = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def get(self, key: K) -> V | None:
        """The value of `key`, or None. The value becomes the most recently used one."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, weight: int) -> None:
        """Add `value`, unless its weight is more than the capacity."""
        self._drop(key)
        if weight > self.capacity:
            return
        self._entries[key] = (value, weight)
        self.weight += weight
        self._shrink()

    def grow(self, key: K, weight: int) -> None:
        """Add to the weight of the value of `key`, if the cache still has it."""
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
