"""Functions of your project that get each message of matching channels, and change the database exactly once for it.

::

    from bus.handlers import HandledMessage, on

    @on("shop:orders", name="billing")
    def billed(message: HandledMessage) -> None:
        Invoice.objects.create(order=message.payload["order"])

Put the function into the module ``handlers`` of an app, and run ``manage.py runhandlers``. The position of the handler moves in
the transaction of the function. So if the process is killed, either both have happened or neither has. A function that fails
is called again after a while, and later messages of its channel wait. Asynchronous functions run without a transaction.
"""

from __future__ import annotations

from .registry import DEAD, REGISTERED, HandledMessage, Registered, chosen, known, misplaced, on, problems

__all__ = ["DEAD", "REGISTERED", "HandledMessage", "Registered", "chosen", "known", "misplaced", "on", "problems"]
