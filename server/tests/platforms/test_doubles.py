"""The doubles themselves: each refuses what its platform refuses, so that what
they found nothing wrong with is right."""

import base64
import json
import ssl
import time

import paho.mqtt.client as mqtt
import pytest

from baken import wait_until
from core import Core, CoreAt443
from hub import Hub

KEY = base64.b64encode(b"a device's own key").decode()
BAG = "%24.mid=1&%24.ct=application%2Fjson&%24.ce=utf-8"


class Device:
    """A client that does as it is told."""

    def __init__(self, double, authority, folder, client_id="site-1", token=None, protocol=None):
        self.code, self.ended = None, False
        self.client = mqtt.Client(client_id=client_id)
        self.client.max_inflight_messages_set(1_000)
        context = ssl.create_default_context(cadata=authority.pem)
        if protocol:
            context.set_alpn_protocols([protocol])
        if double.context.verify_mode == ssl.CERT_REQUIRED:
            certificate, key, _ = authority.files(folder, client_id)
            context.load_cert_chain(certificate, key)
        else:
            self.client.username_pw_set(double.user(client_id), token or double.token(client_id, 60))
        self.client.tls_set_context(context)
        self.client.on_connect = lambda _client, _data, _flags, code: setattr(self, "code", code)
        self.client.on_disconnect = lambda *_: setattr(self, "ended", True)
        self.client.reconnect_delay_set(100, 100)
        self.client.connect("localhost", double.port)
        self.client.loop_start()
        wait_until("an answer", lambda: self.code is not None or self.ended)

    def publish(self, topic, body="{}", qos=1, retain=False):
        return self.client.publish(topic, body, qos=qos, retain=retain)

    def stop(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def hub(tmp_path, authority):
    return Hub(tmp_path, authority, "localhost", {"site-1": KEY})


def topic(device_id="site-1", bag=BAG):
    return f"devices/{device_id}/messages/events/{bag}"


def test_a_hub_takes_what_is_right(hub, tmp_path, authority):
    device = Device(hub, authority, tmp_path)
    device.publish(topic(bag=f"{BAG}&device=a%20b")).wait_for_publish(10)
    assert device.code == 0 and len(hub.messages) == 1 and hub.violations == []
    device.stop()


@pytest.mark.parametrize("wrong, how", [
    ("QoS 2", {"topic": topic(), "qos": 2}),
    ("retained", {"topic": topic(), "retain": True}),
    ("bytes", {"topic": topic(), "body": "x" * (256 << 10)}),
    ("the topic", {"topic": topic("other")}),
    ("the topic", {"topic": topic(bag="device=a")}),
    ("the topic", {"topic": topic(bag=BAG.replace("%24", "$"))}),
])
def test_a_hub_ends_a_connection_that_breaks_a_rule(hub, tmp_path, authority, wrong, how):
    device = Device(hub, authority, tmp_path)
    device.publish(**how)
    wait_until("the end", lambda: device.ended)
    assert len(hub.violations) == 1 and wrong in hub.violations[0], hub.violations
    assert hub.messages == []
    device.stop()


def test_a_hub_refuses_a_token_that_is_forged_or_over(hub, tmp_path, authority):
    good = hub.token("site-1", 60)
    for token in [good.replace("sig=", "sig=A"), good.replace("devices", "modules"),
                  good[:-1] + str((int(good[-1]) + 1) % 10), hub.token("site-1", -1)]:
        device = Device(hub, authority, tmp_path, token=token)
        assert device.code == 5, token
        device.stop()
    device = Device(hub, authority, tmp_path, token=hub.token("site-1", 2))
    assert device.code == 0
    wait_until("the token's end", lambda: device.ended)
    assert hub.expired == 1
    device.stop()


def test_a_second_connection_throws_the_first_out(hub, tmp_path, authority):
    first = Device(hub, authority, tmp_path)
    second = Device(hub, authority, tmp_path)
    wait_until("the first one's end", lambda: first.ended)
    assert hub.takeovers == 1 and not second.ended
    first.stop()
    second.stop()


def test_core_discards_what_is_over_its_rate_without_a_word(tmp_path, authority):
    core = Core(tmp_path, authority, "baken/")
    device = Device(core, authority, tmp_path)
    for number in range(300):
        device.publish("baken/x", json.dumps(number))
    wait_until("all", lambda: len(core.messages) + core.discarded == 300)
    assert core.discarded > 100 and not device.ended and core.violations == []
    again = Device(core, authority, tmp_path)
    assert again.ended or core.too_soon or time.monotonic() - core.connected_at["site-1"][-2] > 1
    again.stop()
    device.stop()


def test_core_ends_a_connection_that_its_policy_or_size_denies(tmp_path, authority):
    core = Core(tmp_path, authority, "baken/")
    for number, how in enumerate([{"topic": "other/x"},
                                  {"topic": "baken/x", "body": "x" * (128 << 10)}]):
        device = Device(core, authority, tmp_path, client_id=f"site-{number}")
        device.publish(**how)
        wait_until("the end", lambda: device.ended)
        device.stop()
    assert len(core.violations) == 2 and core.messages == []


def test_at_443_core_wants_its_protocol_named(tmp_path, authority):
    core = CoreAt443(tmp_path, authority, "baken/")
    unnamed = Device(core, authority, tmp_path)
    assert unnamed.ended and unnamed.code is None
    named = Device(core, authority, tmp_path, protocol="x-amzn-mqtt-ca")
    assert named.code == 0 and core.refused == ["the protocol None"]
    named.stop()
    unnamed.stop()
