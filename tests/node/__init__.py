"""The REST API as programs use it: real requests to a real server."""
