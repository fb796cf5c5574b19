"""`/api/v1/openapi.json`: the table of routes as an OpenAPI 3.1 document, for people's tools and for generated clients.

Pure. Invariant: it has every route of the table and no other, and every status that the server answers there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from plt_tui import __version__
from plt_tui.server import schemas
from plt_tui.server.routes import COMMANDS, STREAM, Number, Route

_REFUSED: Mapping[int, str] = {
    403: "the request comes from another site",
    405: "the method is not one of this route",
    421: "the Host is not one of this server",
    503: "too many clients are connected",
}
"""What every route may answer beside its own."""
_BAD_QUERY = "a parameter is unknown, or is no such number"
_NO_TOKEN = "the run's token is missing, or is not this one"
_ABOUT = (
    "One training run, served by its hub. Non-finite floats are the strings nan, inf and -inf. Objects may gain fields. "
    "`/api/v1/stream` is a WebSocket; where a token is needed, browsers send it as the subprotocols `plt-tui.v1, bearer.TOKEN`."
)


def document(routes: Iterable[Route], *, has_token: bool) -> dict[str, Any]:
    """The document of a server with these routes, all but the open ones behind a token if it has one."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, has_token=has_token)
    components: dict[str, Any] = {"schemas": {"Error": schemas.ERROR, **schemas.events()}}
    if has_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "plt-tui run", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "components": components,
    }


def _operation(route: Route, *, has_token: bool) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _name(route),
        "summary": route.help,
        "parameters": [_parameter(number) for number in route.numbers],
        "responses": {str(status): answer for status, answer in sorted(_responses(route, has_token=has_token).items())},
    }
    if has_token and not route.is_open:
        operation["security"] = [{"token": []}]
    if route is COMMANDS:
        operation["parameters"].append(
            {"name": "X-Actor", "in": "header", "description": "who asks, for the journal", "schema": schemas.TEXT}
        )
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schemas.command()}}}
    return operation


def _responses(route: Route, *, has_token: bool) -> dict[int, dict[str, Any]]:
    """What the route may answer, by status."""
    content = {media: ({"schema": schema} if schema else {}) for media, schema in route.answers.items()}
    fine = {"description": route.help, **({"content": content} if content else {})}
    refusals = {**_REFUSED, **({} if route.is_open else {400: _BAD_QUERY})}
    if has_token and (not route.is_open or route.path == "/"):
        refusals[401] = _NO_TOKEN
    told = {status: _refusal(text) for status, text in {**refusals, **route.statuses}.items() if status >= 400}
    for status, text in route.statuses.items():
        if status < 400:
            told[status] = {**fine, "description": text} if status != 101 else {"description": text}
    if route is COMMANDS:
        conflict = {"allOf": [schemas.ERROR, schemas.status()]}
        told[409] = {"description": route.statuses[409], "content": {"application/json": {"schema": conflict}}}
    return told if route is STREAM else {**told, (200 if content else 204): fine}


def _refusal(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}


def _parameter(number: Number) -> dict[str, Any]:
    top = f"; at most {number.most} are given" if number.most < number.high else ""
    return {
        "name": number.name,
        "in": "query",
        "description": number.help + top,
        "schema": {"type": "integer", "minimum": number.low, "maximum": number.high, "default": number.default},
    }


def _name(route: Route) -> str:
    """An identifier for generated clients: "metrics", "prometheus", "static_page_js"."""
    special = {"/": "page", "/metrics": "prometheus"}
    words = route.path.removeprefix("/api/v1/").strip("/")
    return special.get(route.path) or "".join(char if char.isalnum() else "_" for char in words)
