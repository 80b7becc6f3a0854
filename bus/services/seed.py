"""The hardcoded rooms: ``science`` and ``integriguard``."""

from __future__ import annotations

from ..models import Channel, Room
from ..protocol.names import WHOLE

#: room → (private, description, {channel: (description, retention)}).
HARDCODED: dict[str, tuple[bool, str, dict[str, tuple[str, int | None]]]] = {
    "science": (
        False,
        "The scientific method, a channel for each step.",
        {
            "general": ("Talk about everything", None),
            "explore": ("Look around: observations and open questions", None),
            "hypothesize": ("Propose explanations", None),
            "design": ("Plan experiments", None),
            "execute": ("Run them", None),
            "interpret": ("Make sense of the results", None),
            "share": ("Tell the others", None),
        },
    ),
    "integriguard": (
        True,
        "The bus about itself.",
        {
            "telemetry-stream": ("Telemetry events, as they come", 10_000),
            "dashboard-events": ("What clients do, never what they say", 10_000),
        },
    ),
}


def seed_hardcoded() -> list[str]:
    """Make the rooms and channels that are missing; returns a line for each thing that was done."""
    done: list[str] = []
    for room_name, (private, description, channels) in HARDCODED.items():
        room, made = Room.objects.get_or_create(
            name=room_name, defaults={"private": private, "description": description, "hardcoded": True}
        )
        if made:
            done.append(f"made room {room_name}")
        elif not room.hardcoded:
            room.hardcoded = True
            room.save(update_fields=["hardcoded"])
            done.append(f"room {room_name} is hardcoded now")
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
                done.append(f"made channel {channel.address}")
            elif not channel.hardcoded:
                channel.hardcoded, channel.auto_created = True, False
                channel.save(update_fields=["hardcoded", "auto_created"])
                done.append(f"channel {channel.address} is hardcoded now")
    everyone, _ = Room.objects.get_or_create(name=WHOLE, defaults={"hardcoded": True})
    Channel.objects.get_or_create(
        room=everyone,
        name=WHOLE,
        defaults={"kind": Channel.Kind.EVERYONE, "type": "system", "hardcoded": True},
    )
    return done
