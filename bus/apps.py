"""The app's configuration; it also holds the process's running nodes, one per event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from .node import Node
    from .sockets.dispatch import Handler


class BusConfig(AppConfig):
    """``bus``: rooms, channels, messages, and the sockets."""

    name = "bus"
    label = "bus"
    verbose_name = "ArqonBus"
    default_auto_field = "django.db.models.BigAutoField"

    def __init__(self, app_name: str, app_module: Any) -> None:
        super().__init__(app_name, app_module)
        #: How frames of a kind that the bus itself does not serve are carried out; other apps add theirs in ``ready``.
        self.kinds: dict[str, Handler] = {}
        #: What the ASGI application that this process has made hands sockets to; None before. The system checks ask.
        self.sockets: Any = None
        #: While a system check makes the application, which is then not there to serve.
        self.checking = False

    def ready(self) -> None:
        """Make what the process shares, and connect checks and signals. Raises ``ImproperlyConfigured`` for a missing app."""
        for needed in ("django.contrib.auth", "django.contrib.contenttypes"):
            if not apps.is_installed(needed):
                raise ImproperlyConfigured(f'The bus needs the users of Django. Add "{needed}" to INSTALLED_APPS.')
        from . import receivers
        from .auth.attempts import Attempts, Buckets
        from .auth.permissions import RuleTable
        from .checks import bus as checks
        from .log import Passed
        from .monitoring.log_lines import Damper

        #: The nodes that run in this process; code outside of an event loop sends notifications through it.
        self.nodes: set[Node] = set()
        #: Node of each loop, running or about to.
        self.loops: dict[AbstractEventLoop, Node] = {}
        #: Ids of messages of ephemeral channels that came by any door of this process.
        self.passed = Passed()
        #: The grants as this process knows them.
        self.rules = RuleTable()
        #: What callers of the REST API have left of their rate.
        self.http_buckets = Buckets()
        #: What network addresses have left of wrong credentials and log-ins.
        self.attempts = Attempts()
        #: Lines about what the REST API refused.
        self.http_refusals = Damper(rate=10.0, burst=100.0)
        checks.register_checks()
        receivers.connect()
