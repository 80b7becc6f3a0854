"""The wire contract as pure code: no Django, no asyncio, no clock and no randomness of its own.

Everything here can be tested with plain values: text and a time go in, frames and intents come out.
"""
