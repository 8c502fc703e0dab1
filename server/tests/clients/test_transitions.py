"""confluent-kafka: the consumer of docs/transitions.md, as it stands there, on a real broker."""

import pathlib
import re
import subprocess

import paho.mqtt.client as paho
import pytest

from baken import YESTERDAY_MS, Baken, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROFILE = """
name = "Machines"
[[rules]]
key = "hot"
raise.critical = { when = { key = "t", operator = ">", value = 90 } }
raise.major = { when = { key = "t", operator = ">", value = 80 } }
clear = { when = { key = "t", operator = "<", value = 70 } }
"""


@pytest.fixture
def kafka(tmp_path):
    """The address of a broker that ends with the test, however that ends."""
    holder = subprocess.Popen(
        [ROOT / "deploy" / "test-services", "hold", "--only", "kafka", "--dir", tmp_path / "services"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    address = None
    for line in holder.stdout:
        name, _, value = line.strip().partition("=")
        address = value if name == "BAKEN_TEST_KAFKA" else address
        if name == "ready":
            break
    assert address, "no Kafka broker could be started; the lines above say why"
    yield address
    holder.stdin.close()
    holder.wait()


class Enough(Exception):
    pass


def documented():
    """`follow` out of the documentation."""
    text = (ROOT / "docs" / "transitions.md").read_text()
    names = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], names)
    return names["follow"]


def followed(brokers, file, count):
    """The next so many transitions."""
    taken = []

    def handle(transition):
        taken.append(transition)
        if len(taken) == count:
            raise Enough

    with pytest.raises(Enough):
        documented()(brokers, "transitions", file, handle)
    return taken


def test_the_documented_consumer_gets_each_transition_once(kafka, tmp_path):
    journal = f"kafka://{kafka}/it?partitions=2&replication_factor=1&min_insync_replicas=1"
    baken = Baken(tmp_path, ["--journal", journal, "--set", "alarms.transitions_topic=transitions"])
    router = baken.router("press")
    baken.post_text(f"/alarm-profiles?tenant={router['tenant']}", "application/toml", PROFILE)
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="press")
    client.username_pw_set(router["token"])
    client.connect(baken.mqtt_host, baken.mqtt_port)
    client.loop_start()
    for second, value in enumerate([85, 95, 60]):
        payload = '{"ts":%d,"values":{"t":%d}}' % (YESTERDAY_MS + second * 1_000, value)
        client.publish("v1/devices/me/telemetry", payload, qos=1).wait_for_publish(60)
    kinds = "alarm_raised,alarm_severity_changed,alarm_cleared"
    of_rule = lambda: [it for it in baken.call("GET", f"/events?order=asc&kind={kinds}")["items"]
                       if it["body"]["rule"] == "hot"]
    shown = wait_until("the alarm's end", lambda: len(of_rule()) == 3 and of_rule())
    all_shown = baken.call("GET", "/events?order=asc&limit=1000")["items"]
    shown_ids = {it["id"] for it in all_shown if it["kind"].startswith("alarm_")}

    file = tmp_path / "places.db"
    # It is broken off while it handles the second one, and begins anew.
    first = followed(kafka, file, 2)
    rest = followed(kafka, file, len(shown_ids) - 1)
    assert rest[0] == first[1], "what was not handled to its end comes again"
    taken = first[:1] + rest
    assert len({it["id"] for it in taken}) == len(taken)
    hot = [it for it in taken if it["body"]["rule"] == "hot"]
    assert [it["kind"] for it in hot] == kinds.split(",")
    assert hot == [{"schema": 1, **it} for it in shown]
    client.loop_stop()
    baken.stop()
