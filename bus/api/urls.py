"""The addresses below /api/."""

from __future__ import annotations

from django.urls import URLPattern, path, re_path
from rest_framework.views import APIView

from .docs import DocsPage, JSONDocument, YAMLDocument
from .errors import nothing_here
from .events import channel_events
from .stream_events import stream_events
from .views import (
    access,
    channels,
    clients,
    decisions,
    handlers,
    marks,
    messages,
    one_message,
    questions,
    rooms,
    server,
    streams,
    work,
)

app_name = "api"

# A name may hold slashes, so the longest of these patterns that fits decides where the name ends (docs/rest.md).
_ADDRESS = r"^v1/channels/(?P<address>[^:]+:.*)"
_ROOM = r"^v1/rooms/(?P<room>.+)"
_ASK = r"^v1/asks/(?P<ask>.+)"
_DECISION = r"^v1/decisions/(?P<decision>[^/]+)"
_CLAIM = r"^v1/claims/(?P<claim>[^/]+)"
_STREAM = r"^v1/streams/(?P<of>.+)"


def _list(name: str, view: type[APIView]) -> list[URLPattern]:
    """The address of a list, and the same with a slash at the end. The OpenAPI document only has the first."""
    return [path(f"v1/{name}", view.as_view(), name=name), path(f"v1/{name}/", view.as_view(schema=None))]


urlpatterns = [
    path("docs/", DocsPage.as_view(), name="docs"),
    path("openapi.json", JSONDocument.as_view(), name="openapi-json"),
    path("openapi.yaml", YAMLDocument.as_view(), name="openapi-yaml"),
    path("v1", server.Root.as_view(), name="root"),
    path("v1/", server.Root.as_view(schema=None)),
    *_list("rooms", rooms.Rooms),
    re_path(rf"{_ROOM}$", rooms.OneRoom.as_view(), name="room"),
    *_list("channels", channels.Channels),
    re_path(rf"{_ADDRESS}/messages/(?P<seq>[0-9]{{1,19}})$", one_message.OneMessage.as_view(), name="channel-message"),
    re_path(
        rf"{_ADDRESS}/messages/(?P<seq>[0-9]{{1,19}})/erase$", one_message.Erase.as_view(), name="channel-message-erase"
    ),
    re_path(rf"{_ADDRESS}/mark$", marks.OwnMark.as_view(), name="channel-mark"),
    re_path(rf"{_ADDRESS}/claims$", work.Claims.as_view(), name="channel-claims"),
    re_path(rf"{_ADDRESS}/decisions$", decisions.ChannelDecisions.as_view(), name="channel-decisions"),
    re_path(rf"{_ADDRESS}/work$", work.Overview.as_view(), name="channel-work"),
    re_path(rf"{_ADDRESS}/work/(?P<seq>[0-9]{{1,19}})/retry$", work.Retry.as_view(), name="work-retry"),
    re_path(rf"{_ADDRESS}/work/(?P<seq>[0-9]{{1,19}})/discard$", work.Discard.as_view(), name="work-discard"),
    re_path(rf"{_ADDRESS}/handlers$", handlers.OfChannel.as_view(), name="channel-handlers"),
    re_path(rf"{_ADDRESS}/events$", channel_events, name="channel-events"),
    re_path(rf"{_ADDRESS}/messages$", messages.ChannelMessages.as_view(), name="channel-messages"),
    re_path(rf"{_ADDRESS}$", channels.OneChannel.as_view(), name="channel"),
    *_list("messages", messages.Messages),
    re_path(r"^v1/messages/(?P<uid>.+)$", one_message.OneMessageById.as_view(), name="message"),
    re_path(rf"{_CLAIM}/renew$", work.Renew.as_view(), name="claim-renew"),
    re_path(rf"{_CLAIM}/done$", work.Done.as_view(), name="claim-done"),
    re_path(rf"{_CLAIM}/release$", work.Release.as_view(), name="claim-release"),
    re_path(rf"{_CLAIM}/reject$", work.Reject.as_view(), name="claim-reject"),
    re_path(rf"{_STREAM}/events$", stream_events, name="stream-events"),
    re_path(rf"{_STREAM}/append$", streams.Append.as_view(), name="stream-append"),
    re_path(rf"{_STREAM}/end$", streams.End.as_view(), name="stream-end"),
    re_path(rf"{_STREAM}/stop$", streams.Stop.as_view(), name="stream-stop"),
    re_path(rf"{_STREAM}/adopt$", streams.Adopt.as_view(), name="stream-adopt"),
    re_path(rf"{_STREAM}$", streams.OneStream.as_view(), name="stream"),
    *_list("ask", questions.Ask),
    re_path(rf"{_ASK}/reply$", questions.Reply.as_view(), name="ask-reply"),
    re_path(rf"{_ASK}$", questions.OneQuestion.as_view(), name="ask-one"),
    *_list("decisions", decisions.Decisions),
    re_path(rf"{_DECISION}/decide$", decisions.Decide.as_view(), name="decision-decide"),
    re_path(rf"{_DECISION}/consume$", decisions.Consume.as_view(), name="decision-consume"),
    re_path(rf"{_DECISION}/cancel$", decisions.Cancel.as_view(), name="decision-cancel"),
    re_path(rf"{_DECISION}$", decisions.OneDecision.as_view(), name="decision"),
    *_list("clients", clients.Clients),
    re_path(r"^v1/clients/(?P<client_id>[^/]+)/disconnect$", clients.Disconnect.as_view(), name="client-disconnect"),
    re_path(r"^v1/clients/(?P<client_id>[^/]+)/status$", clients.ClientStatus.as_view(), name="client-status"),
    re_path(r"^v1/clients/(?P<client_id>[^/]+)$", clients.OneClient.as_view(), name="client"),
    *_list("tokens", access.Tokens),
    *_list("tickets", access.Tickets),
    path("v1/tokens/<int:id>", access.OneToken.as_view(), name="token"),
    *_list("grants", access.Grants),
    path("v1/grants/<int:id>", access.OneGrant.as_view(), name="grant"),
    *_list("audit", server.Audit),
    *_list("nodes", server.Nodes),
    *_list("handlers", handlers.Handlers),
    *_list("stats", server.Stats),
    *_list("me", server.Me),
    re_path(r"", nothing_here),
]
