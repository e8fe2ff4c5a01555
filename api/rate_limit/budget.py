"""What a request costs, and who pays. Each person has one budget for both protocols.

Of slowapi only limit strings and ``RateLimitExceeded`` are used. Its ``Limiter`` reads
``RATELIMIT_*`` from the environment, calls Redis synchronously on the event loop, and needs three
round trips a request. The windows are our own (``api.rate_limit.sliding_window``).
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from limits import parse as parse_limit
from slowapi.wrappers import Limit as SlowapiLimit
from starlette.types import Scope

from api.errors import BudgetExceeded
from api.rate_limit.redis_sliding_window import RedisWindows
from api.rate_limit.sliding_window import Limit, LocalWindows, Standing, Windows
from api.settings import Settings
from persistence.errors import FieldError, InvalidInput
from persistence.viewer import Viewer


class Kind(StrEnum):
    """What is counted apart."""

    READ = "read"
    WRITE = "write"


class Cost(NamedTuple):
    """What a request costs: REST's operations one, a GraphQL document its root fields."""

    kind: Kind
    amount: int = 1


ONE_READ: Final = Cost(Kind.READ)
ONE_WRITE: Final = Cost(Kind.WRITE)


@dataclass(frozen=True, slots=True)
class Charge:
    """A request's cost, how its payer stands after it, and what the answer says of that.

    Attributes:
        reset: the Unix second, rounded up, at which everything is left again.
        headers: ``X-RateLimit-*``, and those of the IETF draft.
    """

    cost: Cost
    standing: Standing
    reset: int
    headers: list[tuple[bytes, bytes]]


class Budget:
    """Everyone's budget.

    Args:
        settings: the limits, the switch, and the Redis that the instances share.
    """

    def __init__(self, settings: Settings) -> None:
        self._enabled = settings.rate_limit_enabled
        self._limits = {
            Kind.READ: configured_limit(settings.rate_limit_read),
            Kind.WRITE: configured_limit(settings.rate_limit_write),
        }
        self._windows: Windows = LocalWindows()
        if settings.redis_url is not None:
            self._windows = RedisWindows(
                settings.redis_url.get_secret_value(), settings.rate_limit_timeout_ms / 1000
            )

    @property
    def redis(self) -> str | None:
        """How Redis is: ``"ok"``, ``"degraded"``, or ``None`` where there is none."""
        match self._windows:
            case RedisWindows(is_degraded=is_degraded):
                return "degraded" if is_degraded else "ok"
            case _:
                return None

    async def open(self) -> None:
        """Connect, if there is something to connect to."""
        if isinstance(self._windows, RedisWindows):
            await self._windows.open()

    async def close(self) -> None:
        """Disconnect."""
        if isinstance(self._windows, RedisWindows):
            await self._windows.close()

    async def spend(self, payer: str, cost: Cost) -> Charge | None:
        """Take a cost from a payer's budget, whole or not at all. One round trip at most.

        Returns:
            The charge, or ``None`` where budgets are switched off.

        Raises:
            BudgetExceeded: it does not fit at the moment.
            InvalidInput: it never will, being above the limit itself.
        """
        if not self._enabled:
            return None
        self.require_payable(cost)
        if cost.amount == 1:
            self.require_funds(payer, cost.kind)
        standing = await self._windows.hit(
            _key(payer, cost.kind),
            self.limit(cost.kind),
            cost.amount,
            anonymous=_is_anonymous(payer),
        )
        if not standing.allowed:
            raise self._refusal(cost, standing)
        return self._charge(cost, standing)

    def require_funds(self, payer: str, kind: Kind) -> None:
        """Refuse a payer of whom it is known that not even a cost of 1 fits. No round trip.

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
        standing = self._windows.spent(
            _key(payer, kind), self.limit(kind), anonymous=_is_anonymous(payer)
        )
        return None if standing is None else self._refusal(Cost(kind), standing)

    def require_payable(self, cost: Cost) -> None:
        """Refuse what nobody's budget can ever pay.

        Raises:
            InvalidInput: the cost is above the limit itself.
        """
        limit = self.limit(cost.kind)
        if self._enabled and cost.amount > limit.amount:
            raise InvalidInput([_above_limit(cost, limit)])

    async def look(self, payer: str, kind: Kind) -> Standing:
        """How a payer's budget stands, without taking anything from it. One round trip."""
        return await self._windows.hit(
            _key(payer, kind), self.limit(kind), 0, anonymous=_is_anonymous(payer)
        )

    def limit(self, kind: Kind) -> Limit:
        """How much of a kind anyone has."""
        item = self._limits[kind].limit
        return Limit(item.amount, item.get_expiry())

    def _refusal(self, cost: Cost, standing: Standing) -> BudgetExceeded:
        charge = self._charge(cost, standing)
        return BudgetExceeded(
            self._limits[cost.kind],
            charge,
            remaining=standing.remaining,
            reset=charge.reset,
            retry_after=_retry_after(standing),
        )

    def _charge(self, cost: Cost, standing: Standing) -> Charge:
        """The charge, with the headers of its answer.

        https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
        """
        kind, (amount, window) = cost.kind, standing.limit
        reset = math.ceil(standing.now + standing.full_in)
        # Of a refusal, t is when this cost fits.
        t = math.ceil(standing.full_in) if standing.allowed else _retry_after(standing)
        said = {
            "X-RateLimit-Limit": str(amount),
            "X-RateLimit-Remaining": str(standing.remaining),
            "X-RateLimit-Reset": str(reset),
            "RateLimit-Policy": f'"{kind}";q={amount};w={window}',
            "RateLimit": f'"{kind}";r={standing.remaining};t={t}',
        }
        headers = [(name.lower().encode(), value.encode()) for name, value in said.items()]
        return Charge(cost, standing, reset, headers)


def viewer_payer(viewer: Viewer) -> str:
    """A person's key. Theirs alone: whatever the id is made of, it stands last."""
    return f"user:{viewer.user_id}"


def address_payer(scope: Scope) -> str:
    """An address's key: the socket's, or what uvicorn made of a trusted proxy's headers.

    IPv6 counts by /64, which is what one subscriber has.
    """
    client = scope.get("client")
    text = client[0] if client else "unknown"
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return f"ip:{text[:64]}"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return f"ip:{address.ipv4_mapped}"
        return f"ip:{ipaddress.ip_network((int(address), 64), strict=False)}"
    return f"ip:{address}"


def _retry_after(standing: Standing) -> int:
    """Whole seconds until the cost that was refused fits."""
    return max(1, math.ceil(standing.fits_in))


def _is_anonymous(payer: str) -> bool:
    """Whether a payer is an address: anybody can invent one."""
    return payer.startswith("ip:")


def _key(payer: str, kind: Kind) -> str:
    return f"twofold:{kind}:{payer}"


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
