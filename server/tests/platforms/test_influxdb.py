"""InfluxDB: lines read by an independent parser, and read back from a server
that speaks its write API."""

import json
import subprocess
import urllib.parse
import urllib.request

from line_protocol_parser import parse_line

from baken import wait_until
from machine import Machine
from recorder import Recorder

ITEMS = [
    {"key": "temperature", "data_type": "number", "settings": {"measurement": "climate"}},
    {"key": "count", "data_type": "integer", "settings": {"measurement": "climate"}},
    {"key": "on", "data_type": "boolean", "settings": {"measurement": "a b,c=d"}},
    {"key": "say", "data_type": "text", "settings": {"measurement": "climate", "field": "what \"it\", says"}},
]


def test_lines_say_to_another_parser_what_was_measured(baken):
    platform = Recorder()
    machine = Machine(baken, "pump, no=1 \\")
    settings = {"url": platform.url, "bucket": "b", "org": "o", "tags": {"site type": "a,b=c"}}
    forwarder = machine.forwarder("influxdb", settings, {"token": "t"}, ITEMS)
    text = 'say "x" \\ and, = läuft'
    machine.publish(123, {"temperature": -0.5, "count": "7", "on": 1, "say": text})
    machine.settled(forwarder, 4)
    path, headers, _ = platform.taken()[0]
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
    assert query == {"org": ["o"], "bucket": ["b"], "precision": ["ms"]}
    assert headers["Authorization"] == "Token t"
    found = {}
    for _, _, body in platform.taken():
        for line in body.decode().splitlines():
            point = parse_line(line)
            assert point["time"] == machine.start + 123, point
            assert point["tags"] == {
                "device": "pump, no=1 /", "location": "plant", "site type": "a,b=c"}, point
            found.update({(point["measurement"], key): value
                          for key, value in point["fields"].items()})
    assert found == {
        ("climate", "temperature"): -0.5, ("climate", "count"): 7,
        ("a b,c=d", "on"): True, ("climate", 'what "it", says'): text}, found
    machine.stop()
    platform.stop()


def test_a_server_that_speaks_the_write_api_gives_all_back(baken, tmp_path, free_port):
    port = free_port()
    server = subprocess.Popen(
        ["victoria-metrics", f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={tmp_path}/vm",
         "-retentionPeriod=100y"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def alive():
        try:
            return urllib.request.urlopen(f"{url}/health", timeout=5).status == 200
        except OSError:
            return False
    wait_until("victoria-metrics", alive)
    machine = Machine(baken, "pump")
    forwarder = machine.forwarder("influxdb", {"url": url, "bucket": "b"}, {"token": "t"}, ITEMS[:1])
    assert machine.test(forwarder)["ok"]
    sent = {step * 1000: step / 4 for step in range(300)}
    for at, value in sent.items():
        machine.publish(at, {"temperature": value})
    machine.settled(forwarder, 300)

    def read_back():
        match = urllib.parse.quote('{__name__="climate_temperature"}')
        with urllib.request.urlopen(f"{url}/api/v1/export?match[]={match}", timeout=30) as answer:
            series = [json.loads(line) for line in answer.read().splitlines()]
        if len(series) != 1 or len(series[0]["values"]) != 300:
            return None
        return series[0]
    series = wait_until("300 values", read_back)
    found = dict(zip(series["timestamps"], series["values"]))
    assert found == {machine.start + at: value for at, value in sent.items()}
    assert series["metric"]["device"] == "pump" and series["metric"]["location"] == "plant"
    machine.stop()
    server.terminate()
    server.wait(10)
