"""The shapes of requests and answers. Requests are checked with them; answers are made by the services and described here."""
