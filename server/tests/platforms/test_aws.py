"""AWS IoT Core: mosquitto with client certificates and an ACL as its policy, and
moto for IAM."""

import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request

from baken import wait_until
from core import Core, CoreAt443
from machine import Machine
from mosquitto import Mosquitto
from recorder import Recorder
from rival import Rival


def settings(broker, authority, client_id, certificate, **more):
    return {"authentication": "certificate", "endpoint": "localhost", "client_id": client_id,
            "certificate": certificate, "port": broker.port, "ca": authority.pem, **more}


def https_double(folder, authority, allowed):
    """The data endpoint by HTTPS: 200, or 403 where the policy denies."""
    double = Recorder(lambda path, headers, body: (200 if path.startswith(allowed) else 403, b""))
    certificate, key, ca = authority.files(folder, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    double.server.socket = context.wrap_socket(double.server.socket, server_side=True)
    return double


def test_a_certificate_publishes_where_its_policy_allows(baken, tmp_path, authority, free_port):
    broker = Mosquitto(tmp_path, authority, free_port(), {"site-1": "topic write baken/#"})
    https = https_double(tmp_path, authority, "/topics/baken/")
    certificate, key = authority.issue("site-1")
    machine = Machine(baken, "pump/1 +")
    found = settings(broker, authority, "site-1", certificate, https_port=https.server.server_port)
    forwarder = machine.forwarder("aws_iot_core", found, {"private_key": key}, smart_interval_s=0)
    assert forwarder["policy"]["Statement"][0]["Resource"].endswith(":client/site-1")
    told = machine.test(forwarder)
    assert told["ok"], told
    for ts, value in enumerate([1, 1, 2, 2.5]):
        machine.publish(ts, {"n": value})
    counts = machine.settled(forwarder, 4)
    assert (counts["sent"], counts["suppressed"]["same"]) == (3, 1), counts
    bodies = [json.loads(body) for topic, body in broker.messages() if topic == "baken/plant/pump_1 _"]
    assert [(body["ts"] - machine.start, body["values"]["n"]) for body in bodies] == [(0, 1), (2, 2), (3, 2.5)]
    sequences = [body["sequence"] for body in bodies]
    assert sequences == sorted(set(sequences)) and len({body["id"] for body in bodies}) == 3

    denied = {**found, "topic": "other/{device}", "client_id": "site-2"}
    denied = machine.forwarder("aws_iot_core", denied, {"private_key": key})
    told = machine.test(denied)
    assert not told["ok"] and "iot:Publish" in told["message"], told
    machine.stop()
    broker.stop()
    https.stop()


def test_a_certificate_that_is_not_known_pauses(baken, tmp_path, authority, free_port):
    from authority import Authority
    broker = Mosquitto(tmp_path, authority, free_port(), {})
    certificate, key = Authority("another").issue("site-1")
    machine = Machine(baken, "pump")
    forwarder = machine.forwarder(
        "aws_iot_core", settings(broker, authority, "site-1", certificate), {"private_key": key})
    machine.publish(1, {"n": 1})
    detail = machine.stands(forwarder, "paused")["detail"]
    assert "certificate" in detail, detail
    assert machine.accounting(forwarder)["queued"] + machine.accounting(forwarder)["in_flight"] == 1
    machine.stop()
    broker.stop()


def test_no_more_than_the_rate_goes_out_on_a_connection(baken, tmp_path, authority, free_port):
    broker = Mosquitto(tmp_path, authority, free_port(), {"site-1": "topic write baken/#"})
    certificate, key = authority.issue("site-1")
    machine = Machine(baken, "pump")
    forwarder = machine.forwarder(
        "aws_iot_core", settings(broker, authority, "site-1", certificate), {"private_key": key})
    begun = time.monotonic()
    for ts in range(400):
        machine.offer(ts, {"n": ts})
    machine.settled(forwarder, 400)
    took = time.monotonic() - begun
    assert len(broker.messages()) == 400
    assert took > 400 / 95, f"{400 / took} a second"
    machine.stop()
    broker.stop()


def test_what_would_be_discarded_is_not_sent(baken, tmp_path, authority):
    core = Core(tmp_path, authority, "baken/")
    certificate, key = authority.issue("site-1")
    machine = Machine(baken, "pump")
    forwarder = machine.forwarder(
        "aws_iot_core", settings(core, authority, "site-1", certificate), {"private_key": key})
    for ts in range(450):
        machine.offer(ts, {"n": ts})
    counts = machine.settled(forwarder, 450)
    assert counts["sent"] == 450, counts
    assert [json.loads(body)["values"]["n"] for _, body in core.messages] == list(range(450))
    assert core.discarded == 0 and core.violations == [] and len(core.connects) == 1
    assert core.most_in_a_second() <= 100, core.most_in_a_second()
    machine.stop()


def test_a_client_id_that_another_takes_is_not_fought_for(baken, tmp_path, authority):
    core = Core(tmp_path, authority, "baken/")
    certificate, key = authority.issue("site-1")
    machine = Machine(baken, "pump")
    forwarder = machine.forwarder(
        "aws_iot_core", settings(core, authority, "site-1", certificate), {"private_key": key})
    rival = Rival(core, authority, "site-1", every_s=2)
    began, step, details = time.monotonic(), 0, set()
    while time.monotonic() - began < 20:
        machine.publish(step, {"n": step})
        step += 1
        time.sleep(0.1)
        details.add(machine.state(forwarder).get("detail"))
    ours = len(core.connected_at["site-1"]) - rival.connects
    assert 2 <= ours <= 8, ours
    assert any(told and "the same client id" in told for told in details), details
    rival.stop()
    machine.settled(forwarder, step, deadline_s=120)
    seen = [json.loads(body)["values"]["n"] for _, body in core.messages]
    assert list(dict.fromkeys(seen)) == list(range(step)) and core.violations == []
    machine.stop()


def test_at_443_the_handshake_names_the_protocol_and_the_server(baken, tmp_path, authority):
    core = CoreAt443(tmp_path, authority, "baken/")
    certificate, key = authority.issue("site-1")
    machine = Machine(baken, "pump")
    # The port is the double's; at 443 the protocol is named without being told.
    found = settings(core, authority, "site-1", certificate, alpn=True)
    forwarder = machine.forwarder("aws_iot_core", found, {"private_key": key})
    machine.publish(0, {"n": 1})
    machine.settled(forwarder, 1)
    assert len(core.messages) == 1 and core.refused == []
    assert core.server_names and set(core.server_names) == {"localhost"}, core.server_names

    unnamed = settings(core, authority, "site-2", certificate)
    unnamed = machine.forwarder("aws_iot_core", unnamed, {"private_key": key})
    machine.publish(1, {"n": 2})
    machine.stands(unnamed, "failing")
    machine.settled(forwarder, 2)
    assert set(core.refused) == {"the protocol None"} and len(core.messages) == 2
    machine.stop()


def test_iam_credentials_by_the_vendor_s_api(baken, free_port):
    port = free_port()
    moto = subprocess.Popen(["moto_server", "-H", "127.0.0.1", "-p", str(port)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def alive():
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5).status == 200
        except OSError:
            return False
    wait_until("moto", alive)
    seen = []

    def forward(path, headers, body):
        assert "/iotdata/aws4_request" in headers["Authorization"], headers
        assert "AKIATEST/" in headers["Authorization"] and "secret" not in str(headers)
        names = ("Authorization", "Content-Type", "X-Amz-Date")
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", data=body, method="POST",
            headers={name: headers[name] for name in names if headers.get(name)})
        request.add_header("Host", "data-ats.iot.eu-west-1.amazonaws.com")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                seen.append((path, json.loads(body)))
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
    proxy = Recorder(forward)
    machine = Machine(baken, "pump")
    forwarder = machine.forwarder(
        "aws_iot_core",
        {"authentication": "iam", "endpoint": proxy.url, "region": "eu-west-1", "access_key_id": "AKIATEST"},
        {"secret_access_key": "secret"})
    told = machine.test(forwarder)
    assert told["ok"], told
    seen.clear()
    machine.publish(5, {"a": 1, "b": "x"})
    machine.settled(forwarder, 2)
    path, body = seen[0]
    assert path.startswith("/topics/baken%2Fplant%2Fpump?qos=1") or path.startswith("/topics/baken/plant/pump?qos=1"), path
    assert body["values"] == {"a": 1, "b": "x"}
    machine.stop()
    proxy.stop()
    moto.terminate()
    moto.wait(10)
