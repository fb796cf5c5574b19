"""Who may ask the HTTP server what: one decision for every request, made before any route is looked at.

Answers the attacks that reach a server on the loopback through a browser: DNS rebinding (Host), cross-site requests and
WebSockets (Origin, Sec-Fetch-Site); and asks for the run's token where the server has one. Knows no route by its meaning: what
is open and what may be written to comes in as `Rules`. Invariant: a request is denied unless every rule lets it pass, unknown
paths and WebSocket upgrades included, and no answer repeats what a client sent as its token.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from plt_tui.errors import UsageError
from plt_tui.protocol.text import safe_line
from plt_tui.server.token import BEARER_PROTOCOL, is_token

READING_METHODS = ("GET", "HEAD")
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
CSP = "Content-Security-Policy"
HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    CSP: "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Server": "plt-tui",
}
"""On every answer; the last one hides which Python and aiohttp answer. A page brings a policy of its own."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]\s/@]+)(?::\d{1,5})?", re.IGNORECASE)
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\s]+):(\d{1,5})")
_AUTHORIZATION = re.compile(r"bearer +(\S+)", re.IGNORECASE)

Headers = Mapping[str, Sequence[str]]
"""All values of each header, by lower-case name."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. `host` as it stands in a URL: an IPv6 address in brackets."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What one server lets in.

    host: where it was told to listen; 0.0.0.0 and [::] stand for every address of the machine.
    token: what a client must know; empty: nothing.
    pages: paths that answer without it to who asks for a page, because they hold no data.
    methods: of the paths that take others than GET and HEAD, those that they take.
    where: place at which a person finds the token, in words.
    """

    host: str
    token: str = field(default="", repr=False)
    pages: frozenset[str] = frozenset()
    methods: Mapping[str, Sequence[str]] = field(default_factory=dict)
    where: str = "the file http-token in the run's folder"


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a request is not answered, and the header that goes with it."""

    status: int
    reason: str
    headers: Mapping[str, str] = field(default_factory=dict)


def parse_address(text: str, *, has_token: bool = False) -> Address:
    """The address in "host:port".

    Raises: UsageError when it is none, or when others than this machine's users could reach it and need no token.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[2]) > 65535:
        raise UsageError(f"metrics.address = {text!r} is not host:port; write it like 127.0.0.1:8081")
    if not has_token and not is_loopback(match[1]):
        way = "listen on 127.0.0.1 and reach it with `ssh -L 8081:127.0.0.1:8081 HOST`, or set metrics.token = true"
        raise UsageError(f"metrics.address = {text!r} is open to other machines, which needs a token and has none; {way}")
    return Address(match[1].lower(), int(match[2]))


def is_loopback(host: str) -> bool:
    """True for localhost and loopback addresses; any other name may resolve to anything."""
    if host.lower() == "localhost":
        return True
    address = _ip(host)
    return address is not None and address.is_loopback


def is_wildcard(host: str) -> bool:
    """True for the addresses that stand for all of a machine's."""
    address = _ip(host)
    return address is not None and address.is_unspecified


def denial(method: str, path: str, headers: Headers, rules: Rules) -> Denial | None:
    """Why this request is denied; None when it may pass. `path`: as the client wrote it, without the query."""
    hosts = headers.get("host", ())
    match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if match is None or not _is_served_as(match[1], rules.host):
        return Denial(421, "this Host is not served here")
    if any(origin.lower() != f"http://{hosts[0]}".lower() for origin in headers.get("origin", ())):
        return Denial(403, "requests from other sites are not answered")
    if any(site not in ("none", "same-origin") for site in headers.get("sec-fetch-site", ())):
        return Denial(403, "requests from other sites are not answered")
    is_open = not rules.token or (path in rules.pages and not prefers_json(headers))
    if not is_open and not any(is_token(given, rules.token) for given in _tokens(headers)):
        return Denial(401, _who_are_you(headers, rules.where), {"WWW-Authenticate": "Bearer"})
    allowed = rules.methods.get(path, READING_METHODS)
    if method not in allowed:
        return Denial(405, f"only {' and '.join(allowed)} here{_hint(rules)}", {"Allow": ", ".join(allowed)})
    return None


def prefers_json(headers: Headers) -> bool:
    """True for a client whose first wish is JSON: for `/` that is the index of routes, not the page."""
    accepted = headers.get("accept", ("",))[0]
    return accepted.partition(",")[0].partition(";")[0].strip().lower() == "application/json"


def headers_of(request: web.BaseRequest) -> Headers:
    """The headers of a request as `denial` takes them."""
    return {name.lower(): request.headers.getall(name) for name in request.headers}


def guard(rules: Rules) -> Middleware:
    """The middleware that asks `denial` before anything else, and turns every refusal into JSON."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        refused = denial(request.method, request.rel_url.raw_path, headers_of(request), rules)
        if refused is not None:
            response = error_response(refused.status, refused.reason, refused.headers)
            response.force_close()  # what follows on the connection, such as a body, is not read
            return response
        try:
            return await handler(request)
        except web.HTTPException as error:
            response = error_response(error.status, error.text or error.reason)
            if not request.content.is_eof():
                response.force_close()  # nobody is going to read what of the body is still to come
            return response

    return guarded


def error_response(status: int, reason: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """A refusal as JSON; what a client sent may stand in `reason`."""
    return web.json_response({"error": safe_line(reason)}, status=status, headers=headers)


async def add_headers(_: web.BaseRequest, response: web.StreamResponse) -> None:
    """Signal handler for every response, WebSocket upgrades and errors included."""
    policy = response.headers.get(CSP, HEADERS[CSP])
    response.headers.update(HEADERS)
    response.headers[CSP] = policy


async def expect_nothing(_: web.Request) -> None:
    """What a route does about `Expect` before any middleware has seen the request: nothing, for the guard comes first.

    aiohttp would answer it at once.
    """


def _is_served_as(host: str, configured: str) -> bool:
    """True for the names of this server.

    An attacker's page can give a name of its own any address (DNS rebinding), but it cannot come from a number; so where all
    addresses are listened on, every number is good.
    """
    name = host.lower()
    return name in LOOPBACK_NAMES or name == configured.lower() or (is_wildcard(configured) and _ip(name) is not None)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _tokens(headers: Headers) -> list[str]:
    """What a client sends as its token; a browser's WebSocket can only send it as a subprotocol."""
    authorizations = headers.get("authorization", ())
    match = _AUTHORIZATION.fullmatch(authorizations[0].strip()) if len(authorizations) == 1 else None
    protocols = [word.strip() for value in headers.get("sec-websocket-protocol", ()) for word in value.split(",")]
    offered = [word.removeprefix(BEARER_PROTOCOL) for word in protocols if word.startswith(BEARER_PROTOCOL)]
    return [match[1], *offered] if match is not None else offered


def _who_are_you(headers: Headers, where: str) -> str:
    if _tokens(headers):
        return f"this is not the run's token: it is in {where}, and another one after each start"
    return f"this server needs the run's token: send `Authorization: Bearer TOKEN`; it is in {where}"


def _hint(rules: Rules) -> str:
    return "" if rules.token else ": this server is read-only, and takes commands when the run was started with --http-control"
