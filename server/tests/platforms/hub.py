"""An Azure IoT Hub as far as a device sees one: it checks the token's signature
with the device's key, ends the connection when the token's time is over, and
takes messages at the device's own topic with a bag of properties only."""

import base64
import hashlib
import hmac
import re
import time
import urllib.parse

from double import Double

BAG = re.compile(r"%24\.mid=[^&/+#]+&%24\.ct=application%2Fjson&%24\.ce=utf-8(&[\w.~%-]+=[\w.~%-]*)*")


class Hub(Double):
    def __init__(self, folder, authority, host, keys):
        self.host, self.keys = host, keys
        self.ahead_s = 0  # how far the hub's clock is ahead
        super().__init__(folder, authority)

    def token(self, client_id, life_s):
        """A token as any client of the device may make it."""
        resource = urllib.parse.quote(f"{self.host}/devices/{client_id}", safe="")
        expires = int(time.time()) + life_s
        signature = urllib.parse.quote(self._signature(client_id, resource, expires), safe="")
        return f"SharedAccessSignature sr={resource}&sig={signature}&se={expires}"

    def user(self, client_id):
        return f"{self.host}/{client_id}/?api-version=2021-04-12"

    def _signature(self, client_id, resource, expires):
        key = base64.b64decode(self.keys[client_id])
        signed = hmac.new(key, f"{resource}\n{expires}".encode(), hashlib.sha256)
        return base64.b64encode(signed.digest()).decode()

    def admits(self, client_id, user, password):
        if user != self.user(client_id) or client_id not in self.keys:
            return 5
        kind, rest = password.split(" ", 1)
        fields = dict(part.split("=", 1) for part in rest.split("&"))
        resource = urllib.parse.quote(f"{self.host}/devices/{client_id}", safe="")
        right = (kind == "SharedAccessSignature" and list(fields) == ["sr", "sig", "se"]
                 and fields["sr"] == resource
                 and urllib.parse.unquote(fields["sig"])
                 == self._signature(client_id, resource, fields["se"])
                 and int(fields["se"]) > time.time() + self.ahead_s)
        return 0 if right else 5

    def lasts(self, client_id, password):
        left = int(password.rsplit("=", 1)[1]) - time.time() - self.ahead_s
        return left if self.ends_after is None else min(left, self.ends_after)

    def wrong_topic(self, client_id, topic):
        base = f"devices/{client_id}/messages/events/"
        if not topic.startswith(base) or not BAG.fullmatch(topic[len(base):]):
            return f"the topic {topic}"
        return None
