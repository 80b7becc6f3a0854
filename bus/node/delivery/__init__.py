"""How messages reach the members of a process: streams of the logs, the watch for missed ones, and replay."""
