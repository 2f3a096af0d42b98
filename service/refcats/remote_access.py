"""What a remote catalogue may be asked, and for how long: addresses, times, sizes, and when to leave it alone."""

from __future__ import annotations

import ipaddress
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from service.refcats.errors import RefcatError, RefcatUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CircuitBreaker", "RemotePolicy", "breaker_of", "check_url", "is_public_address"]


@dataclass(frozen=True, slots=True)
class RemotePolicy:
    """Limits of requests to other hosts.

    Parameters
    ----------
    http_hosts : frozenset of str
        Hosts that may be asked without TLS.
    allow_private : bool
        Whether hosts with addresses that are not public (loopback, private networks, link-local) may be asked.
    connect_timeout, read_timeout : float
        Of a connection and of each silence, s.
    deadline : float
        Of one whole request, s.
    max_bytes : int
        Largest answer, unpacked.
    max_redirects : int
        Redirections that are followed; only such as stay on the host.
    """

    http_hosts: frozenset[str] = frozenset()
    allow_private: bool = False
    connect_timeout: float = 5.0
    read_timeout: float = 30.0
    deadline: float = 120.0
    max_bytes: int = 256 << 20
    max_redirects: int = 3


def is_public_address(address: str) -> bool:
    """Whether an IP address is one of the internet, also where IPv6 wraps an IPv4 address."""
    given = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(given, "ipv4_mapped", None) or getattr(given, "sixtofour", None)
    return bool((mapped or given).is_global and given.is_global and not given.is_multicast)


def check_url(url: str, policy: RemotePolicy) -> None:
    """Refuse addresses that no catalogue should have; what the name resolves to is checked at the connection.

    Raises
    ------
    RefcatError
        ``refcat.bad_url``: not https (nor an allowed host), with a user name, or a private address.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise RefcatError("refcat.bad_url", f"the address of the catalogue cannot be read: {error}") from error
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        raise RefcatError("refcat.bad_url", "the address needs a host, and neither a user name nor a fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in policy.http_hosts):
        raise RefcatError("refcat.bad_url", f"catalogues are asked by https; '{host}' is no host allowed without it")
    try:
        public = is_public_address(host)
    except ValueError:
        return  # a name
    if not public and not policy.allow_private:
        raise RefcatError("refcat.bad_url", f"'{host}' is no public address")


class CircuitBreaker:
    """Leaves a service alone for a while after failures in a row, then lets one request try.

    Parameters
    ----------
    threshold : int
        Failures in a row.
    rest : float
        Time without requests, s.
    clock : callable
        Monotonic time, s.
    """

    def __init__(self, threshold: int = 3, rest: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._threshold, self._rest, self._clock = threshold, rest, clock
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_until = float("-inf")

    def enter(self) -> None:
        """Ask for leave to send a request.

        Raises
        ------
        RefcatUnavailableError
            The service is to be left alone.
        """
        with self._lock:
            if self._failures < self._threshold:
                return
            remaining = self._closed_until - self._clock()
            if remaining > 0:
                raise RefcatUnavailableError(
                    f"the remote catalogue failed {self._failures} times in a row and is left alone for"
                    f" {remaining:.0f} s",
                    failures=self._failures,
                    retry_after=round(remaining, 1),
                )
            self._closed_until = self._clock() + self._rest  # this one tries; the others wait for how it ends

    def succeeded(self) -> None:
        """The service answered."""
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        """The service did not answer, or not with a table."""
        with self._lock:
            self._failures += 1
            self._closed_until = self._clock() + self._rest


@lru_cache(maxsize=256)
def breaker_of(url: str) -> CircuitBreaker:
    """The breaker that all catalogues of this process share for a service."""
    return CircuitBreaker()
