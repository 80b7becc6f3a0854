"""System checks (``manage.py check``, and before every start): the bus's own settings, and the project around it."""
