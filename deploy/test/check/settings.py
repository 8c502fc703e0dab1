"""Configurations that are shipped, asked of the binary itself."""

import os
import shutil
import tempfile
from pathlib import Path

BINARY = os.environ["BAKEN_BIN"]
# Any certificates do where a file of authorities is read.
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


def check(report, path, variables=None):
    """That the binary takes a configuration; where it names secrets, files stand in for them."""
    if not report.that(Path(BINARY).exists(), f"{BINARY} is missing: `make release`, or name one by BAKEN_BIN"):
        return
    with tempfile.TemporaryDirectory() as folder:
        text = path.read_text()
        if "sslrootcert=" in text:
            if not report.that(AUTHORITIES.exists(), f"{AUTHORITIES} is missing: install ca-certificates"):
                return
            for name in ("store-ca.pem", "kafka-ca.pem"):
                shutil.copy(AUTHORITIES, f"{folder}/{name}")
            text = text.replace("/run/secrets/baken/", f"{folder}/")
        file = Path(folder) / path.name
        file.write_text(text)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BAKEN_")}
        # `config check` looks at the file alone; this also at the variables.
        report.run(
            [BINARY, "config", "show", "--config", file], f"{path.name} with {variables or {}}",
            env={**environment, **(variables or {})},
        )
