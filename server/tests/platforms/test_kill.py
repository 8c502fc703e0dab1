"""SIGKILL at random moments: each value at least once, in order, and those that
came twice are counted."""

import random
import signal
import time

from baken import Baken, wait_until
from machine import OWN_MACHINE, Machine
from recorder import Recorder

SEED = 7
KILLS = 8


def test_sigkill_loses_and_reorders_nothing(tmp_path):
    folder = tmp_path / "baken"
    folder.mkdir()
    platform = Recorder()
    baken = Baken(folder, OWN_MACHINE)
    machine = Machine(baken, "pump")
    item = {"key": "n", "data_type": "integer", "settings": {"measurement": "m"}}
    forwarder = machine.forwarder("influxdb", {"url": platform.url, "bucket": "b"}, {}, [item])
    chance = random.Random(SEED)
    acknowledged = []
    number = 0
    for kill in range(KILLS + 1):
        until = time.monotonic() + chance.uniform(0.3, 1.5)
        while time.monotonic() < until:
            machine.publish(number, {"n": number})
            acknowledged.append(number)
            number += 1
        if kill == KILLS:
            break
        baken.process.send_signal(signal.SIGKILL)
        baken.process.wait(30)
        baken.output.close()
        (folder / "ready.json").unlink()
        baken = Baken(folder, OWN_MACHINE)
        machine.baken = baken
        machine.client.loop_stop()
        machine.client.disconnect()
        machine.client.connect(baken.mqtt_host, baken.mqtt_port)
        machine.client.loop_start()

    def values():
        return [int(line.rsplit(" ", 1)[1]) - machine.start for _, _, body in platform.taken()
                for line in body.decode().splitlines()]
    wait_until("all values", lambda: set(acknowledged) <= set(values()))
    machine.settled(forwarder, 1)
    found = values()
    first = list(dict.fromkeys(found))
    missing = set(acknowledged) - set(found)
    doubles = len(found) - len(first)
    print(f"seed {SEED}: {len(acknowledged)} values, {KILLS} kills, {len(missing)} missing, "
          f"{doubles} came twice")
    assert first == sorted(first) and not missing
    # A store each half second bounds what is sent again at each kill.
    assert doubles <= KILLS * 2_000, doubles
    machine.stop()
    baken.stop()
    platform.stop()
