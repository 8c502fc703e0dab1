"""Blockbax: bodies equal to those of the vendor's own library."""

import datetime
import decimal
import json

import blockbax_sdk
import requests

from machine import Machine
from recorder import Recorder

ITEMS = [
    {"key": "temp", "data_type": "number", "settings": {"ingestion_id": "{location}$temp"}},
    {"key": "text", "data_type": "text", "settings": {"ingestion_id": "{device}$text"}},
    {"key": "place", "data_type": "json", "settings": {"ingestion_id": "{device}$place"}},
]

NUMBERS = [21.53, 0, -7, 0.1, 1 / 3, 123456789.12345678, 1e-7, 100, 5e15, -0.00000001]


def measurements(body):
    """A body as {ingestion id: [(date, kind, value)]}.

    Numbers are compared by their value: the library writes the smallest with an
    exponent (`1E-7`), which the platform's documentation does not have.
    """
    found = {}
    for series in json.loads(body)["series"]:
        for measurement in series["measurements"]:
            kinds = [(kind, value) for kind, value in measurement.items()
                     if kind != "date" and value is not None]
            assert len(kinds) == 1, measurement
            kind, value = kinds[0]
            if kind == "location":
                value = {name: float(value[name]) for name in ("lat", "lon")}
            if kind == "number":
                value = decimal.Decimal(value)
            found.setdefault(series["ingestionId"], []).append((measurement["date"], kind, value))
    return found


def test_bodies_are_those_of_the_vendor_s_library(baken, monkeypatch):
    platform = Recorder(lambda path, headers, body: (202, b""))
    machine = Machine(baken, "pump")
    settings = {"project_id": "p-1", "url": platform.url}
    forwarder = machine.forwarder("blockbax", settings, {"access_token": "key"}, ITEMS)
    start = machine.start
    for step, number in enumerate(NUMBERS):
        machine.publish(step, {"temp": number})
    machine.publish(0, {"text": "läuft", "place": {"lat": 52.1, "lon": 4.25}})
    machine.settled(forwarder, len(NUMBERS) + 2)
    ours = {}
    for path, headers, body in platform.taken():
        assert path == "/v1/projects/p-1/measurements", path
        assert headers["Authorization"] == "ApiKey key"
        written = [m["number"] for series in json.loads(body)["series"]
                   for m in series["measurements"] if "number" in m]
        assert not any("e" in number.lower() for number in written), written
        for name, values in measurements(body).items():
            ours.setdefault(name, []).extend(values)

    theirs = {}

    def send(session, request, **_):
        theirs.update(measurements(request.body))
        response = requests.Response()
        response.status_code, response._content, response.request = 202, b"{}", request
        return response
    monkeypatch.setattr(requests.Session, "send", send)
    client = blockbax_sdk.HttpClient(access_token="key", project_id="p-1")

    def at(ms):
        return datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc)
    for step, number in enumerate(NUMBERS):
        client.queue_measurement("plant$temp", date=at(start + step), number=number)
    client.queue_measurement("pump$text", date=at(start), text="läuft")
    client.queue_measurement("pump$place", date=at(start), location={"lat": 52.1, "lon": 4.25})
    client.send_measurements()
    assert ours == theirs
    machine.stop()
    platform.stop()
