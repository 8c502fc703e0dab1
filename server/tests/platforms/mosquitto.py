"""mosquitto with TLS that asks for client certificates, and an ACL: a rule for
each common name."""

import atexit
import socket
import subprocess
import threading

import paho.mqtt.client as mqtt

from baken import wait_until


class Mosquitto:
    def __init__(self, folder, authority, port, acl):
        folder.mkdir(exist_ok=True)
        certificate, key, ca = authority.files(folder, "localhost")
        self.port = port
        folder.chmod(0o755)
        self.config = folder / "mosquitto.conf"
        # What the watcher has not seen is kept while it, or the broker, is away.
        self.config.write_text(
            f"listener {port} 127.0.0.1\ncafile {ca}\ncertfile {certificate}\nkeyfile {key}\n"
            f"require_certificate true\nuse_identity_as_username true\n"
            f"acl_file {folder / 'acl'}\nuser root\nmax_inflight_messages 200\n"
            f"persistence true\npersistence_location {folder}/\nmax_queued_messages 0\n")
        rules = [*acl.items(), ("watcher", "topic read #")]
        (folder / "acl").write_text("".join(f"user {name}\n{rule}\n\n" for name, rule in rules))
        self.log = open(folder / "mosquitto.txt", "ab")
        watcher, watcher_key, _ = authority.files(folder, "watcher")
        self.received, self.lock = [], threading.Lock()
        self.client = mqtt.Client(client_id="watcher", clean_session=False)
        self.client.tls_set(str(ca), str(watcher), str(watcher_key))
        self.client.reconnect_delay_set(1, 1)
        self.client.on_message = self._on_message
        subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.start()
        self.client.connect("localhost", port)
        self.client.loop_start()
        self.client.subscribe("#", qos=1)
        assert subscribed.wait(10)

    def start(self):
        self.process = subprocess.Popen(["mosquitto", "-c", str(self.config)],
                                        stdout=self.log, stderr=subprocess.STDOUT)
        # Also where a test fails before it has ended it.
        atexit.register(self.process.kill)

        def listens():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0
        wait_until("mosquitto", listens)

    def end(self):
        """Ends the broker's process; the watcher waits for its return."""
        self.process.terminate()
        self.process.wait(10)

    def _on_message(self, _client, _data, message):
        with self.lock:
            self.received.append((message.topic, message.payload.decode()))

    def messages(self):
        with self.lock:
            return list(self.received)

    def stop(self):
        self.client.loop_stop()
        self.client.disconnect()
        self.end()
        self.log.close()
