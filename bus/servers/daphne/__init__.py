"""What the bus knows of daphne: Twisted, Autobahn and their internals. Nothing else imports them."""
