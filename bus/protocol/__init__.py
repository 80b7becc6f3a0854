"""The wire protocol as pure code: no Django, no asyncio, no clock and no randomness of its own.

Plain values test everything here: the input is text and a time, the output is frames.
"""
