"""The built-in rooms: ``science`` in the ready project, and the room of the bus itself in every project."""

from __future__ import annotations

from typing import NamedTuple

from ..conf.settings import config
from ..models import Channel, Room
from ..protocol.names import INBOX_ROOM, WHOLE


class BuiltIn(NamedTuple):
    """A built-in room. Each channel has a description and a number of messages to keep (None: the setting)."""

    private: bool
    description: str
    channels: dict[str, tuple[str, int | None]]


SCIENCE = BuiltIn(
    False,
    "The scientific method, a channel for each step.",
    {
        "general": ("Talk about everything", None),
        "explore": ("Observations and open questions", None),
        "hypothesize": ("Propose explanations", None),
        "design": ("Plan experiments", None),
        "execute": ("Run them", None),
        "interpret": ("Interpret the results", None),
        "share": ("Publish the results", None),
    },
)
SYSTEM = BuiltIn(
    True,
    "Events of the bus itself.",
    {
        "telemetry-stream": ("All telemetry events", 10_000),
        "dashboard-events": ("Activity of clients, without their messages", 10_000),
    },
)


def built_in(*, science: bool | None = None) -> dict[str, BuiltIn]:
    """Return the built-in rooms of this project, by name.

    ``science`` says whether that room belongs to them; None leaves it to the setting ``science_room``.
    """
    values = config()
    rooms = {"science": SCIENCE} if (values.science_room if science is None else science) else {}
    return {**rooms, values.system_room: SYSTEM}


def release() -> None:
    """Release rooms that are no longer built in, so that an admin can delete them.

    Version 1.0 made ``science`` in every project, and a project may have renamed the room of the bus.
    """
    former = Room.objects.filter(hardcoded=True).exclude(name__in=[*built_in(), WHOLE, INBOX_ROOM])
    ids = list(former.values_list("id", flat=True))
    if ids:
        Channel.objects.filter(room__in=ids, hardcoded=True).update(hardcoded=False)
        Room.objects.filter(id__in=ids).update(hardcoded=False)


def seed_hardcoded(*, science: bool | None = None) -> list[str]:
    """Create the rooms and channels that are missing. Return a line for each change.

    ``science`` says whether that room belongs to them; None leaves it to the setting ``science_room``.
    """
    done: list[str] = []
    for room_name, (private, description, channels) in built_in(science=science).items():
        room, made = Room.objects.get_or_create(
            name=room_name, defaults={"private": private, "description": description, "hardcoded": True}
        )
        if made:
            done.append(f"created room {room_name}")
        elif not room.hardcoded:
            room.hardcoded = True
            room.save(update_fields=["hardcoded"])
            done.append(f"room {room_name} is built in now")
        Channel.objects.get_or_create(
            room=room, name=WHOLE, defaults={"kind": Channel.Kind.ROOM, "type": "system", "hardcoded": True}
        )
        for name, (text, retention) in channels.items():
            channel, made = Channel.objects.get_or_create(
                room=room,
                name=name,
                defaults={
                    "description": text,
                    "type": "standard",
                    "hardcoded": True,
                    "retention_count": retention,
                },
            )
            if made:
                done.append(f"created channel {channel.address}")
            elif not channel.hardcoded:
                channel.hardcoded, channel.auto_created = True, False
                channel.save(update_fields=["hardcoded", "auto_created"])
                done.append(f"channel {channel.address} is built in now")
    everyone, _ = Room.objects.get_or_create(name=WHOLE, defaults={"hardcoded": True})
    Channel.objects.get_or_create(
        room=everyone,
        name=WHOLE,
        defaults={"kind": Channel.Kind.EVERYONE, "type": "system", "hardcoded": True},
    )
    return done
