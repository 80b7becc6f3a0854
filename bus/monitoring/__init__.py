"""Monitoring: the log lines and the metrics of a process."""
