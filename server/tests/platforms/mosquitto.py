"""mosquitto with TLS that asks for client certificates, and an ACL: a rule for
each common name."""

import subprocess
import threading

import paho.mqtt.client as mqtt

from baken import wait_until


class Mosquitto:
    def __init__(self, folder, authority, port, acl):
        certificate, key, ca = authority.files(folder, "localhost")
        self.port = port
        folder.chmod(0o755)
        config = folder / "mosquitto.conf"
        config.write_text(
            f"listener {port} 127.0.0.1\ncafile {ca}\ncertfile {certificate}\nkeyfile {key}\n"
            f"require_certificate true\nuse_identity_as_username true\n"
            f"acl_file {folder / 'acl'}\nuser root\nmax_inflight_messages 200\n")
        rules = [*acl.items(), ("watcher", "topic read #")]
        (folder / "acl").write_text("".join(f"user {name}\n{rule}\n\n" for name, rule in rules))
        self.log = open(folder / "mosquitto.txt", "wb")
        self.process = subprocess.Popen(["mosquitto", "-c", str(config)],
                                        stdout=self.log, stderr=subprocess.STDOUT)
        watcher, watcher_key, _ = authority.files(folder, "watcher")
        self.received, self.lock = [], threading.Lock()
        self.client = mqtt.Client(client_id="watcher")
        self.client.tls_set(str(ca), str(watcher), str(watcher_key))
        self.client.on_message = self._on_message
        subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: subscribed.set()

        def connect():
            try:
                return self.client.connect("localhost", port) == 0
            except OSError:
                return False
        wait_until("mosquitto", connect)
        self.client.loop_start()
        self.client.subscribe("#", qos=1)
        assert subscribed.wait(10)

    def _on_message(self, _client, _data, message):
        with self.lock:
            self.received.append((message.topic, message.payload.decode()))

    def messages(self):
        with self.lock:
            return list(self.received)

    def stop(self):
        self.client.loop_stop()
        self.client.disconnect()
        self.process.terminate()
        self.process.wait(10)
        self.log.close()
