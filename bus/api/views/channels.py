"""The views of channels."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample
from rest_framework.request import Request
from rest_framework.response import Response

from ... import shapes
from ...commands.base import LISTING
from ...models import Channel
from ...protocol.errors import ErrorCode
from ...protocol.names import Address
from ...services import channel_lists
from ...services import channels as channel_service
from ..queries import ChannelFilter
from ..schema import ADDRESS, operation, query
from ..serializers import channels as bodies
from .base import DOOR, BusView, address_of, decode_cursor, encode_cursor, page


def _values(values: dict[str, Any]) -> dict[str, Any]:
    retention = values.pop("retention", {})
    return {**values, **{f"retention_{key}": value for key, value in retention.items()}}


class Channels(BusView):
    """``/channels``."""

    look_cost = LISTING

    @operation("channels_list", "List channels", shapes.ChannelList, tag="channels", parameters=query(ChannelFilter))
    def get(self, request: Request) -> Response:
        """The channels that you may see, by room and name."""
        filters = ChannelFilter.of(request, Channel.objects.all())
        after = decode_cursor(filters.values["cursor"], 1)
        rows, more = channel_lists.page(
            self.actor,
            filters.qs,
            after=after[0] if after else "",
            limit=filters.size,
            holder=self.actor.principal or None,
        )
        return page(rows, filters, encode_cursor(more) if more else None)

    @operation(
        "channels_create",
        "Create a channel",
        shapes.ChannelInfo,
        tag="channels",
        status=201,
        request=bodies.NewChannel,
        errors=(ErrorCode.INVALID_NAME, ErrorCode.CHANNEL_EXISTS, ErrorCode.CHANNEL_NOT_FOUND),
        examples=[
            OpenApiExample(
                "a channel that stores 1000 messages",
                value={
                    "room": "lab",
                    "channel": "results",
                    "description": "Results of the experiments",
                    "retention": {"count": 1000},
                },
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> Response:
        """Create a channel that stays until it is deleted, and its room if necessary. For admins, like `create_channel`."""
        values = _values(self.read(bodies.NewChannel))
        address = Address(values.pop("room"), values.pop("channel"))
        channel_service.create_channel(self.actor, address, **values, door=DOOR)
        return Response(channel_lists.channel_info(self.actor, address), status=201)


class OneChannel(BusView):
    """``/channels/{address}``."""

    @operation(
        "channels_get",
        "Show a channel",
        shapes.ChannelInfo,
        tag="channels",
        parameters=[ADDRESS],
        errors=(ErrorCode.INVALID_NAME, ErrorCode.CHANNEL_NOT_FOUND),
    )
    def get(self, request: Request, address: str) -> Response:
        """Members, metadata and newest seq, like `channel_info`."""
        return Response(channel_lists.channel_info(self.actor, address_of(address)))

    @operation(
        "channels_update",
        "Change a channel",
        shapes.ChannelInfo,
        tag="channels",
        request=bodies.ChannelChanges,
        parameters=[ADDRESS],
        errors=(ErrorCode.INVALID_NAME, ErrorCode.CHANNEL_NOT_FOUND),
    )
    def patch(self, request: Request, address: str) -> Response:
        """Change the given fields. For admins."""
        where = address_of(address)
        channel_service.update_channel(self.actor, where, _values(self.changes(bodies.ChannelChanges)), door=DOOR)
        return Response(channel_lists.channel_info(self.actor, where))

    @operation(
        "channels_delete",
        "Delete a channel",
        tag="channels",
        status=204,
        parameters=[ADDRESS],
        errors=(
            ErrorCode.INVALID_NAME,
            ErrorCode.CHANNEL_NOT_FOUND,
            ErrorCode.CHANNEL_PROTECTED,
            ErrorCode.CHANNEL_NOT_EMPTY,
        ),
    )
    def delete(self, request: Request, address: str) -> Response:
        """Delete an empty channel with its history. For admins, like `delete_channel`. Built-in channels cannot be deleted."""
        channel_service.delete_channel(self.actor, address_of(address), door=DOOR)
        return Response(status=204)
