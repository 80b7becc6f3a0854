"""Which channels and clients there are: looked up, and made or taken with the first message."""
