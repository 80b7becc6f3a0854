"""The steps of a message, each by itself and all of them through every door."""
