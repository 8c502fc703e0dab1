"""Azure IoT Hub: token and topics against Microsoft's own library, a hub that
keeps a hub's rules, and mosquitto with client certificates."""

import base64
import json
import urllib.parse
from unittest import mock

from azure.iot.device import Message
from azure.iot.device.common.auth import sastoken, signing_mechanism
from azure.iot.device.iothub.pipeline import mqtt_topic_iothub

from baken import wait_until
from hub import Hub
from machine import Machine
from mosquitto import Mosquitto

KEY = base64.b64encode(b"a device's own key").decode()


def connected(baken, folder, authority, **more):
    hub = Hub(folder, authority, "localhost", {"site-1": KEY, "other": KEY})
    machine = Machine(baken, "pump")
    settings = {"authentication": "connection_string", "port": hub.port, "ca": authority.pem}
    string = f"HostName=localhost;DeviceId=site-1;SharedAccessKey={KEY}"
    forwarder = machine.forwarder("azure_iot_hub", settings, {"connection_string": string}, **more)
    return hub, machine, forwarder


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
    seen = [json.loads(body)["values"]["n"] for _, body in hub.messages]
    first = list(dict.fromkeys(seen))
    assert first == list(range(60)), seen
    assert len(hub.connects) > 1
    machine.stop()


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
    settings = {"authentication": "connection_string", "port": hub.port, "ca": authority.pem}
    string = f"HostName=localhost;DeviceId=site-1;SharedAccessKey={KEY}"
    try:
        machine.forwarder("azure_iot_hub", settings, {"connection_string": string})
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
