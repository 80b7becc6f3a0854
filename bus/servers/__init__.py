"""ASGI servers: how they are started and bounded, and how frames are read and written past their own machinery."""
