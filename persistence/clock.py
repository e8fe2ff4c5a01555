"""The clock for times that have to hold while the machine sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

elapsed: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)
"""Seconds since some moment. On Linux they include the time that the machine slept."""
