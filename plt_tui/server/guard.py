"""Who may ask the HTTP server what: one decision for every request, made before any route is looked at.

Answers the attacks that reach a server on the loopback through a browser: DNS rebinding (Host), cross-site requests and
WebSockets (Origin, Sec-Fetch-Site), and writing (methods). Does not know routes. Invariant: a request is denied unless every
rule lets it pass, unknown paths and WebSocket upgrades included.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from plt_tui.errors import UsageError

READING_METHODS = ("GET", "HEAD")
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Server": "plt-tui",
}
"""On every answer; the last one hides which Python and aiohttp answer."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]\s/@]+)(?::\d{1,5})?", re.IGNORECASE)
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\s]+):(\d{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. `host` as it stands in a URL: an IPv6 address in brackets."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a request is not answered."""

    status: int
    reason: str


def parse_address(text: str) -> Address:
    """The address in "host:port".

    Raises: UsageError when it is none, or when others than this machine's users could reach it.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[2]) > 65535:
        raise UsageError(f"metrics.address = {text!r} is not host:port; write it like 127.0.0.1:8081")
    if not is_loopback(match[1]):
        hint = "listen on 127.0.0.1 and reach it with `ssh -L 8081:127.0.0.1:8081 HOST`"
        raise UsageError(f"metrics.address = {text!r} is open to other machines, which needs a token and has none; {hint}")
    return Address(match[1].lower(), int(match[2]))


def is_loopback(host: str) -> bool:
    """True for localhost and loopback addresses; any other name may resolve to anything."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def denial(method: str, headers: Mapping[str, Sequence[str]], configured_host: str) -> Denial | None:
    """Why this request is denied; None when it may pass. `headers`: all values of each, by lower-case name."""
    hosts = headers.get("host", ())
    match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if match is None or match[1].lower() not in LOOPBACK_NAMES | {configured_host.lower()}:
        return Denial(421, "this Host is not served here")
    if any(origin.lower() != f"http://{hosts[0]}".lower() for origin in headers.get("origin", ())):
        return Denial(403, "requests from other sites are not answered")
    if any(site not in ("none", "same-origin") for site in headers.get("sec-fetch-site", ())):
        return Denial(403, "requests from other sites are not answered")
    if method not in READING_METHODS:
        return Denial(405, "only GET and HEAD: this server is read-only")
    return None


def guard(configured_host: str) -> Middleware:
    """The middleware that asks `denial` before anything else, and turns every refusal into JSON."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = {name.lower(): request.headers.getall(name) for name in request.headers}
        refused = denial(request.method, headers, configured_host)
        if refused is not None:
            response = error_response(refused.status, refused.reason)
            response.force_close()  # what follows on the connection, such as a body, is not read
            return response
        try:
            return await handler(request)
        except web.HTTPException as error:
            return error_response(error.status, error.text or error.reason)

    return guarded


def error_response(status: int, reason: str) -> web.Response:
    """A refusal as JSON."""
    allow = {"Allow": ", ".join(READING_METHODS)} if status == 405 else {}
    return web.json_response({"error": reason}, status=status, headers=allow)


async def add_headers(_: web.BaseRequest, response: web.StreamResponse) -> None:
    """Signal handler for every response, WebSocket upgrades and errors included."""
    response.headers.update(HEADERS)
