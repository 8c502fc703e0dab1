"""An IoT Hub as far as a device sees one: MQTT 3.1.1 over TLS that checks the
token's signature and expiry, throws the older of two connections out, closes at
QoS 2 and at messages over 256 KB."""

import asyncio
import base64
import hashlib
import hmac
import ssl
import threading
import time
import urllib.parse


class Hub:
    def __init__(self, folder, authority, host, keys):
        certificate, key, _ = authority.files(folder, "localhost")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.host, self.keys = host, keys
        self.connects, self.messages, self.refused, self.takeovers = [], [], [], 0
        self.ends_after = None  # seconds that a connection may last
        self.silent = False  # takes messages and acknowledges none
        self.writers = {}
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self.thread.start()
        assert ready.wait(10)

    def _run(self, ready):
        asyncio.set_event_loop(self.loop)

        async def main():
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await server.serve_forever()
        self.loop.run_until_complete(main())

    def close_all(self):
        for writer in list(self.writers.values()):
            self.loop.call_soon_threadsafe(writer.close)

    async def _packet(self, reader):
        head = (await reader.readexactly(1))[0]
        length, shift = 0, 0
        while True:
            byte = (await reader.readexactly(1))[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return head, await reader.readexactly(length)

    async def _serve(self, reader, writer):
        try:
            await self._session(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _session(self, reader, writer):
        head, body = await self._packet(reader)
        assert head == 0x10 and body[:7] == b"\x00\x04MQTT\x04", body
        fields, at = [], 10
        while at < len(body):
            size = int.from_bytes(body[at:at + 2], "big")
            fields.append(body[at + 2:at + 2 + size].decode())
            at += 2 + size
        client_id, user, password = fields
        self.connects.append((client_id, user, password))
        code = 0 if self._admits(client_id, user, password) else 5
        writer.write(bytes([0x20, 2, 0, code]))
        if code:
            self.refused.append(client_id)
            return
        if client_id in self.writers:
            self.takeovers += 1
            self.writers[client_id].close()
        self.writers[client_id] = writer
        try:
            await asyncio.wait_for(self._messages(reader, writer), self.ends_after)
        except asyncio.TimeoutError:
            pass
        finally:
            if self.writers.get(client_id) is writer:
                del self.writers[client_id]

    async def _messages(self, reader, writer):
        while True:
            head, body = await self._packet(reader)
            kind = head >> 4
            if kind == 3:
                qos = head >> 1 & 3
                if qos == 2 or len(body) > 256 * 1024:
                    return
                size = int.from_bytes(body[:2], "big")
                topic, packet = body[2:2 + size].decode(), body[2 + size:4 + size]
                self.messages.append((topic, body[4 + size:].decode()))
                if qos == 1 and not self.silent:
                    writer.write(b"\x40\x02" + packet)
            elif kind == 12:
                writer.write(b"\xd0\x00")
            elif kind == 14:
                return

    def _admits(self, client_id, user, password):
        if user != f"{self.host}/{client_id}/?api-version=2021-04-12":
            return False
        kind, rest = password.split(" ", 1)
        fields = dict(part.split("=", 1) for part in rest.split("&"))
        resource = urllib.parse.quote(f"{self.host}/devices/{client_id}", safe="")
        signed = f"{resource}\n{fields['se']}".encode()
        key = base64.b64decode(self.keys[client_id])
        signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return (kind == "SharedAccessSignature" and fields["sr"] == resource
                and urllib.parse.unquote(fields["sig"]) == signature
                and int(fields["se"]) > time.time())
