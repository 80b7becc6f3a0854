#!/usr/bin/env python
"""A sensor that publishes readings of this machine.

Run ``python sensor.py --every 2``. Start as many sensors as you like, on any machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import time

from arqonbus import ArqonBusError, sync


def reading() -> dict[str, float]:
    """Measure this machine: the load of the last minute and the used fraction of the disk."""
    disk = shutil.disk_usage(os.path.abspath(os.sep))
    return {"load": round(os.getloadavg()[0], 2), "disk_used": round(disk.used / disk.total, 3)}


def main() -> None:
    """Read the command line and publish readings."""
    parser = argparse.ArgumentParser(description="Publish readings of this machine to an ArqonBus.")
    parser.add_argument("--url", default=os.environ.get("ARQONBUS_URL", "ws://localhost:8765/"), help="URL of the bus")
    parser.add_argument("--channel", default="sensors:readings", help="channel to publish to, as room:channel")
    parser.add_argument("--name", default=socket.gethostname().split(".")[0], help="name of the sensor")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between readings")
    parser.add_argument("--count", type=int, default=0, help="number of readings; 0: run until Ctrl+C")
    chosen = parser.parse_args()
    with sync.connect(chosen.url, client_type="sensor", token=os.environ.get("ARQONBUS_TOKEN"), wait=30) as bus:
        print(f"{chosen.name} publishes to {chosen.channel} every {chosen.every:g} s; Ctrl+C ends", flush=True)
        number = 0
        while True:
            number += 1
            # This call returns when the reading is in the log. During a restart of the server, it waits and then continues.
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
