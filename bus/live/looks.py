"""How the messages of a channel look on a page: a template of the project, in a language, for everybody or for one user."""

from __future__ import annotations

import html
from collections.abc import Iterable
from html.parser import HTMLParser
from typing import Any

import msgspec
from django.core import signing
from django.http import HttpRequest
from django.template import TemplateDoesNotExist
from django.template.context import make_context
from django.template.loader import get_template
from django.template.loader_tags import BlockNode
from django.urls import get_script_prefix, set_script_prefix
from django.utils import timezone, translation
from django.utils.dateparse import parse_datetime

from ..auth.permissions import SYSTEM
from ..protocol.amending import AMEND
from ..protocol.errors import BusError, ErrorCode
from ..protocol.kept import legible
from ..protocol.names import SERVER, Address
from ..services import history

#: Characters of a signed look that anybody is let to ask for.
LONGEST = 2000
_SALT = "bus.live"

#: What a context processor of Django gives to a page, and a rendering for everybody cannot have.
PERSONAL = ("request", "user", "perms", "csrf_token", "messages")


#: The type of a mirror's messages.
MODEL = "model"

#: What happens to a row that the page has already.
REPLACING = ("updated", "deleted")


class SharedRenderingError(Exception):
    """Raised where a rendering for all viewers asks who is looking."""


class Personal:
    """A variable of the request, in a rendering that many viewers share. Any use of it fails the rendering."""

    def __init__(self, name: str, used: list[str]) -> None:
        self._name = name
        self._used = used

    def _use(self, *_: object) -> Any:
        # Some tags of Django take an exception for False, so the rendering asks at its end, too.
        self._used.append(self._name)
        raise SharedRenderingError(_said(self._name))

    __call__ = __str__ = __html__ = __bool__ = __iter__ = __len__ = __getitem__ = __eq__ = __hash__ = _use
    __getattr__ = _use


def _said(name: str) -> str:
    return (
        f"The template uses `{name}`, but all viewers share this rendering. "
        'Leave it out, or write `per="user"` in the tag `bus_live`.'
    )


class Look(msgspec.Struct, frozen=True, array_like=True):
    """How the messages of a log look. Equal looks share their renderings."""

    address: str
    template: str
    #: The variable of the template that has the payload; empty for none but ``message``.
    name: str
    language: str
    zone: str
    #: The prefix of the project's addresses, for ``{% url %}``.
    prefix: str
    per_user: bool
    #: The types of messages that it shows; empty for all.
    types: tuple[str, ...] = ()

    @classmethod
    def here(cls, address: str, template: str, name: str, *, per_user: bool, types: Iterable[str] = ()) -> Look:
        """Return the look for the page that is rendered now, in its language, time zone and prefix."""
        # A template's texts are of a class of their own, which is no text for JSON.
        plain = str.__str__
        return cls(
            plain(address),
            plain(template),
            plain(name),
            translation.get_language() or "",
            timezone.get_current_timezone_name() if _plain_zone() else "",
            get_script_prefix(),
            per_user,
            tuple(map(plain, types)),
        )

    def sign(self) -> str:
        """Return the look as a part of an address, which nobody without the project's key can make."""
        return signing.Signer(salt=_SALT).sign_object(msgspec.to_builtins(self), compress=True)

    @classmethod
    def read(cls, signed: str) -> Look:
        """Return the look of an address. Raises ``BusError`` FORBIDDEN for one that this project did not make."""
        try:
            if len(signed) > LONGEST:
                raise signing.BadSignature
            return msgspec.convert(signing.Signer(salt=_SALT).unsign_object(signed), cls)
        except Exception:  # noqa: BLE001 - a forged text may fail at any step
            raise BusError(ErrorCode.FORBIDDEN, "This address of a live page was not made by this site.") from None

    def check(self) -> None:
        """Raise ``TemplateDoesNotExist`` where the project lacks the template."""
        _part(self.template)

    def render(self, frame: bytes, request: HttpRequest | None = None) -> str:
        """Return the HTML of a message, which may be empty. ``request`` is that of the user, with ``per_user``.

        Raises what the template raises, :class:`SharedRenderingError`, and ``ValueError`` for HTML that cannot be swapped.
        """
        message, order = _subject(msgspec.json.decode(legible(frame)))
        if message is None or (self.types and message.get("type") not in self.types):
            return ""
        message["sender"] = message.get("from")
        message["at"] = parse_datetime(message.get("timestamp") or "")
        payload = message.get("payload")
        context = {"message": message, **({self.name: payload} if self.name else {})}
        used: list[str] = []
        if request is None:
            context = {**{name: Personal(name, used) for name in PERSONAL}, **context}
        before = get_script_prefix()
        set_script_prefix(self.prefix)
        try:
            with translation.override(self.language or None), timezone.override(self.zone or None):
                made = str(_part(self.template)(context, request)).strip()
        finally:
            set_script_prefix(before)
        if used:
            raise SharedRenderingError(_said(used[0]))
        return _swapped(made, order) if made and order in REPLACING else made


def _subject(message: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Return the message that a fragment shows, and what happened to it.

    That is the message itself, or the one that it amends, with all amendments. None means one that is gone. It also means one
    of type ``model`` that a client published or amended: only the server tells of rows, and an older message has an older row.
    """
    if message.get("type") == AMEND and isinstance(message.get("of_seq"), int):
        try:
            kept = history.message(SYSTEM, Address(message["room"], message["channel"]), message["of_seq"], fold=True)
        except BusError:
            return None, ""
        found: dict[str, Any] = msgspec.json.decode(kept)
        if found.get("type") == MODEL:
            return None, ""
        return found, "deleted" if "deleted" in found else "updated"
    payload = message.get("payload")
    if message.get("type") == MODEL:
        if message.get("from") != SERVER:
            return None, ""
        if isinstance(payload, dict):
            return message, str(payload.get("event"))
    return message, ""


def _plain_zone() -> bool:
    """Return whether the current time zone has a name by which it can be found again."""
    return hasattr(timezone.get_current_timezone(), "key")


# --- templates --------------------------------------------------------------------------------------------------------------


def _part(name: str) -> Any:
    """Return a function of the context and the request that renders a template, or a part of one.

    ``orders/row.html#row`` is the partial ``row`` (Django 6), or else the block ``row``. Raises ``TemplateDoesNotExist``.
    """
    try:
        return get_template(name).render
    except TemplateDoesNotExist:
        whole, mark, part = name.partition("#")
        if not mark:
            raise
        return _block(whole, part)


def _block(whole: str, name: str) -> Any:
    found: Any = get_template(whole)
    template: Any = getattr(found, "template", None)
    nodes = template.nodelist.get_nodes_by_type(BlockNode) if hasattr(template, "nodelist") else []
    block = next((node for node in nodes if node.name == name), None)
    if block is None:
        raise TemplateDoesNotExist(f"{whole}#{name}")

    def render(context: dict[str, Any], request: HttpRequest | None) -> str:
        made = make_context(context, request, autoescape=found.backend.engine.autoescape)
        with made.render_context.push_state(template), made.bind_template(template):
            return str(block.render(made))

    return render


# --- swaps ------------------------------------------------------------------------------------------------------------------


class _Root(HTMLParser):
    """Finds the first element of a fragment, its id, and where its name ends."""

    def __init__(self) -> None:
        super().__init__()
        self.tag = self.id = ""
        self.start = -1

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the first one."""
        if not self.tag:
            self.tag, self.id = tag, dict(attrs).get("id") or ""
            self.start = self._offset()

    def _offset(self) -> int:
        line, column = self.getpos()
        return sum(len(text) + 1 for text in self.rawdata.split("\n")[: line - 1]) + column


def _swapped(made: str, event: str) -> str:
    """Return the fragment of a row that was updated or deleted, so that it takes the place of the row with its id.

    Raises ``ValueError`` for a fragment whose first element has no id.
    """
    root = _Root()
    root.feed(made)
    if not root.id:
        raise ValueError("The first element of the template needs an id, by which a row is replaced and deleted.")
    if event == "deleted":
        return f'<{root.tag} id="{html.escape(root.id)}" hx-swap-oob="delete"></{root.tag}>'
    behind = root.start + 1 + len(root.tag)
    return f'{made[:behind]} hx-swap-oob="true"{made[behind:]}'
