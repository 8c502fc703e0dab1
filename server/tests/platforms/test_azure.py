"""Azure IoT Hub: token and topics against Microsoft's own library, a hub that
keeps a hub's rules, and mosquitto with client certificates."""

import base64
import json
import time
import urllib.parse
from unittest import mock

from azure.iot.device import Message
from azure.iot.device.common.auth import sastoken, signing_mechanism
from azure.iot.device.iothub.pipeline import mqtt_topic_iothub

from baken import Baken, wait_until
from hub import Hub
from machine import OWN_MACHINE, Machine
from mosquitto import Mosquitto
from rival import Rival

KEY = base64.b64encode(b"a device's own key").decode()


def connected(baken, folder, authority, **more):
    hub = Hub(folder, authority, "localhost", {"site-1": KEY, "other": KEY})
    machine = Machine(baken, "pump")
    forwarder = of_device(machine, hub, authority, "site-1", **more)
    return hub, machine, forwarder


def of_device(machine, hub, authority, device_id, items=(), **settings):
    settings = {"authentication": "connection_string", "port": hub.port, "ca": authority.pem,
                **settings}
    string = f"HostName=localhost;DeviceId={device_id};SharedAccessKey={KEY}"
    return machine.forwarder("azure_iot_hub", settings, {"connection_string": string}, items)


def numbers(hub, device_id="site-1"):
    """What the hub took of a device, in its order."""
    return [json.loads(body)["values"]["n"] for topic, body in hub.messages
            if topic.startswith(f"devices/{device_id}/")]


def test_token_and_topic_are_those_of_the_vendor_s_library(baken, tmp_path, authority):
    hub, machine, forwarder = connected(baken, tmp_path, authority)
    machine.publish(0, {"temperature": 21.5, "läuft": True})
    machine.settled(forwarder, 2)
    client_id, user, password = hub.connects[0]
    assert client_id == "site-1"
    expires = int(password.rsplit("=", 1)[1])
    signing = signing_mechanism.SymmetricKeySigningMechanism(key=KEY)
    with mock.patch("time.time", return_value=expires - 3600):
        token = sastoken.RenewableSasToken("localhost/devices/site-1", signing, ttl=3600)
    assert password == str(token)

    topic, body = hub.messages[0]
    document = json.loads(body)
    message = Message(body, message_id=document["id"], content_encoding="utf-8",
                      content_type="application/json")
    message.custom_properties = {"device": "pump", "location": "plant"}
    base = mqtt_topic_iothub.get_telemetry_topic_for_publish("site-1", None)
    assert topic == mqtt_topic_iothub.encode_message_properties_in_topic(message, base)
    assert document["values"] == {"temperature": 21.5, "läuft": True}
    assert (document["device"], document["ts"]) == ("pump", machine.start)
    machine.stop()


def test_connections_that_end_lose_and_reorder_nothing(baken, tmp_path, authority):
    hub, machine, forwarder = connected(baken, tmp_path, authority)
    for step in range(60):
        machine.publish(step, {"n": step})
        if step % 10 == 9:
            hub.close_all()
    machine.settled(forwarder, 60)
    first = list(dict.fromkeys(numbers(hub)))
    assert first == list(range(60)), numbers(hub)
    assert len(hub.connects) > 1 and hub.violations == []
    machine.stop()


def test_a_token_is_renewed_before_it_ends_and_nothing_is_sent_twice(baken, tmp_path, authority):
    hub, machine, forwarder = connected(baken, tmp_path, authority, token_life_s=10)
    for step in range(260):
        machine.publish(step, {"n": step})
        time.sleep(0.1)
    machine.settled(forwarder, 260)
    # A connection that the hub had ended would have lost acknowledgements, and
    # what it had taken would have come again.
    assert numbers(hub) == list(range(260))
    passwords = [password for _, _, password in hub.connects]
    assert len(set(passwords)) == len(passwords) >= 4, passwords
    assert (hub.expired, hub.takeovers, hub.refused, hub.violations) == (0, 0, [], [])
    assert hub.left == len(passwords) - 1
    machine.stop()


def test_a_connection_whose_token_ended_is_made_anew_for_what_comes(baken, tmp_path, authority):
    hub, machine, forwarder = connected(baken, tmp_path, authority, token_life_s=10)
    machine.publish(0, {"n": 0})
    machine.settled(forwarder, 1)
    wait_until("the hub to end the connection", lambda: hub.expired == 1)
    machine.publish(1, {"n": 1})
    machine.settled(forwarder, 2)
    assert numbers(hub) == [0, 1] and len(hub.connects) == 2
    assert (machine.state(forwarder)["state"], hub.refused) == ("connected", [])

    # To a hub that thinks it is later, a token is over when it comes.
    hub.ahead_s = 3_600
    wait_until("the hub to end the connection", lambda: hub.expired == 2)
    machine.publish(2, {"n": 2})
    assert "credentials" in machine.stands(forwarder, "paused")["detail"]
    hub.ahead_s = 0
    baken.call("POST", f"/forwarders/{forwarder['id']}/resume")
    machine.settled(forwarder, 3)
    assert numbers(hub) == [0, 1, 2] and hub.violations == []
    machine.stop()


def test_whoever_is_thrown_out_by_another_says_so_and_does_not_fight(baken, tmp_path, authority):
    hub, machine, forwarder = connected(baken, tmp_path, authority)
    other = of_device(machine, hub, authority, "other")
    rival = Rival(hub, authority, "site-1")
    began, step, details = time.monotonic(), 0, set()
    worst_ms = 0
    while time.monotonic() - began < 25:
        machine.publish(step, {"n": step})
        step += 1
        time.sleep(0.1)
        details.add(machine.state(forwarder).get("detail"))
        worst_ms = max(worst_ms, machine.accounting(other)["lag_ms"])
    ours = len(hub.connected_at["site-1"]) - rival.connects
    # Pauses of 2, 4 and 8 seconds; at full speed it would be one a second.
    assert 2 <= ours <= 8, ours
    assert any(told and "the same device" in told for told in details), details
    # The hub itself is well, and its other devices are held up by nothing.
    assert worst_ms < 5_000, worst_ms
    rival.stop()
    machine.settled(forwarder, step, deadline_s=120)
    machine.settled(other, step)
    assert list(dict.fromkeys(numbers(hub))) == list(range(step))
    assert numbers(hub, "other") == list(range(step)) and hub.violations == []
    print(f"{ours} connections beside {rival.connects} of a rival; the other's lag {worst_ms} ms")
    machine.stop()


def test_the_hub_s_rate_is_kept_by_all_forwarders_to_it_together(baken, tmp_path, authority):
    hub, machine, forwarder = connected(baken, tmp_path, authority, sends_per_s=20)
    other = of_device(machine, hub, authority, "other", sends_per_s=20)
    for step in range(100):
        machine.offer(step, {"n": step})
    machine.settled(forwarder, 100)
    machine.settled(other, 100)
    assert numbers(hub) == numbers(hub, "other") == list(range(100))
    # 20 a second and 2 at once; the hub's clock sees them a little closer.
    assert hub.most_in_a_second() <= 26, hub.most_in_a_second()
    assert hub.violations == []
    machine.stop()


def test_a_hub_that_acknowledges_nothing_gets_all_again(baken, tmp_path, authority):
    hub, machine, forwarder = connected(baken, tmp_path, authority)
    hub.silent = True
    for step in range(5):
        machine.publish(step, {"n": step})
    assert "did not acknowledge" in machine.stands(forwarder, "failing")["detail"]
    hub.silent = False
    machine.settled(forwarder, 5)
    # What was sent again is a new publish of a new connection, not a duplicate.
    assert list(dict.fromkeys(numbers(hub))) == list(range(5)) and hub.violations == []
    machine.stop()


def test_what_is_larger_than_a_hub_takes_is_dropped_and_the_rest_sent(tmp_path, authority):
    folder = tmp_path / "baken"
    folder.mkdir()
    baken = Baken(folder, (*OWN_MACHINE, "--set", "mqtt.limits.max_payload_bytes=1048576"))
    hub, machine, forwarder = connected(baken, tmp_path, authority)
    machine.publish(0, {"text": "x" * (199 << 10), "n": 0})
    machine.publish(1, {"text": "x" * (201 << 10), "n": 1})
    # 60 KB that are 360 KB in JSON, where each character takes six.
    machine.publish(2, {"text": "\x01" * 60_000, "n": 2})
    machine.publish(3, {f"text {number}": "\x01" * 10_000 for number in range(10)})
    counts = machine.settled(forwarder, 16)
    assert counts["sent"] == 14 and counts["dropped"]["too_large"] == 2, counts
    bodies = [json.loads(body)["values"] for _, body in hub.messages]
    assert sorted(len(body.get("text", "")) for body in bodies)[-1] == 199 << 10
    assert sorted(body["n"] for body in bodies if "n" in body) == [0, 1, 2]
    assert hub.violations == [] and len(hub.connects) == 1
    machine.stop()
    baken.stop()


def test_what_is_wrong_is_told_in_words(baken, tmp_path, authority):
    hub, machine, forwarder = connected(baken, tmp_path, authority)
    assert machine.test(forwarder)["ok"]
    wrong = f"HostName=localhost;DeviceId=other;SharedAccessKey={KEY[:-4]}AAA="
    settings = {"authentication": "connection_string", "port": hub.port, "ca": authority.pem}
    other = machine.forwarder("azure_iot_hub", settings, {"connection_string": wrong})
    told = machine.test(other)
    assert not told["ok"] and "credentials" in told["message"], told
    machine.publish(1, {"n": 1})
    detail = machine.stands(other, "paused")["detail"]
    assert "credentials" in detail and KEY[:-4] not in json.dumps(machine.state(other))
    machine.settled(forwarder, 1)
    machine.stop()


def test_a_device_is_one_forwarder_s(baken, tmp_path, authority):
    hub, machine, forwarder = connected(baken, tmp_path, authority)
    try:
        of_device(machine, hub, authority, "site-1")
    except AssertionError as error:
        assert ": 409 " in str(error) and "secrets.connection_string" in str(error), error
    else:
        raise AssertionError("a second forwarder of the device was made")
    machine.stop()


def test_a_certificate_signed_by_an_authority(baken, tmp_path, authority, free_port):
    acl = {"site-9": "topic write devices/site-9/messages/events/#"}
    broker = Mosquitto(tmp_path, authority, free_port(), acl)
    certificate, key = authority.issue("site-9")
    machine = Machine(baken, "pump")
    settings = {
        "authentication": "x509_ca_signed", "host": "localhost", "device_id": "site-9",
        "certificate": certificate + authority.pem, "port": broker.port, "ca": authority.pem}
    forwarder = machine.forwarder("azure_iot_hub", settings, {"private_key": key})
    assert machine.test(forwarder)["ok"], machine.test(forwarder)
    machine.publish(7, {"n": 1.5})
    machine.settled(forwarder, 1)
    topic, body = wait_until("the message", broker.messages)[0]
    assert topic.startswith("devices/site-9/messages/events/%24.mid=")
    assert "device=" + urllib.parse.quote("pump") in topic
    assert json.loads(body)["values"] == {"n": 1.5}
    machine.stop()
    broker.stop()
