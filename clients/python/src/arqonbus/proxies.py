"""Choose the proxy to the server, if any."""

from __future__ import annotations

import ipaddress
from typing import Literal
from urllib.parse import urlsplit

from websockets.proxy import get_proxy
from websockets.uri import parse_uri

#: A URL, True for the proxy of the environment, or None for no proxy.
Proxy = str | Literal[True] | None


def proxy_for(url: str, wanted: Proxy) -> str | None:
    """Return the URL of the proxy. The proxy of the environment is never used for this machine.

    Raises ``InvalidURI`` for a wrong ``url``.
    """
    uri = parse_uri(url)
    if wanted is not True:
        return wanted or None
    return None if _loopback(uri.host) else get_proxy(uri)


def shown(proxy: str) -> str:
    """Return the URL of a proxy without its password."""
    parts = urlsplit(proxy if "://" in proxy else f"//{proxy}")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().removeprefix("//")


def _loopback(host: str) -> bool:
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
