"""QuestDB, whose whole server is one archive: it takes InfluxDB's write API with
real types, and is read back by SQL."""

import atexit
import json
import os
import pathlib
import subprocess
import urllib.error
import urllib.parse
import urllib.request

from baken import wait_until

CONF = """\
http.bind.to=127.0.0.1:{port}
http.min.enabled=false
pg.enabled=false
line.tcp.enabled=false
line.udp.enabled=false
telemetry.enabled=false
shared.worker.count=1
"""


class QuestDb:
    def __init__(self, folder: pathlib.Path, port):
        self.url = f"http://127.0.0.1:{port}"
        (folder / "conf").mkdir(parents=True)
        (folder / "conf" / "server.conf").write_text(CONF.format(port=port))
        self.log = open(folder / "questdb.txt", "wb")
        self.process = subprocess.Popen(
            ["java", "-Xmx512m", "--add-exports", "java.base/jdk.internal.math=io.questdb",
             "-p", os.environ["QUESTDB_JAR"], "-m", "io.questdb/io.questdb.ServerMain",
             "-d", str(folder)], stdout=self.log, stderr=subprocess.STDOUT)
        # Also where a test fails before it has ended it.
        atexit.register(self.process.kill)

        def alive():
            assert self.process.poll() is None, (folder / "questdb.txt").read_text()
            try:
                return self.query("select 1")
            except OSError:
                return None
        wait_until("QuestDB", alive)

    def query(self, sql):
        """The rows of an answer as lists; none while there is no such table."""
        query = urllib.parse.urlencode({"query": sql})
        try:
            with urllib.request.urlopen(f"{self.url}/exec?{query}", timeout=30) as answer:
                return json.load(answer)["dataset"]
        except urllib.error.HTTPError as error:
            if "does not exist" in error.read().decode():
                return None
            raise

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()
