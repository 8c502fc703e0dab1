"""Another client that wants to be the same device, and comes back whenever it is
thrown out."""

import pathlib
import ssl
import tempfile

import paho.mqtt.client as mqtt


class Rival:
    def __init__(self, double, authority, client_id, every_s=1):
        self.connects = 0
        self.client = mqtt.Client(client_id=client_id)
        self.client.tls_set_context(self._context(double, authority, client_id))
        if hasattr(double, "token"):
            self.client.username_pw_set(double.user(client_id), double.token(client_id, 3_600))
        self.client.on_connect = self._on_connect
        self.client.reconnect_delay_set(every_s, every_s)
        self.client.connect("localhost", double.port)
        self.client.loop_start()

    def _context(self, double, authority, client_id):
        context = ssl.create_default_context(cadata=authority.pem)
        if double.context.verify_mode == ssl.CERT_REQUIRED:
            with tempfile.TemporaryDirectory() as folder:
                certificate, key, _ = authority.files(pathlib.Path(folder), client_id)
                context.load_cert_chain(certificate, key)
        return context

    def _on_connect(self, *_):
        self.connects += 1

    def stop(self):
        self.client.loop_stop()
        self.client.disconnect()
