"""What the tests stand on: real Redis and PostgreSQL, real server processes, wire clients, the recorder.

| module | question it answers |
|---|---|
| plugin | how does pytest choose the back end, and when is a skip a failure? |
| backends | which Redis, which PostgreSQL, which database for one server? |
| processes | how is a real process started, killed, frozen, measured, and surely ended? |
| redis, postgres | one server of each kind, with faults |
| server | one ArqonBus process on free ports |
| client | one connection that speaks the contract and remembers every frame |
| member | a client that comes back and repeats, as a careful application's does |
| growing | what has one reader of each stream, and is it what the owner said? |
| owner | who says a stream: in the test, by REST, or as a process that is killed |
| events | a listener of Server-Sent Events that comes back |
| recorder | did the whole history keep the promises? |
"""

from __future__ import annotations
