"""Asyncio without Django: who is connected to this process, and how frames get onto their sockets."""
