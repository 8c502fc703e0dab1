"""deploy/check: everything that deploys and watches Baken, checked without running it.

All that is wrong is told in one run. What a check needs must be there: nothing passes for want of a tool.
"""

import sys

import compose
import container
import grafana
import kubernetes
import metrics
import prometheus
import systemd
from report import Report

PARTS = {
    "systemd": lambda report, known: systemd.check(report),
    "container": lambda report, known: container.check(report),
    "compose": lambda report, known: compose.check(report),
    "kubernetes": kubernetes.check,
    "prometheus": prometheus.check,
    "grafana": grafana.check,
}


def main(wanted):
    unknown = set(wanted) - set(PARTS)
    if unknown:
        sys.exit(f"deploy/check: there is no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    report = Report()
    known = metrics.registered()
    # Fewer would say that the names are not found any more, and not that there are fewer.
    report.that(len(known) > 150, f"only {len(known)} metrics were found in the sources")
    for name, part in PARTS.items():
        if not wanted or name in wanted:
            print(f"{name}:")
            part(report, known)
    for what in report.not_here:
        print(f"not checked: {what}")
    print(f"{report.passed} passed, {len(report.failures)} failed")
    sys.exit(1 if report.failures else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
