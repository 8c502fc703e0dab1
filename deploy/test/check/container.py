"""The image's recipe: that what it takes is sent to the builder, and nothing else."""

import re
import tomllib

from report import DEPLOY, ROOT


def check(report):
    recipe = (DEPLOY / "container/Containerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    lines = [line for line in ignored if line and not line.startswith("#")]
    report.that(lines[0] == "*", ".dockerignore lets through what it does not name")
    taken = {line[1:] for line in lines if line.startswith("!")}
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]
    needed = {member.split("/")[0] for member in workspace["members"]} | {"Cargo.toml", "Cargo.lock", ".cargo"}
    for name in sorted(needed):
        report.that(name in taken, f".dockerignore keeps {name} from the builder")
    for name in sorted(taken):
        report.that((ROOT / name).exists(), f".dockerignore names {name}, which is not there")
    for line in re.findall(r"^COPY (?!--from)(?:--\S+ )*(\S+) ", recipe, re.M):
        report.that((ROOT / line).exists(), f"the Containerfile copies {line}, which is not there")
        report.that(line == "." or line in taken, f".dockerignore keeps {line} from the builder")
    version = workspace["package"]["rust-version"]
    report.that(f"rust:{version}-" in recipe, f"the Containerfile builds with another Rust than {version}")
    user = re.findall(r"^USER (\S+)$", recipe, re.M)
    report.that(user and re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", user[-1]), "the image runs as root")
    report.run(["bash", "-n", DEPLOY / "container/healthy"], "the health check is no script")
