"""A router that publishes, and the forwarder of its location."""

import json
import time

import paho.mqtt.client as mqtt

from baken import DEADLINE_S, wait_until


# Counterparts and doubles stand on this machine.
OWN_MACHINE = ("--set", "forwarders.allowed_networks=127.0.0.0/8,::1")


class Machine:
    def __init__(self, baken, name):
        self.baken = baken
        self.router = baken.router(name)
        self.start = int(time.time() * 1000) - 3_600_000
        self.client = mqtt.Client(client_id=name)
        self.client.username_pw_set(self.router["token"])
        self.client.connect(baken.mqtt_host, baken.mqtt_port)
        self.client.loop_start()

    def publish(self, ts, values):
        """`ts` counts from a time of today, in milliseconds."""
        self.offer(ts, values).wait_for_publish(30)

    def offer(self, ts, values):
        """As `publish`, without waiting for the acknowledgement."""
        body = json.dumps({"ts": ts + self.start, "values": values})
        return self.client.publish("v1/devices/me/telemetry", body, qos=1)

    def stop(self):
        self.client.loop_stop()
        self.client.disconnect()

    def forwarder(self, platform, settings, secrets, items=(), **more):
        return self.baken.call("POST", "/forwarders", {
            "tenant": self.router["tenant"], "name": f"to {platform} {time.monotonic_ns()}",
            "scope": {"location": self.router["location"]}, "platform": platform,
            "settings": settings, "secrets": secrets, "items": list(items), **more})

    def state(self, forwarder):
        return self.baken.call("GET", f"/forwarders/{forwarder['id']}")

    def stands(self, forwarder, state):
        def probe():
            found = self.state(forwarder)
            return found if found["state"] == state else None
        return wait_until(f"a forwarder that is {state}", probe)

    def accounting(self, forwarder):
        found = self.baken.call("GET", f"/forwarders/{forwarder['id']}/accounting")
        others = (found["sent"] + sum(found["suppressed"].values()) + found["in_flight"]
                  + found["queued"] + found["dead_letters"] + sum(found["dropped"].values()))
        assert found["selected"] == others, found
        return found

    def settled(self, forwarder, selected, deadline_s=DEADLINE_S):
        found = {}

        def probe():
            found.update(self.accounting(forwarder))
            return found["selected"] >= selected and found["in_flight"] + found["queued"] == 0
        try:
            wait_until(f"{selected} readings to be dealt with", probe, deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; {found}; {self.state(forwarder)}") from error
        return found

    def alarm(self, forwarder):
        """The newest alarm that the forwarder is in trouble."""
        rule = f"forwarder_failing/{forwarder['id']}"
        found = [alarm for alarm in self.baken.call("GET", "/alarms?limit=1000")["items"]
                 if alarm["rule"] == rule]
        return max(found, key=lambda alarm: alarm["raised"]["at"], default=None)

    def test(self, forwarder):
        return self.baken.call("POST", f"/forwarders/{forwarder['id']}/test")
