"""The views of connected clients."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from ... import shapes
from ...commands.base import LISTING
from ...models import Client
from ...protocol.errors import ErrorCode
from ...services import clients as client_service
from ...services import statuses
from ...services.statuses import Said
from ..queries import ClientFilter
from ..schema import CLIENT_ID, SPEAKER_ERRORS, operation, query
from ..serializers import clients as bodies
from .base import DOOR, BusView, address_of, decode_cursor, encode_cursor, page


class Clients(BusView):
    """``/clients``."""

    look_cost = LISTING

    @operation(
        "clients_list",
        "List connected clients",
        shapes.ClientList,
        tag="clients",
        parameters=query(ClientFilter),
        errors=(ErrorCode.INVALID_NAME, ErrorCode.CHANNEL_NOT_FOUND),
    )
    def get(self, request: Request) -> Response:
        """The connected clients, by client_id, with the channels whose members you may see."""
        filters = ClientFilter.of(request, Client.objects.all())
        after = decode_cursor(filters.values["cursor"], 1)
        channel = filters.values["channel"]
        rows, more = client_service.list_clients(
            self.actor,
            limit=filters.size,
            after=after[0] if after else "",
            clients=filters.qs,
            channel=address_of(channel) if channel else None,
        )
        return page(rows, filters, encode_cursor(more) if more else None)


class OneClient(BusView):
    """``/clients/{client_id}``."""

    @operation(
        "clients_get",
        "Show a client",
        shapes.Client,
        tag="clients",
        parameters=[CLIENT_ID],
        errors=(ErrorCode.CLIENT_NOT_FOUND,),
    )
    def get(self, request: Request, client_id: str) -> Response:
        """One connected client."""
        return Response(client_service.get(self.actor, client_id))


class ClientStatus(BusView):
    """``/clients/{client_id}/status``."""

    @operation(
        "clients_status",
        "Set the status of a client of yours",
        shapes.StatusOf,
        tag="clients",
        request=bodies.NewStatus,
        parameters=[CLIENT_ID],
        errors=(
            *SPEAKER_ERRORS,
            ErrorCode.CHANNEL_NOT_FOUND,
            ErrorCode.LIMIT_REACHED,
        ),
    )
    def put(self, request: Request, client_id: str) -> Response:
        """Say what a client of your identity does now, like `set_status`. The client need not be connected.

        A client without a connection stands among the members of `channel` as long as its status lasts. Without `channel`
        that is the channel where clients begin.
        """
        values = self.read(bodies.NewStatus)
        channel = values.pop("channel", None)
        said = Said(**values)
        place = address_of(channel) if channel else None
        return Response(statuses.set_status(self.actor, client_id, said, channel=place))

    @operation(
        "clients_status_end",
        "End the status of a client of yours",
        tag="clients",
        status=204,
        parameters=[CLIENT_ID],
        errors=SPEAKER_ERRORS,
    )
    def delete(self, request: Request, client_id: str) -> Response:
        """End the status of a client of your identity."""
        statuses.set_status(self.actor, client_id, Said())
        return Response(status=204)


class Disconnect(BusView):
    """``/clients/{client_id}/disconnect``."""

    @operation(
        "clients_disconnect",
        "Disconnect a client",
        tag="clients",
        status=204,
        request=bodies.Disconnection,
        parameters=[CLIENT_ID],
        errors=(ErrorCode.CLIENT_NOT_FOUND,),
    )
    def post(self, request: Request, client_id: str) -> Response:
        """Close the connection of a client with 4403, in any process. For admins."""
        reason = self.read(bodies.Disconnection).get("reason", "")
        client_service.disconnect(self.actor, client_id, door=DOOR, reason=reason)
        return Response(status=204)
