"""The command ``set_up``: the tables and channels of the desk, and a person who approves."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand

from bus.auth.permissions import SYSTEM
from bus.models import Grant
from bus.protocol.errors import BusError, ErrorCode
from bus.protocol.names import parse_address
from bus.services import channels, grants
from desk.places import APPROVALS, QUESTIONS


class Command(BaseCommand):
    """Create the tables, the channels, and the person ``ann`` who may decide. A second call changes nothing."""

    help = "Creates the tables and channels of the desk, and the user ann with the password `ann` who decides."

    def handle(self, *args: Any, **options: Any) -> None:
        """Create what is missing."""
        call_command("migrate", verbosity=0)
        people = get_user_model()
        if not people.objects.filter(username="ann").exists():
            people.objects.create_user("ann", password="ann")  # noqa: S106 - an example
        if not Grant.objects.filter(subject_name="ann", action="decide").exists():
            values = {"subject": "user", "subject_name": "ann", "action": "decide", "pattern": "desk:*", "allow": True}
            grants.create(SYSTEM, values, door="command")
        for address, work in ((QUESTIONS, {"lease": 30}), (APPROVALS, None)):
            place = parse_address(address)
            assert place is not None
            try:
                channels.create_channel(SYSTEM, place, work=work, door="command")
            except BusError as problem:
                if problem.code != ErrorCode.CHANNEL_EXISTS:
                    raise
