"""VictoriaMetrics, which takes InfluxDB's write API and gives back what it has."""

import atexit
import json
import subprocess
import urllib.parse
import urllib.request

from baken import wait_until


class Victoria:
    def __init__(self, folder, port):
        self.folder, self.port = folder, port
        self.url = f"http://127.0.0.1:{port}"
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["victoria-metrics", f"-httpListenAddr=127.0.0.1:{self.port}",
             f"-storageDataPath={self.folder}", "-retentionPeriod=100y"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Also where a test fails before it has ended it.
        atexit.register(self.process.kill)
        wait_until("victoria-metrics", self._alive)

    def _alive(self):
        try:
            return urllib.request.urlopen(f"{self.url}/health", timeout=5).status == 200
        except OSError:
            return False

    def series(self, name):
        """The one series of a name; none until there is one."""
        match = urllib.parse.quote(f'{{__name__="{name}"}}')
        with urllib.request.urlopen(f"{self.url}/api/v1/export?match[]={match}", timeout=30) as answer:
            series = [json.loads(line) for line in answer.read().splitlines()]
        assert len(series) <= 1, series
        return series[0] if series else None

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
