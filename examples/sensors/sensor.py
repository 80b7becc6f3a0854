#!/usr/bin/env python
"""A sensor: publishes readings of this machine, ``python sensor.py --every 2``. Start as many as you like, on any machine."""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import time

from arqonbus import ArqonBusError, sync


def reading() -> dict[str, float]:
    """What this machine is doing: load of the last minute, and the part of the disk that is used."""
    disk = shutil.disk_usage(os.path.abspath(os.sep))
    return {"load": round(os.getloadavg()[0], 2), "disk_used": round(disk.used / disk.total, 3)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Publish readings of this machine to an ArqonBus.")
    parser.add_argument("--url", default=os.environ.get("ARQONBUS_URL", "ws://localhost:8765/"), help="the bus")
    parser.add_argument("--channel", default="sensors:readings", help="where to, as room:channel")
    parser.add_argument("--name", default=socket.gethostname().split(".")[0], help="the sensor's name")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between readings")
    parser.add_argument("--count", type=int, default=0, help="readings; 0: until it is stopped")
    chosen = parser.parse_args()
    with sync.connect(chosen.url, client_type="sensor", token=os.environ.get("ARQONBUS_TOKEN"), wait=30) as bus:
        print(f"{chosen.name} publishes to {chosen.channel} every {chosen.every:g} s; Ctrl+C ends", flush=True)
        number = 0
        while True:
            number += 1
            # It returns when the reading is kept. If the server restarts meanwhile, it waits and goes on.
            bus.publish(chosen.channel, {"sensor": chosen.name, "number": number, **reading()}, type="reading")
            if number == chosen.count:
                return
            time.sleep(chosen.every)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
    except ArqonBusError as problem:
        raise SystemExit(f"sensor: {problem}") from None
