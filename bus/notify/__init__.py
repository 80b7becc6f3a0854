"""What the processes of a bus tell one another, and the channel layer that carries it."""
