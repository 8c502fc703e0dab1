"""An HTTP server that keeps what it is asked and answers as it is told."""

import gzip
import http.server
import threading


class Recorder:
    """`answer(path, headers, body)` gives a status and a body."""

    def __init__(self, answer=lambda path, headers, body: (204, b"")):
        self.requests, self.lock, self.answer = [], threading.Lock(), answer
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                # A connection from before that it was stopped ends with it.
                if outer.is_stopped:
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                status, text = outer.answer(self.path, self.headers, body)
                if status < 300:
                    with outer.lock:
                        headers = {name.title(): value for name, value in self.headers.items()}
                        outer.requests.append((self.path, headers, body))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.handler, self.port = Handler, 0
        self.start()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self):
        self.is_stopped = False
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), self.handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def taken(self):
        with self.lock:
            return list(self.requests)

    def stop(self):
        self.is_stopped = True
        self.server.shutdown()
        self.server.server_close()
