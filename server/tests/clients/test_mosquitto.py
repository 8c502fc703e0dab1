"""mosquitto_pub and mosquitto_sub, as Debian packages them."""

import json
import subprocess

import pytest

from baken import YESTERDAY_MS, wait_until


def connection(baken, token, version):
    return ["-h", baken.mqtt_host, "-p", str(baken.mqtt_port), "-u", token, "-V", version]


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_publishes_are_read_back_equal(baken, version):
    router = baken.router(f"mosquitto {version}")
    publish = ["mosquitto_pub", *connection(baken, router["token"], version), "-q", "1",
               "-t", "v1/devices/me/telemetry"]
    payload = {"number": 21.5, "integer": -7, "flag": True, "text": "läuft", "nested": {"a": [1, 2]}}
    subprocess.run([*publish, "-m", json.dumps(payload)], check=True, timeout=30)
    baken.await_latest(router["device"], payload)
    subprocess.run([*publish, "-m", json.dumps({"ts": YESTERDAY_MS, "values": {"old": 1}})],
                   check=True, timeout=30)
    baken.await_latest(router["device"], {"old": 1})
    assert baken.readings(router["device"], "old") == [(YESTERDAY_MS, 1)]


def test_many_lines_arrive_each_once(baken):
    router = baken.router("mosquitto lines")
    lines = "".join(
        json.dumps({"ts": YESTERDAY_MS + n, "values": {"n": n}}) + "\n" for n in range(500))
    subprocess.run(["mosquitto_pub", *connection(baken, router["token"], "mqttv311"), "-q", "1",
                    "-t", "v1/devices/me/telemetry", "-l"], input=lines.encode(), check=True, timeout=60)
    wait_until("500 readings", lambda: len(baken.readings(router["device"], "n")) == 500)
    assert baken.readings(router["device"], "n") == [(YESTERDAY_MS + n, n) for n in range(500)]


def test_a_wrong_token_is_told_so(baken):
    result = subprocess.run(["mosquitto_pub", *connection(baken, "no-such-token", "mqttv311"), "-q", "1",
                             "-t", "v1/devices/me/telemetry", "-m", "{}"], capture_output=True, timeout=30)
    assert result.returncode == 5, result
    assert b"not authorised" in result.stderr.lower(), result.stderr


def test_shared_attributes_are_pushed_to_a_subscriber(baken):
    router = baken.router("mosquitto subscriber")
    subscriber = subprocess.Popen(
        ["mosquitto_sub", *connection(baken, router["token"], "mqttv311"), "-q", "1",
         "-t", "v1/devices/me/attributes", "-C", "1", "-W", "30"], stdout=subprocess.PIPE, text=True)
    baken.set_shared(router["device"], {"interval_s": 30})
    assert subscriber.wait(timeout=60) == 0
    assert json.loads(subscriber.stdout.read()) == {"interval_s": 30}
