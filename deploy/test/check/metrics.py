"""The names of the binary's metrics, out of its sources.

A metric is a name that is registered: a string constant `baken_…` or `process_…` which is given, with
a help text, to whatever makes the metric. So the schema of a database that is called alike is none.
"""

import re

from report import ROOT

# Crates that are linked into the binary.
CRATES = ["schema", "journal", "store", "ingest", "alarms", "notifier", "forwarders", "server"]
NAME = r'"((?:baken|process)_[a-z0-9_]+)"'
CONSTANT = re.compile(rf"const (\w+): &(?:'static )?str =\s*{NAME};")
# A name, by itself or by its constant, before a help text.
REGISTERED = re.compile(
    rf'\(\s*(?:{NAME}|(?:\w+::)*([A-Z][A-Z0-9_]+))\s*,\s*(?:"|help\b|format!)'
)
# Names in a list, for several metrics that one function makes.
LISTED = re.compile(r"::register\([^;]*?\[\s*([A-Z][A-Z0-9_]+(?:\s*,\s*[A-Z][A-Z0-9_]+)*)\s*,?\s*\]")
PROMQL_WORDS = {
    "and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left",
    "group_right", "inf", "nan",
}
# What Prometheus itself makes.
OF_PROMETHEUS = {"up", "ALERTS"}


def sources():
    for crate in CRATES:
        for path in sorted((ROOT / crate).rglob("*.rs")):
            inside = path.relative_to(ROOT / crate).parts
            if not {"tests", "benches", "examples", "target"} & set(inside) and path.name != "tests.rs":
                text = path.read_text()
                # Tests are the end of a file here.
                yield path, re.split(r"#\[cfg\(test\)\]\s*mod tests \{", text)[0]


def registered():
    """All names that the sources register."""
    constants, used, names = {}, set(), set()
    for path, text in sources():
        crate = path.relative_to(ROOT).parts[0]
        for constant, name in CONSTANT.findall(text):
            constants.setdefault((crate, constant), set()).add((path, name))
        for name, constant in REGISTERED.findall(text):
            if name:
                names.add(name)
            else:
                used.add((crate, path, constant))
        for constants_of_one in LISTED.findall(text):
            used |= {(crate, path, it) for it in re.findall(r"\w+", constants_of_one)}
    for (crate, constant), places in constants.items():
        files = {path for other, path, name in used if (other, name) == (crate, constant)}
        for path, name in places:
            # Constants of one crate may be called alike: a file's own counts there.
            own = {it for it, _ in places}
            if path in files or files - own:
                names.add(name)
    return names


def named(expression):
    """The metrics that an expression of PromQL names."""
    text = re.sub(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', "", expression)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    words = re.findall(r"(?<![\w$.])([a-zA-Z_:][\w:]*)\b(?!\s*\()", text)
    return {word for word in words if word.lower() not in PROMQL_WORDS and not is_duration(word)}


def is_duration(word):
    return re.fullmatch(r"(\d+(ms|[smhdwy]))+", word) is not None


def is_known(name, known):
    if name in known or name in OF_PROMETHEUS:
        return True
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    return base != name and base in known and not base.endswith("_total")
