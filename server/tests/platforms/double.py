"""An MQTT 3.1.1 platform over TLS, as far as a device sees one. It keeps the
rules that AWS IoT Core and Azure IoT Hub share, and writes down who broke one:
one connection of a client id at a time, no QoS 2, no retained or duplicate
publishes, packet identifiers that are free, sizes. Each platform adds its own in
a subclass."""

import asyncio
import collections
import ssl
import threading
import time


class Double:
    max_bytes = 256 * 1024
    alpn = None  # the protocol that must be named in the TLS handshake

    def __init__(self, folder, authority, client_certificates=False):
        certificate, key, ca = authority.files(folder, "localhost")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        if client_certificates:
            self.context.load_verify_locations(ca)
            self.context.verify_mode = ssl.CERT_REQUIRED
        if self.alpn:
            self.context.set_alpn_protocols([self.alpn])
        self.server_names = []
        self.context.sni_callback = lambda _socket, name, _context: self.server_names.append(name)
        self.connects, self.messages, self.refused = [], [], []
        self.connected_at = collections.defaultdict(list)  # by client id
        self.violations = []  # rules that were broken, in words
        self.takeovers = 0
        self.expired = 0  # connections that were ended because their time was over
        self.left = 0  # connections that the client ended in order
        self.discarded = 0
        self.ends_after = None  # seconds that a connection may last
        self.silent = False  # takes messages and acknowledges none
        self.published_at = []
        self.writers = {}
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self.thread.start()
        assert ready.wait(10)

    # What a platform adds.

    def admits(self, client_id, user, password):
        """The code of the answer to a CONNECT; 0 lets it in."""
        return 0

    def lasts(self, client_id, password):
        """How long a connection may last, in seconds; None for ever."""
        return self.ends_after

    def wrong_topic(self, client_id, topic):
        """What is wrong with a topic, in words."""
        return None

    def discards(self, recent):
        """Whether a publish is discarded; `recent` are those of its connection within a second."""
        return False

    # What all have in common.

    def _run(self, ready):
        asyncio.set_event_loop(self.loop)

        self.port = 0
        self.loop.run_until_complete(self._listen())
        ready.set()
        self.loop.run_forever()

    async def _listen(self):
        self.server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, ssl=self.context)
        self.port = self.server.sockets[0].getsockname()[1]

    def end(self):
        """Is gone without a word, until `start`."""
        self.loop.call_soon_threadsafe(self.server.close)
        for writer in list(self.writers.values()):
            self.loop.call_soon_threadsafe(writer.transport.abort)

    def start(self):
        asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result(10)

    def close_all(self):
        for writer in list(self.writers.values()):
            self.loop.call_soon_threadsafe(writer.close)

    def most_in_a_second(self):
        """The most publishes that came within any second."""
        most, begin = 0, 0
        for end, at in enumerate(self.published_at):
            while at - self.published_at[begin] >= 1:
                begin += 1
            most = max(most, end - begin + 1)
        return most

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
        named = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        if named != self.alpn:
            self.refused.append(f"the protocol {named}")
            return
        head, body = await self._packet(reader)
        assert head == 0x10 and body[:7] == b"\x00\x04MQTT\x04", body
        flags, fields, at = body[7], [], 10
        while at < len(body):
            size = int.from_bytes(body[at:at + 2], "big")
            fields.append(body[at + 2:at + 2 + size].decode())
            at += 2 + size
        client_id = fields.pop(0)
        user = fields.pop(0) if flags & 0x80 else None
        password = fields.pop(0) if flags & 0x40 else None
        self.connects.append((client_id, user, password))
        code = self.admits(client_id, user, password)
        if code is None:  # closes without a word
            self.refused.append(client_id)
            return
        writer.write(bytes([0x20, 2, 0, code]))
        if code:
            self.refused.append(client_id)
            return
        self.connected_at[client_id].append(time.monotonic())
        if client_id in self.writers:
            self.takeovers += 1
            self.writers[client_id].close()
        self.writers[client_id] = writer
        try:
            lasts = self.lasts(client_id, password)
            await asyncio.wait_for(self._messages(client_id, reader, writer), lasts)
        except asyncio.TimeoutError:
            self.expired += 1
        finally:
            if self.writers.get(client_id) is writer:
                del self.writers[client_id]

    async def _messages(self, client_id, reader, writer):
        recent, unanswered = collections.deque(), set()
        while True:
            head, body = await self._packet(reader)
            kind = head >> 4
            if kind == 3:
                problem = self._publish(client_id, head, body, recent, unanswered, writer)
                if problem:
                    self.violations.append(f"{client_id}: {problem}")
                    return
            elif kind == 12:
                writer.write(b"\xd0\x00")
            elif kind == 14:
                self.left += 1
                return
            else:
                self.violations.append(f"{client_id}: a packet of the kind {kind}")
                return

    def _publish(self, client_id, head, body, recent, unanswered, writer):
        """Takes a publish, or says what is wrong with it; then the connection ends."""
        qos = head >> 1 & 3
        if qos > 1:
            return "QoS 2"
        if head & 9:
            return "a retained or duplicate publish"
        if len(body) > self.max_bytes:
            return f"{len(body)} bytes"
        size = int.from_bytes(body[:2], "big")
        topic, packet, text = body[2:2 + size].decode(), b"", body[2 + size:]
        problem = self.wrong_topic(client_id, topic)
        if problem:
            return problem
        if qos == 1:
            packet, text = text[:2], text[2:]
            if packet == b"\0\0" or packet in unanswered:
                return f"the packet identifier {packet.hex()} is not free"
        now = time.monotonic()
        self.published_at.append(now)
        recent.append(now)
        while now - recent[0] >= 1:
            recent.popleft()
        if self.discards(len(recent)):
            self.discarded += 1
            unanswered.add(packet)
            return None
        self.messages.append((topic, text.decode()))
        if qos == 1 and not self.silent:
            writer.write(b"\x40\x02" + packet)
        elif qos == 1:
            unanswered.add(packet)
        return None
