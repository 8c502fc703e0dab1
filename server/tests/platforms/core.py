"""AWS IoT Core as far as a device sees it by MQTT: client certificates, one
CONNECT a second of a client id, 128 KB, no more than 100 publishes a second of a
connection (the excess is discarded without a word), and at port 443 a TLS
handshake that names the protocol and the server."""

import time

from double import Double

PUBLISHES_PER_S = 100


class Core(Double):
    max_bytes = 128 * 1024

    def __init__(self, folder, authority, topics):
        self.topics = topics  # what the policy allows
        self.too_soon = 0
        super().__init__(folder, authority, client_certificates=True)

    def admits(self, client_id, user, password):
        last = self.connected_at[client_id][-1:]
        if last and time.monotonic() - last[0] < 1:
            self.too_soon += 1
            return None
        # With a certificate neither is asked for.
        return 0 if user is None and password is None else 5

    def wrong_topic(self, client_id, topic):
        return None if topic.startswith(self.topics) else f"the policy denies {topic}"

    def discards(self, recent):
        return recent > PUBLISHES_PER_S


class CoreAt443(Core):
    alpn = "x-amzn-mqtt-ca"
