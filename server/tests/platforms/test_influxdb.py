"""InfluxDB: lines read by an independent parser, and read back from a server
that speaks its write API."""

import urllib.parse

from line_protocol_parser import parse_line

from baken import wait_until
from machine import Machine
from questdb import QuestDb
from recorder import Recorder
from victoria import Victoria

ITEMS = [
    {"key": "temperature", "data_type": "number", "settings": {"measurement": "climate"}},
    {"key": "count", "data_type": "integer", "settings": {"measurement": "climate"}},
    {"key": "on", "data_type": "boolean", "settings": {"measurement": "a b,c=d"}},
    {"key": "say", "data_type": "text", "settings": {"measurement": "climate", "field": "what \"it\", says"}},
]


def test_lines_say_to_another_parser_what_was_measured(baken):
    platform = Recorder()
    machine = Machine(baken, "pump, no=1 \\")
    settings = {"url": platform.url, "bucket": "b", "org": "o", "tags": {"site type": "a,b=c"}}
    forwarder = machine.forwarder("influxdb", settings, {"token": "t"}, ITEMS)
    text = 'say "x" \\ and, = läuft'
    machine.publish(123, {"temperature": -0.5, "count": "7", "on": 1, "say": text})
    machine.settled(forwarder, 4)
    path, headers, _ = platform.taken()[0]
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
    assert query == {"org": ["o"], "bucket": ["b"], "precision": ["ms"]}
    assert headers["Authorization"] == "Token t"
    found = {}
    for _, _, body in platform.taken():
        for line in body.decode().splitlines():
            point = parse_line(line)
            assert point["time"] == machine.start + 123, point
            assert point["tags"] == {
                "device": "pump, no=1 /", "location": "plant", "site type": "a,b=c"}, point
            found.update({(point["measurement"], key): value
                          for key, value in point["fields"].items()})
    assert found == {
        ("climate", "temperature"): -0.5, ("climate", "count"): 7,
        ("a b,c=d", "on"): True, ("climate", 'what "it", says'): text}, found
    machine.stop()
    platform.stop()


def test_a_server_that_speaks_the_write_api_gives_all_back(baken, tmp_path, free_port):
    server = Victoria(tmp_path / "victoria", free_port())
    machine = Machine(baken, "pump")
    found = {"url": server.url, "bucket": "b"}
    forwarder = machine.forwarder("influxdb", found, {"token": "t"}, ITEMS[:1])
    assert machine.test(forwarder)["ok"]
    sent = {step * 1000: step / 4 for step in range(300)}
    for at, value in sent.items():
        machine.publish(at, {"temperature": value})
    machine.settled(forwarder, 300)

    def read_back():
        series = server.series("climate_temperature")
        return series if series and len(series["values"]) == 300 else None
    series = wait_until("300 values", read_back)
    found = dict(zip(series["timestamps"], series["values"]))
    assert found == {machine.start + at: value for at, value in sent.items()}
    assert series["metric"]["device"] == "pump" and series["metric"]["location"] == "plant"
    machine.stop()
    server.stop()


def test_a_database_with_types_gives_all_back_and_refuses_others(baken, tmp_path, free_port):
    database = QuestDb(tmp_path / "questdb", free_port())
    machine = Machine(baken, "pump, no=1 \\")
    found = {"url": database.url, "bucket": "b", "org": "o", "tags": {"site type": "a,b=c"}}
    items = [{**item, "settings": {"measurement": "climate", "field": item["key"]}}
             for item in ITEMS]
    forwarder = machine.forwarder("influxdb", found, {"token": "t"}, items)
    assert machine.test(forwarder)["ok"]
    sent = {step * 1000: (step / 4, step * 3, step % 2 == 0, f'say "{step}", = läuft')
            for step in range(200)}
    for at, values in sent.items():
        machine.publish(at, dict(zip(("temperature", "count", "on", "say"), values)))
    machine.settled(forwarder, 800)

    def rows(key):
        sql = (f"select cast(timestamp as long) / 1000, \"{key}\", device, location, \"site type\" "
               f"from climate where \"{key}\" is not null order by timestamp")
        return database.query(sql)
    for place, key in enumerate(("temperature", "count", "say")):
        found = wait_until(f"200 values of {key}",
                           lambda: (got := rows(key)) and len(got) == 200 and got)
        expected = [[machine.start + at, values[place if key != "say" else 3], "pump, no=1 /",
                     "plant", "a,b=c"] for at, values in sent.items()]
        assert found == expected
    # QuestDB's booleans know no null: false stands where a line had none.
    truths = database.query("select cast(timestamp as long) / 1000 from climate where \"on\"")
    assert sorted(at for at, in truths) == [
        machine.start + at for at, values in sent.items() if values[2]]

    # Its column is a number by now: as in InfluxDB, a text is refused for good.
    item = {"key": "say", "data_type": "text",
            "settings": {"measurement": "climate", "field": "temperature"}}
    items = [item, {"key": "count", "data_type": "integer", "settings": {"measurement": "climate"}}]
    clashing = machine.forwarder(
        "influxdb", {"url": database.url, "bucket": "b"}, {"token": "t"}, items)
    machine.publish(900_000, {"say": "no number", "count": 5})
    counts = machine.settled(clashing, 2)
    assert (counts["sent"], counts["dead_letters"]) == (1, 1), counts
    letters = f"/forwarders/{clashing['id']}/dead-letters"
    letters = wait_until("the dead letter", lambda: baken.call("GET", letters)["items"])
    assert "cast error" in letters[0]["reason"], letters
    machine.stop()
    database.stop()
