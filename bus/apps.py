"""The configuration of the app ``bus``. It also holds the running nodes of the process, one for each event loop."""

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
        #: The handlers of frame kinds that the bus itself does not serve. Other apps add theirs in ``ready``.
        self.kinds: dict[str, Handler] = {}
        #: The router of sockets of this process's ASGI application, for the system checks. None until that is made.
        self.sockets: Any = None
        #: True while a system check makes the ASGI application, which then serves nobody.
        self.checking = False

    def ready(self) -> None:
        """Make the shared objects of the process, and connect checks and signals.

        Raises ``ImproperlyConfigured`` for a missing app.
        """
        for needed in ("django.contrib.auth", "django.contrib.contenttypes"):
            if not apps.is_installed(needed):
                raise ImproperlyConfigured(f'The bus needs the users of Django. Add "{needed}" to INSTALLED_APPS.')
        from django.utils.module_loading import autodiscover_modules

        from . import receivers
        from .auth.attempts import Attempts, Buckets
        from .auth.permissions import RuleTable
        from .checks import bus as checks
        from .log import Passed
        from .monitoring.log_lines import Damper

        #: The nodes that run in this process. Code outside of an event loop sends notifications through them.
        self.nodes: set[Node] = set()
        #: The node of each event loop, running or starting.
        self.loops: dict[AbstractEventLoop, Node] = {}
        #: The ids of messages of ephemeral channels that reached this process by any interface.
        self.passed = Passed()
        #: This process's copy of the grants.
        self.rules = RuleTable()
        #: The rate limits of the callers of the REST API.
        self.http_buckets = Buckets()
        #: The limits for wrong credentials and log-ins of each network address.
        self.attempts = Attempts()
        #: The limit for log lines about requests that the REST API refused.
        self.http_refusals = Damper(rate=10.0, burst=100.0)
        checks.register_checks()
        receivers.connect()
        # The gates of the project: a message must not pass in a process that does not know them.
        autodiscover_modules("gates")
