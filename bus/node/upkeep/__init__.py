"""What keeps a process healthy: the heartbeat, statistics, garbage collection and the graceful stop."""
