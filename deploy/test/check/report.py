"""What is wrong, gathered, so that one run tells all of it."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"


class Report:
    def __init__(self):
        self.passed = 0
        self.failures = []
        self.not_here = []

    def that(self, is_so, what):
        """Counts a fact that must hold; `what` says what is wrong where it does not."""
        if is_so:
            self.passed += 1
        elif what not in self.failures:
            self.failures.append(what)
            print(f"  FAILED  {what}")
        return bool(is_so)

    def not_checked(self, what):
        """Only for what is tried beside a check that has been made anyway."""
        self.not_here.append(what)

    def needs(self, tool, package):
        """Whether a tool is there; it must be."""
        return self.that(shutil.which(tool), f"{tool} is missing: install Debian's {package}")

    def run(self, command, what, **more):
        """Runs a command that must succeed, and gives all that it said."""
        done = subprocess.run(
            [str(word) for word in command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, **more,
        )
        self.that(done.returncode == 0, f"{what}:\n{done.stdout.strip()}")
        return done.stdout
