"""The AsyncAPI document over HTTP, as JSON, as a page and as llms.txt."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import get_script_prefix, reverse, set_script_prefix

from .asyncapi import document


def asyncapi_json(request: HttpRequest) -> HttpResponse:
    """The AsyncAPI document of this server."""
    return HttpResponse(_filled(_as_json(request.is_secure()), request), content_type="application/json")


def asyncapi_page(request: HttpRequest) -> HttpResponse:
    """The AsyncAPI document as a page for people."""
    return HttpResponse(_filled(_as_page(request.is_secure()), request))


#: Placeholders for the host of this server and the path of the site, until a request names them.
_HOST, _SITE = "host.of.this.server", "/path.of.this.site"


def _filled(text: str, request: HttpRequest) -> str:
    """The text with the address of the request. The address contains no character that JSON or HTML would escape."""
    host, site = (quote(part, safe="/:[]-._~") for part in (request.get_host(), get_script_prefix().rstrip("/")))
    return text.replace(_HOST, host).replace(_SITE, site)


@contextlib.contextmanager
def _anywhere() -> Iterator[str]:
    """Make all reversed addresses begin with the placeholder. Yields the path of the bus with it."""
    before = get_script_prefix()
    set_script_prefix(f"{_SITE}/")
    try:
        yield reverse("bus:console")
    finally:
        set_script_prefix(before)


# Each document is built once for all addresses. Strangers may request any number of names, ports and prefixes, and building
# takes tens of milliseconds.
@lru_cache(maxsize=2)
def _as_json(secure: bool) -> str:
    with _anywhere() as prefix:
        return json.dumps(document(_HOST, prefix=prefix, secure=secure), indent=2)


@lru_cache(maxsize=2)
def _as_page(secure: bool) -> str:
    with _anywhere() as prefix:
        return render_to_string("bus/asyncapi.html", readable(document(_HOST, prefix=prefix, secure=secure)))


@lru_cache(maxsize=2)
def _as_text(secure: bool) -> str:
    base = f"{'https' if secure else 'http'}://{_HOST}"
    with _anywhere() as prefix:
        told = readable(document(_HOST, prefix=prefix, secure=secure))
        return render_to_string("bus/llms.txt", {"base": base, **told})


def readable(contract: dict[str, Any]) -> dict[str, Any]:
    """The parts of the document, in reading order."""
    schemas = contract["components"]["schemas"]
    messages = {name: _message(message, schemas) for name, message in contract["components"]["messages"].items()}
    server = contract["servers"]["this"]
    sockets = []
    for name, channel in contract["channels"].items():
        operations = [
            (key.split(".", 2)[2], row) for key, row in contract["operations"].items() if key.startswith(f"{name}.")
        ]
        sockets.append(
            {
                "title": channel["title"],
                "description": channel["description"],
                "url": f"{server['protocol']}://{server['host']}{server.get('pathname', '')}{channel['address']}",
                "commands": [
                    {
                        "name": key.removeprefix("command."),
                        "summary": row["summary"],
                        "who": row["x-who"],
                        "errors": row.get("x-errors", []),
                        "parameters": messages[key]["parameters"],
                        "result": messages[f"{key}.response"]["result"],
                    }
                    for key, row in operations
                    if key.startswith("command.")
                ],
                "takes": [
                    messages[key]
                    for key, row in operations
                    if row["action"] == "receive" and not key.startswith("command.")
                ],
                "sends": [messages[key] for key, row in operations if row["action"] == "send"],
            }
        )
    return {
        "info": contract["info"],
        "sockets": sockets,
        "schemas": [
            {"name": name, "description": schema.get("description", ""), "fields": _fields(schema, schemas)}
            for name, schema in schemas.items()
            if not name.endswith(("Parameters", "Result"))
        ],
        "aliases": contract["x-aliases"],
        "errors": [{"code": code, **row} for code, row in contract["x-errors"].items()],
        "close_codes": [{"code": code, **row} for code, row in contract["x-close-codes"].items()],
    }


def _message(message: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    payload = _resolved(message["payload"], schemas)
    properties = payload.get("properties", {})
    return {
        "name": message["name"],
        "summary": message["summary"],
        "fields": _fields(payload, schemas),
        "parameters": _fields(_resolved(properties.get("parameters", {}), schemas), schemas),
        "result": _fields(_resolved(properties.get("result", {}), schemas), schemas),
        "examples": [json.dumps(row["payload"], indent=2, ensure_ascii=False) for row in message.get("examples", [])],
    }


def _fields(schema: dict[str, Any], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each property: name, type in words, whether it is required, default, meaning."""
    required = set(schema.get("required", ()))
    return [
        {
            "name": name,
            "type": type_in_words(field),
            "required": name in required,
            "default": field.get("default"),
            "description": _description(field, schemas),
        }
        for name, field in schema.get("properties", {}).items()
    ]


def _description(field: dict[str, Any], schemas: dict[str, Any]) -> str:
    if text := field.get("description"):
        return str(text)
    parts = [_description(part, schemas) for part in field.get("anyOf", ()) if part.get("type") != "null"]
    return next((part for part in parts if part), "")


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    resolved: dict[str, Any] = schemas[reference.rpartition("/")[2]] if reference else schema
    return resolved


def type_in_words(schema: dict[str, Any]) -> str:
    """The type of a schema in words: ``text``, ``list of Participant``, ``"ack"``."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "const" in schema or "enum" in schema:
        return " or ".join(f'"{value}"' for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_in_words(part) for part in schema["anyOf"]))
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(type_in_words({"type": part}) for part in kind)
    if kind == "array":
        return f"list of {type_in_words(schema.get('items', {}))}"
    if kind == "object" and isinstance(values := schema.get("additionalProperties"), dict) and values:
        return f"object of {type_in_words(values)}"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    return words.get(str(kind), str(kind or "anything"))


def llms_txt(request: HttpRequest) -> HttpResponse:
    """The summary of this server for language models (https://llmstxt.org)."""
    return HttpResponse(_filled(_as_text(request.is_secure()), request), content_type="text/plain; charset=utf-8")
