"""The unit: that systemd takes it, and that what it promises is kept."""

import re
import tempfile
from pathlib import Path

import settings
from report import DEPLOY

FOLDER = DEPLOY / "systemd"
# In tenths of systemd's figure for how exposed a service is: 1.4 when this was written.
EXPOSURE = "20"


def check(report):
    settings.check(report, FOLDER / "baken.toml")
    environment = [
        line.partition("=") for line in (FOLDER / "baken.env").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    settings.check(report, FOLDER / "baken.toml", {name: value for name, _, value in environment})
    if not report.needs("systemd-analyze", "systemd"):
        return
    unit = (FOLDER / "baken.service").read_text()
    with tempfile.TemporaryDirectory() as folder:
        # A program that is there, in the place of the one that is not installed.
        copy = Path(folder) / "baken.service"
        copy.write_text(unit.replace("/usr/bin/baken ", f"{Path(settings.BINARY).resolve()} "))
        said = report.run(["systemd-analyze", "verify", "--man=no", copy], "systemd refuses the unit")
        # It only warns of what it does not know.
        about = [line for line in said.splitlines() if "baken.service" in line]
        report.that(not about, "systemd says of the unit:\n" + "\n".join(about))
        report.run(
            ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", copy],
            "the unit is more exposed than it was",
        )
    stop = re.search(r"^TimeoutStopSec=(\d+)min$", unit, re.M)
    own = re.search(r"^shutdown_timeout_ms = (\d+)$", (FOLDER / "baken.toml").read_text(), re.M)
    report.that(
        stop and own and int(stop[1]) * 60_000 > int(own[1]),
        "baken.service kills the node before its own time to stop is over",
    )
