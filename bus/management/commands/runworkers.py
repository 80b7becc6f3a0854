"""``manage.py runworkers``: do the jobs of work channels with functions of the project."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import Error as DatabaseError
from django.db import connection
from django.utils.module_loading import autodiscover_modules

from ... import workers
from ...db import faults as database
from ...protocol.errors import BusError, ErrorCode
from ..base import StoreCommand
from ..crew import Crew, process_name

#: Seconds between two looks for jobs when there were none.
PAUSE = 0.5
#: Errors of a channel that is missing, or that has no work.
NO_WORK = (ErrorCode.CHANNEL_NOT_FOUND, ErrorCode.VALIDATION_ERROR)
HINT = 'Make the work channel with bus.services.channels.create_channel(SYSTEM, Address("room", "channel"), work={}).'


class Command(StoreCommand):
    """Run the functions that ``bus.workers.work_on`` registered, until SIGTERM or SIGINT. A job that runs is finished first."""

    help = (
        "Do the jobs of work channels with the functions that @work_on registered in the workers modules of the apps."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument(
            "channels", nargs="*", metavar="ROOM:CHANNEL", help="Only these channels. The default is all."
        )
        parser.add_argument("--threads", type=int, default=1, help="Jobs at the same time. The default is 1.")
        parser.add_argument("--until-empty", action="store_true", help="End when no job is ready.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Work. Raises ``CommandError`` without a function, or for a channel without one."""
        autodiscover_modules("workers")
        wanted = set(options["channels"])
        registered = [one for one in workers.REGISTERED if not wanted or one.channel in wanted]
        if missing := sorted(wanted - {one.channel for one in registered}):
            raise CommandError(f"No function works on {', '.join(missing)}. Decorate one with @work_on.")
        if not registered:
            raise CommandError("No app has a module workers with a function that @work_on decorates.")
        if options["threads"] < 1:
            raise CommandError("--threads must be at least 1.")
        self._crew = Crew()
        name = process_name("worker")
        work = [
            partial(self._work, registered, f"{name}-{n}", options["until_empty"]) for n in range(options["threads"])
        ]
        self._crew.run(work, partial(self._say, registered))

    def _say(self, registered: list[workers.Registered]) -> None:
        for one in registered:
            self.stdout.write(f"{one.function.__module__}.{one.function.__qualname__} works on {one.channel}.")
        self.stdout.flush()

    def _work(self, registered: list[workers.Registered], name: str, until_empty: bool) -> None:
        actor = workers.as_worker(name)
        try:
            while not self._crew.stopping.is_set():
                # Each function gets its turn, however many jobs another one has.
                found = [self._try(one, actor) for one in registered if not self._crew.stopping.is_set()]
                if not any(found):
                    if until_empty:
                        return
                    self._crew.stopping.wait(PAUSE)
        except BusError as problem:
            # A wrong channel is a fault of the project. The other threads end with it.
            if problem.code in NO_WORK:
                raise CommandError(f"{problem.message} {HINT}") from problem
            raise

    def _try(self, one: workers.Registered, actor: Any) -> bool:
        try:
            return workers.work_once(one, actor)
        except DatabaseError as problem:
            self.stderr.write(database.in_words(problem))
            connection.close()
            return False
        except BusError as problem:
            if not problem.kind.retry:
                raise
            self.stderr.write(problem.message)
            return False
