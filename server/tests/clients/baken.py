"""Starts a real `baken serve` and speaks its HTTP API, for the client tests."""

import json
import os
import pathlib
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

DEADLINE_S = 60

# A time that the device tells, within every tenant's retention; whole seconds.
YESTERDAY_MS = (int(time.time()) - 86_400) * 1_000


def wait_until(what, probe, deadline_s=DEADLINE_S):
    """The first truthy answer of `probe`; fails loudly, naming `what`, when none comes."""
    end = time.monotonic() + deadline_s
    last = None
    while time.monotonic() < end:
        last = probe()
        if last:
            return last
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come within {deadline_s} s; last answer: {last!r}")


class Baken:
    """One server with a data folder of its own, on free ports."""

    def __init__(self, folder: pathlib.Path, options=()):
        self.folder = folder
        self.output = open(folder / "server.txt", "wb")
        ready = folder / "ready.json"
        self.process = subprocess.Popen(
            [os.environ["BAKEN_BIN"], "serve", "--data", str(folder / "data"),
             "--mqtt-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0",
             "--ready-file", str(ready), *options],
            stdout=self.output, stderr=subprocess.STDOUT)
        wait_until("the server's ready file", lambda: ready.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, (folder / "server.txt").read_text()
        addresses = json.loads(ready.read_text())
        self.mqtt_host, port = addresses["mqtt"].rsplit(":", 1)
        self.mqtt_port = int(port)
        self.url = addresses["api"]
        self.token = (folder / "data" / "admin-token").read_text().strip()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=DEADLINE_S)
        self.output.close()
        assert code == 0, (self.folder / "server.txt").read_text()

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        return self._ask(method, path, data, "application/json")

    def post_text(self, path, media, text):
        return self._ask("POST", path, text.encode(), media)

    def _ask(self, method, path, data, media):
        request = urllib.request.Request(
            f"{self.url}/api/v1{path}", method=method, data=data,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": media})
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
                text = answer.read()
                return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from error

    def router(self, name, credentials=None):
        """A router of a new tenant and location; its document, with the token."""
        tenant = self.call("POST", "/tenants", {"name": f"tenant of {name}"})
        location = self.call("POST", "/locations", {"tenant": tenant["id"], "name": "plant"})
        return self.call("POST", "/routers", {
            "location": location["id"], "name": name,
            "credentials": credentials or {"type": "access_token"}})

    def latest(self, device):
        """Latest readings as {key: value}."""
        answer = self.call("GET", f"/devices/{device}/telemetry/latest")
        return {key: reading["value"] for key, reading in answer["readings"].items()}

    def readings(self, device, key):
        """All readings of a key as [(ts, value)], oldest first."""
        query = urllib.parse.urlencode({"key": key, "from": 0, "to": 2**52, "order": "asc", "limit": 1000})
        answer = self.call("GET", f"/devices/{device}/telemetry?{query}")
        return [(reading["ts"], reading["value"]) for reading in answer["readings"]]

    def attributes(self, device, scope):
        answer = self.call("GET", f"/devices/{device}/attributes/{scope}")
        return {key: entry["value"] for key, entry in answer["attributes"].items()}

    def set_shared(self, device, values):
        self.call("PATCH", f"/devices/{device}/attributes/shared", values)

    def device_named(self, router, name):
        """The id of the device `name` behind a router, once it is known."""
        def find():
            query = urllib.parse.urlencode({"router": router["id"], "name": name})
            items = self.call("GET", f"/devices?{query}")["items"]
            return [item["id"] for item in items if item["name"] == name]
        return wait_until(f"device {name!r}", find)[0]

    def await_latest(self, device, expected):
        """Waits until the latest readings hold at least `expected`."""
        seen = {}

        def probe():
            seen.clear()
            seen.update(self.latest(device))
            return expected.items() <= seen.items()
        try:
            wait_until(f"latest readings {expected!r}", probe)
        except AssertionError as error:
            raise AssertionError(f"{error}; the device has {seen!r}") from error
