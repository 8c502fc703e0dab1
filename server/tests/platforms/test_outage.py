"""Platforms that are down: real servers, ended and started again. For how long
says `--outage-s`; 600 is what a platform's bad day looks like."""

import json
import threading
import time

import pytest

from baken import wait_until
from hub import Hub
from machine import Machine
from mosquitto import Mosquitto
from recorder import Recorder
from test_azure import KEY, of_device
from test_blockbax import measurements
from victoria import Victoria

PAUSE_S = 0.1

# A failure is an alarm when it has lasted a minute.
ALARM_AFTER_S = 60


class Steady:
    """Publishes two series, a value of each at a time, until it is stopped."""

    def __init__(self, machine):
        self.machine, self.step, self.stopping = machine, 0, threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.stopping.wait(PAUSE_S):
            values = {"a": self.step, "b": self.step / 4}
            self.machine.publish(self.step * 100, values)
            self.step += 1

    def stop(self):
        self.stopping.set()
        self.thread.join(60)
        return self.step


class Lag:
    """The longest that a forwarder was behind, by its own account."""

    def __init__(self, machine, forwarder):
        self.machine, self.forwarder = machine, forwarder
        self.samples = []

    def watch(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.samples.append(self.machine.accounting(self.forwarder)["lag_ms"])
            time.sleep(0.2)

    def worst(self):
        return max(self.samples)

    def middle(self):
        return sorted(self.samples)[len(self.samples) // 2]


@pytest.fixture
def outage_s(request):
    return request.config.getoption("--outage-s")


def item(key):
    return {"key": key, "data_type": "number", "settings": {"measurement": "m"}}


def test_an_outage_loses_and_reorders_nothing_and_holds_up_nobody(
        baken, tmp_path, authority, free_port, outage_s):
    database = Victoria(tmp_path / "victoria", free_port())
    broker = Mosquitto(tmp_path / "mosquitto", authority, free_port(), {"site-1": "topic write baken/#"})
    well, measured = Recorder(), Recorder(lambda path, headers, body: (202, b""))
    hub = Hub(tmp_path, authority, "localhost", {"site-1": KEY})
    machine = Machine(baken, "pump")
    items = [item("a"), item("b")]
    to_database = machine.forwarder("influxdb", {"url": database.url, "bucket": "b"}, {}, items)
    certificate, key = authority.issue("site-1")
    to_broker = machine.forwarder(
        "aws_iot_core", {"authentication": "certificate", "endpoint": "localhost",
                         "client_id": "site-1", "certificate": certificate, "port": broker.port,
                         "ca": authority.pem}, {"private_key": key})
    to_hub = of_device(machine, hub, authority, "site-1")
    to_measured = machine.forwarder(
        "blockbax", {"project_id": "p-1", "url": measured.url}, {"access_token": "key"},
        [{"key": key, "data_type": "number", "settings": {"ingestion_id": "{device}$" + key}}
         for key in ("a", "b")])
    to_well = machine.forwarder("influxdb", {"url": well.url, "bucket": "b"}, {}, items)

    steady = Steady(machine)
    before, during = Lag(machine, to_well), Lag(machine, to_well)
    before.watch(max(5, outage_s / 10))
    database.stop()
    for platform in (broker, hub):
        platform.end()
    measured.stop()
    down = time.monotonic()
    during.watch(outage_s)
    for forwarder in (to_database, to_broker, to_hub, to_measured):
        state = machine.state(forwarder)
        assert state["state"] == "failing" and "reached" in state["detail"], state
        assert machine.accounting(forwarder)["lag_ms"] > (outage_s - 5) * 1000
        is_due = outage_s > ALARM_AFTER_S + 10
        alarm = machine.alarm(forwarder)
        assert (alarm is not None and alarm["active"]) == is_due, alarm
    assert machine.alarm(to_well) is None
    database.start()
    for platform in (broker, hub, measured):
        platform.start()
    was_down = time.monotonic() - down

    # The pauses between attempts grow up to ten minutes.
    sent = steady.stop()
    began, back = time.monotonic(), {}
    for name, forwarder in [("database", to_database), ("broker", to_broker), ("hub", to_hub),
                            ("measured", to_measured), ("well", to_well)]:
        machine.settled(forwarder, 2 * sent, deadline_s=max(60, 1.5 * outage_s))
        back[name] = round(time.monotonic() - began, 1)
        counts = machine.accounting(forwarder)
        assert (counts["sent"], counts["expired_records"]) == (2 * sent, 0), counts
        wait_until("the alarm's end",
                   lambda: not (machine.alarm(forwarder) or {"active": False})["active"])

    expected = [machine.start + step * 100 for step in range(sent)]
    for measurement, scale in [("m_a", 1), ("m_b", 4)]:
        def read_back():
            series = database.series(measurement)
            return series if series and len(series["values"]) >= sent else None
        series = wait_until(f"{sent} values of {measurement}", read_back)
        assert series["timestamps"] == expected
        assert series["values"] == [step / scale for step in range(sent)]

    def arrived():
        times = [json.loads(body)["ts"] for _, body in broker.messages()]
        return times if set(times) >= set(expected) else None
    times = wait_until("all messages", arrived)
    assert list(dict.fromkeys(times)) == expected, "each at least once, and in order"
    again = len(times) - len(expected)

    times = [json.loads(body)["ts"] for _, body in hub.messages]
    assert list(dict.fromkeys(times)) == expected, "each at least once, and in order"
    again += len(times) - len(expected)
    found = {}
    for _, _, body in measured.taken():
        for series, values in measurements(body).items():
            found.setdefault(series, []).extend(float(value) for _, _, value in values)
    assert sorted(found) == ["pump$a", "pump$b"], found.keys()
    for series, scale in [("pump$a", 1), ("pump$b", 4)]:
        values = list(dict.fromkeys(found[series]))
        assert values == [step / scale for step in range(sent)], series
        again += len(found[series]) - len(values)

    print(f"down {was_down:.0f} s, {sent} values of each of 2 series; caught up after {back} s; "
          f"{again} messages or values twice; lag of the other before {before.middle()} ms "
          f"(worst {before.worst()}), during {during.middle()} ms (worst {during.worst()})")
    # It gathers for a fifth of a second before it sends; the machine has its moments.
    assert during.middle() <= before.middle() + 250
    assert during.worst() <= before.worst() + 2_000
    machine.stop()
    broker.stop()
    database.stop()
    well.stop()
    measured.stop()
