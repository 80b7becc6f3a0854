"""Clients: which ids are known, and who owns them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from django.utils.crypto import salted_hmac

from ..auth.permissions import Actor
from ..conf.settings import config
from ..models import Client, digest
from ..monitoring import metrics
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import CLIENT_ID_RULE, is_client_id, is_reserved


def known(client_ids: Iterable[str]) -> dict[str, bool]:
    """Return the known ids, each with whether its client is anonymous and disconnected.

    Such a client gets its waiting private messages only if it returns with its resume token in time. A client that takes
    the id without the token does not get them.
    """
    rows = Client.objects.filter(client_id__in=list(client_ids))
    return {
        name: not principal and node is None
        for name, principal, node in rows.values_list("client_id", "principal", "node")
    }


def speaker(actor: Actor, wanted: str | None = None) -> tuple[Actor, bool]:
    """Return ``actor`` with a client id for a publish without a socket, and whether the id has to be taken first.

    The id is ``wanted``, which must be free or belong to the actor's principal. Without it, the id is the actor's name,
    or a form of its principal if another client owns that name. Anonymous clients have one id for each network address
    and cannot choose. Nothing is written: :func:`take_id` takes an id with the first message. Raises ``BusError``
    INVALID_NAME, FORBIDDEN or CLIENT_ID_IN_USE.
    """
    if actor.anonymous:
        if wanted:
            raise BusError(ErrorCode.FORBIDDEN, "Authenticate to use a client_id of your own.")
        # Another algorithm would give each address another id after an upgrade.
        mark = salted_hmac("arqonbus.anonymous", actor.address, algorithm="sha1").hexdigest()[:12]
        return msgspec.structs.replace(actor, client_id=f"anonymous-{mark}"), False
    if wanted:
        if not is_client_id(wanted):
            raise BusError(ErrorCode.INVALID_NAME, f"`client_id` must be {CLIENT_ID_RULE}", [{"field": "client_id"}])
        if is_reserved(wanted):
            raise BusError(
                ErrorCode.INVALID_NAME, f"`client_id` {wanted} is reserved for the server.", [{"field": "client_id"}]
            )
        candidates = [wanted]
    else:
        names = (actor.name, actor.principal.replace(":", "."), f"id.{digest(actor.principal)[:24]}")
        candidates = [name for name in names if is_client_id(name) and not is_reserved(name)]
    owners = dict(Client.objects.filter(client_id__in=candidates).values_list("client_id", "principal"))
    for client_id in candidates:
        if owners.get(client_id, actor.principal) == actor.principal:
            return msgspec.structs.replace(actor, client_id=client_id), client_id not in owners
    raise _somebody_elses(candidates[0])


def take_id(actor: Actor) -> None:
    """Assign the client id of ``actor`` to its principal permanently, inside the caller's transaction.

    Raises ``BusError`` CLIENT_ID_IN_USE, or LIMIT_REACHED if the principal has its maximum of client ids.
    """
    limit = config().client_ids_per_principal
    if limit and Client.objects.filter(principal=actor.principal).count() >= limit:
        raise too_many_ids(limit)
    row, _ = Client.objects.get_or_create(
        client_id=actor.client_id, defaults={"principal": actor.principal, "role": actor.role}
    )
    if row.principal != actor.principal:
        raise _somebody_elses(actor.client_id)


def too_many_ids(limit: int) -> BusError:
    """Count the refusal and return the error for a principal with its maximum of client ids."""
    metrics.limits.labels("client_ids_per_principal").inc()
    return BusError(
        ErrorCode.LIMIT_REACHED,
        f"You already own {limit} client_ids, which is the limit. An admin can remove unused ones.",
        [{"limit": "client_ids_per_principal", "value": limit}],
    )


def _somebody_elses(client_id: str) -> BusError:
    return BusError(ErrorCode.CLIENT_ID_IN_USE, "This client_id belongs to another client.", [{"client_id": client_id}])
