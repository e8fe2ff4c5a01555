"""What a request costs, and who pays. Each person has one budget for both protocols.

Of slowapi only limit strings and ``RateLimitExceeded`` are used. Its ``Limiter`` reads
``RATELIMIT_*`` from the environment, calls Redis synchronously on the event loop, and needs three
round trips a request. The windows are our own (``api.rate_limit.sliding_window``).
"""

from __future__ import annotations

import ipaddress
import math
import time
from functools import lru_cache
from typing import Final, Literal

from limits import parse as parse_limit
from slowapi.wrappers import Limit as SlowapiLimit
from starlette.types import Scope

from api.charges import Charge, Cost, Kind, Limit, WindowState
from api.errors import BudgetExceeded
from api.rate_limit.redis_sliding_window import RedisSlidingWindow
from api.rate_limit.sliding_window import LocalSlidingWindow, SlidingWindow
from api.settings import Settings
from persistence.errors import FieldError, InvalidInput
from persistence.redis_url import parse_redis_url
from persistence.usage import Usage
from persistence.viewer import Viewer


class Budget:
    """The budgets of all payers.

    Args:
        settings: the limits, whether they apply, and the Redis that the instances share.
    """

    def __init__(self, settings: Settings) -> None:
        self._enabled = settings.rate_limit_enabled
        self._limits = {
            Kind.READ: configured_limit(settings.rate_limit_read),
            Kind.WRITE: configured_limit(settings.rate_limit_write),
        }
        self._amounts = {
            kind: Limit(configured.limit.amount, configured.limit.get_expiry())
            for kind, configured in self._limits.items()
        }
        self._headers = {kind: _limit_headers(kind, limit) for kind, limit in self._amounts.items()}
        self._windows: SlidingWindow = LocalSlidingWindow()
        if settings.redis_url is not None:
            self._windows = RedisSlidingWindow(
                parse_redis_url(settings.redis_url.get_secret_value()),
                settings.rate_limit_timeout_ms / 1000,
                probe_keys=[_key("probe", kind) for kind in Kind],
            )

    @property
    def redis(self) -> Literal["ok", "degraded"] | None:
        """The state of Redis; ``None`` if the instances share none."""
        return self._windows.redis_status

    @property
    def degraded_decisions(self) -> int:
        """Decisions of this process alone, because Redis did not answer."""
        return self._windows.degraded_hits

    async def open(self) -> None:
        """Connect to Redis, if there is one.

        Raises:
            UnusableRedis: it can never keep the budgets.
        """
        await self._windows.open()

    async def check(self) -> None:
        """Bring ``redis`` up to date."""
        await self._windows.check()

    async def close(self) -> None:
        """Disconnect."""
        await self._windows.close()

    async def spend(self, payer: str, cost: Cost, usage: Usage | None = None) -> Charge | None:
        """Take a cost from a payer's budget, whole or not at all. At most one round trip.

        Args:
            usage: where the time and the trip are added to.

        Returns:
            The charge, or ``None`` if budgets are switched off.

        Raises:
            BudgetExceeded: the cost does not fit at the moment.
            InvalidInput: the cost is above the limit itself, so that it never fits.
        """
        if not self._enabled:
            return None
        self.require_payable(cost)
        if cost.amount == 1:
            self.require_funds(payer, cost.kind)
        window = await self._hit(payer, cost.kind, cost.amount, usage)
        if not window.allowed:
            raise self._refusal(cost, window)
        return self._charge(cost, window)

    def require_funds(self, payer: str, kind: Kind) -> None:
        """Refuse a payer if this process knows that not even a cost of 1 fits. No round trip.

        Raises:
            BudgetExceeded: as ``spend`` would raise it for a cost of 1.
        """
        refusal = self.cached_refusal(payer, kind)
        if refusal is not None:
            raise refusal

    def cached_refusal(self, payer: str, kind: Kind) -> BudgetExceeded | None:
        """What ``require_funds`` would raise, or ``None``."""
        if not self._enabled:
            return None
        window = self._windows.cached_refusal(
            _key(payer, kind), self.limit(kind), anonymous=_is_anonymous(payer)
        )
        return None if window is None else self._refusal(Cost(kind), window)

    def require_payable(self, cost: Cost) -> None:
        """Refuse a cost that no budget can ever pay.

        Raises:
            InvalidInput: the cost is above the limit itself.
        """
        limit = self.limit(cost.kind)
        if self._enabled and cost.amount > limit.amount:
            raise InvalidInput([_above_limit(cost, limit)])

    async def look(self, payer: str, kind: Kind, usage: Usage | None = None) -> WindowState:
        """The state of a payer's budget; takes nothing from it. One round trip."""
        return await self._hit(payer, kind, 0, usage)

    async def _hit(self, payer: str, kind: Kind, amount: int, usage: Usage | None) -> WindowState:
        if self._windows.redis_status != "ok":
            usage = None
        began = time.monotonic() if usage else 0.0
        try:
            return await self._windows.hit(
                _key(payer, kind), self._amounts[kind], amount, anonymous=_is_anonymous(payer)
            )
        finally:
            if usage:
                usage.add_command(began, time.monotonic())

    def limit(self, kind: Kind) -> Limit:
        """The limit of each payer for one kind of requests."""
        return self._amounts[kind]

    def _refusal(self, cost: Cost, window: WindowState) -> BudgetExceeded:
        charge = self._charge(cost, window)
        return BudgetExceeded(self._limits[cost.kind], charge, _retry_after(window))

    def _charge(self, cost: Cost, window: WindowState) -> Charge:
        """A charge with its headers.

        https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
        """
        kind, remaining = cost.kind.encode(), window.remaining
        reset = math.ceil(window.now + window.seconds_until_full)
        # In a refusal, t is when this cost fits.
        t = math.ceil(window.seconds_until_full) if window.allowed else _retry_after(window)
        headers = [
            *self._headers[cost.kind],
            (b"x-ratelimit-remaining", b"%d" % remaining),
            (b"x-ratelimit-reset", b"%d" % reset),
            (b"ratelimit", b'"%b";r=%d;t=%d' % (kind, remaining, t)),
        ]
        return Charge(cost, window, reset, headers)


def _limit_headers(kind: Kind, limit: Limit) -> list[tuple[bytes, bytes]]:
    """The headers that every response has alike."""
    policy = b'"%b";q=%d;w=%d' % (kind.encode(), limit.amount, limit.seconds)
    return [(b"x-ratelimit-limit", b"%d" % limit.amount), (b"ratelimit-policy", policy)]


VIEWER_PREFIX: Final = "user:"
"""What a viewer's key begins with."""


def viewer_payer(viewer: Viewer) -> str:
    """The key of a viewer. The id stands last, so that no id can make another viewer's key."""
    return VIEWER_PREFIX + viewer.user_id


def address_payer(scope: Scope) -> str:
    """The key of a client's address: the socket's, or the one that a trusted proxy reported.

    An IPv6 address counts as its /64 network, which is what one subscriber has.
    """
    client = scope.get("client")
    return _address_payer(client[0] if client else "unknown")


@lru_cache(maxsize=1024)
def _address_payer(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return f"ip:{text[:64]}"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return f"ip:{address.ipv4_mapped}"
        return f"ip:{ipaddress.ip_network((int(address), 64), strict=False)}"
    return f"ip:{address}"


def _retry_after(window: WindowState) -> int:
    """Whole seconds until the refused cost fits, 1 or more."""
    return max(1, math.ceil(window.seconds_until_allowed))


def _is_anonymous(payer: str) -> bool:
    """Whether a payer is an address: anybody can make one up."""
    return payer.startswith("ip:")


def _key(payer: str, kind: Kind) -> str:
    return _PREFIXES[kind] + payer


_PREFIXES: Final = {kind: f"twofold:{kind}:" for kind in Kind}


def _above_limit(cost: Cost, limit: Limit) -> FieldError:
    message = f"Costs {cost.amount} {cost.kind}s; {limit.amount} are allowed in {limit.seconds} s"
    return FieldError("", message, "cost_above_limit", cost.amount)


def configured_limit(text: str) -> SlowapiLimit:
    """The limit of a limit string: ``100/minute``.

    Raises:
        ValueError: the text is not a limit string.
    """
    # The key function is never called: ``Budget`` receives the payer.
    return SlowapiLimit(
        parse_limit(text), address_payer, None, False, None, None, None, 1, override_defaults=True
    )
