"""``manage.py grants list|add|remove``: manage the rules of access."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...auth.permissions import ACTIONS, SYSTEM
from ...models import Grant
from ...services import grants
from ..base import StoreCommand


class Command(StoreCommand):
    """List, add and remove grants. Running servers apply a change at once."""

    help = "List, add or remove grants, the rules of access. Running servers apply a change at once."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        actions = parser.add_subparsers(dest="do", metavar="list|add|remove", help="Without one: list.")
        actions.add_parser("list", help="Show all grants.")
        adding = actions.add_parser("add", help="Add a grant, such as: grants add user:ada join 'lab:*'")
        adding.add_argument(
            "subject",
            help=f"KIND or KIND:NAME, such as group:staff. KIND is one of {', '.join(Grant.Subject.values)}.",
        )
        adding.add_argument("action", help=f"One of {', '.join(ACTIONS)}, or * for all.")
        adding.add_argument("pattern", help="The channels: room:channel, where * stands for any text.")
        adding.add_argument(
            "--deny", action="store_true", help="Forbid the action. A ban overrides every grant that allows."
        )
        removing = actions.add_parser("remove", help="Remove a grant.")
        removing.add_argument("number", type=int, help="Number of the grant in `grants list`.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the chosen action. Raises ``CommandError``."""
        getattr(self, f"_{options['do'] or 'list'}")(**options)

    def _list(self, **_: Any) -> None:
        rows = [
            (
                str(grant.pk),
                f"{grant.subject}:{grant.subject_name}" if grant.subject_name else grant.subject,
                "may" if grant.allow else "may not",
                grant.action,
                grant.pattern,
                grant.created_by,
            )
            for grant in Grant.objects.order_by("pk")
        ]
        if not rows:
            self.stdout.write(
                "There are no grants. Public rooms are open to all clients, and private rooms only to admins."
            )
            return
        self.table(("number", "subject", "", "action", "pattern", "created by"), rows)

    def _add(self, *, subject: str, action: str, pattern: str, deny: bool, **options: Any) -> None:
        kind, _, name = subject.partition(":")
        values = {
            "subject": kind,
            "subject_name": name,
            "action": action,
            "pattern": pattern,
            "allow": not deny,
        }
        grant = grants.create(SYSTEM, values, door="command")
        self.stdout.write(f"Added grant {grant.pk}: {grant}.")
        if hint := grants.nobody_yet(grant):
            self.stdout.write(hint)

    def _remove(self, *, number: int, **_: Any) -> None:
        grant = Grant.objects.filter(pk=number).first()
        if grant is None:
            raise CommandError(f"There is no grant {number}. `manage.py grants list` shows all grants.")
        shown = str(grant)
        grants.delete(SYSTEM, grant, door="command")
        self.stdout.write(f"Removed grant {number}: {shown}.")
