"""The views of rooms."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from ... import shapes
from ...commands.base import LISTING
from ...models import Room
from ...protocol.errors import ErrorCode
from ...services import rooms as room_service
from ..queries import RoomFilter
from ..schema import ROOM, operation, query
from ..serializers import rooms as bodies
from .base import DOOR, BusView, decode_cursor, encode_cursor, page


class Rooms(BusView):
    """``/rooms``."""

    look_cost = LISTING

    @operation("rooms_list", "List rooms", shapes.RoomList, tag="rooms", parameters=query(RoomFilter))
    def get(self, request: Request) -> Response:
        """The rooms that you may see, by name. Private rooms need a grant."""
        filters = RoomFilter.of(request, Room.objects.all())
        after = decode_cursor(filters.values["cursor"], 1)
        rows, more = room_service.page(self.actor, filters.qs, after=after[0] if after else "", limit=filters.size)
        return page(rows, filters, encode_cursor(more) if more else None)

    @operation(
        "rooms_create",
        "Create a room",
        shapes.Room,
        tag="rooms",
        status=201,
        request=bodies.NewRoom,
        errors=(ErrorCode.INVALID_NAME, ErrorCode.ROOM_EXISTS),
    )
    def post(self, request: Request) -> Response:
        """Create an empty room. For admins. A room is also created with its first channel."""
        values = self.read(bodies.NewRoom)
        room = room_service.create_room(self.actor, values.pop("room"), **values, door=DOOR)
        return Response(room_service.rows(self.actor, [room])[0], status=201)


class OneRoom(BusView):
    """``/rooms/{room}``."""

    @operation(
        "rooms_get", "Show a room", shapes.Room, tag="rooms", parameters=[ROOM], errors=(ErrorCode.ROOM_NOT_FOUND,)
    )
    def get(self, request: Request, room: str) -> Response:
        """One room with its figures."""
        return Response(room_service.get(self.actor, room))

    @operation(
        "rooms_update",
        "Change a room",
        shapes.Room,
        tag="rooms",
        request=bodies.RoomChanges,
        parameters=[ROOM],
        errors=(ErrorCode.ROOM_NOT_FOUND,),
    )
    def patch(self, request: Request, room: str) -> Response:
        """Change the given fields. For admins.

        If the room becomes private, clients without a grant leave it at once.
        """
        changed = room_service.update_room(self.actor, room, self.changes(bodies.RoomChanges), door=DOOR)
        return Response(room_service.rows(self.actor, [changed])[0])

    @operation(
        "rooms_delete",
        "Delete a room",
        tag="rooms",
        status=204,
        parameters=[ROOM],
        errors=(ErrorCode.ROOM_NOT_FOUND, ErrorCode.CHANNEL_PROTECTED, ErrorCode.CHANNEL_NOT_EMPTY),
    )
    def delete(self, request: Request, room: str) -> Response:
        """Delete a room without members, with its channels and their history. For admins. Built-in rooms cannot be deleted."""
        room_service.delete_room(self.actor, room, door=DOOR)
        return Response(status=204)
