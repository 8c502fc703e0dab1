"""paho-mqtt, MQTT 5: reason codes, topic aliases, limits announced and honoured."""

import json
import queue

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

TIMEOUT_S = 30


class Client:
    def __init__(self, baken, token, client_id="paho"):
        self.connects, self.publishes, self.messages = queue.Queue(), queue.Queue(), queue.Queue()
        self.subscribes, self.disconnects = queue.Queue(), queue.Queue()
        self.paho = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5)
        self.paho.username_pw_set(token)
        self.paho.on_connect = lambda c, u, f, reason, p: self.connects.put((reason, p))
        self.paho.on_publish = lambda c, u, mid, reason, p: self.publishes.put((mid, reason))
        self.paho.on_message = lambda c, u, message: self.messages.put(message)
        self.paho.on_subscribe = lambda c, u, mid, reasons, p: self.subscribes.put(reasons)
        self.paho.on_disconnect = lambda c, u, f, reason, p: self.disconnects.put(reason)
        self.paho.connect(baken.mqtt_host, baken.mqtt_port)
        self.paho.loop_start()
        self.reason, self.properties = self.connects.get(timeout=TIMEOUT_S)

    def publish(self, topic, payload, properties=None):
        """Publishes at QoS 1; the PUBACK's reason code."""
        sent = self.paho.publish(topic, payload, qos=1, properties=properties)
        mid, reason = self.publishes.get(timeout=TIMEOUT_S)
        assert mid == sent.mid
        return reason.value

    def subscribe(self, topic, qos=1):
        self.paho.subscribe(topic, qos)
        return [reason.value for reason in self.subscribes.get(timeout=TIMEOUT_S)]

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()


def test_limits_are_announced(baken):
    client = Client(baken, baken.router("paho limits")["token"])
    assert client.reason.value == 0
    assert client.properties.MaximumQoS == 1
    assert client.properties.RetainAvailable == 0
    assert client.properties.ReceiveMaximum >= 1
    assert client.properties.MaximumPacketSize >= 65536
    assert client.properties.TopicAliasMaximum >= 1
    client.close()


def test_reason_codes_tell_what_became_of_each_publish(baken):
    router = baken.router("paho reasons")
    client = Client(baken, router["token"])
    assert client.publish("v1/devices/me/telemetry", '{"ok":1}') == 0
    assert client.publish("v1/devices/me/telemetry", '{"broken') == 0x99
    assert client.publish("some/other/topic", "{}") in (0x87, 0x90)
    assert client.publish("v1/devices/me/telemetry", '{"ok":2}') == 0, "the connection must go on"
    baken.await_latest(router["device"], {"ok": 2})
    client.close()


def test_topic_alias_stands_for_the_topic(baken):
    router = baken.router("paho alias")
    client = Client(baken, router["token"])
    alias = Properties(PacketTypes.PUBLISH)
    alias.TopicAlias = 1
    assert client.publish("v1/devices/me/telemetry", '{"a":1}', alias) == 0
    assert client.publish("", '{"b":2}', alias) == 0
    baken.await_latest(router["device"], {"a": 1, "b": 2})
    client.close()


def test_wrong_credentials_have_their_reason(baken):
    client = Client(baken, "no-such-token")
    assert client.reason.value in (0x86, 0x87)
    client.close()


def test_a_second_session_takes_over(baken):
    router = baken.router("paho takeover")
    first = Client(baken, router["token"], "same-id")
    first.paho.reconnect_delay_set(60, 60)
    second = Client(baken, router["token"], "same-id")
    assert first.disconnects.get(timeout=TIMEOUT_S).value == 0x8E
    assert second.publish("v1/devices/me/telemetry", '{"from":"second"}') == 0
    first.paho.loop_stop()
    second.close()


def test_subscriptions_beyond_the_contract_are_refused(baken):
    client = Client(baken, baken.router("paho subscriptions")["token"])
    assert client.subscribe("#")[0] >= 0x80
    assert client.subscribe("v1/devices/me/attributes", 2) == [1]
    client.close()


def test_attribute_request_and_client_rpc(baken):
    router = baken.router("paho attributes")
    client = Client(baken, router["token"])
    assert client.publish("v1/devices/me/attributes", '{"model":"R1","serial":7}') == 0
    baken.set_shared(router["device"], {"interval_s": 10})
    client.subscribe("v1/devices/me/attributes/response/+")
    client.subscribe("v1/devices/me/rpc/response/+")
    assert client.publish("v1/devices/me/attributes/request/5",
                          '{"clientKeys":"model,serial","sharedKeys":"interval_s"}') == 0
    answer = client.messages.get(timeout=TIMEOUT_S)
    assert answer.topic == "v1/devices/me/attributes/response/5"
    assert json.loads(answer.payload) == {
        "client": {"model": "R1", "serial": 7}, "shared": {"interval_s": 10}}
    client.publish("v1/devices/me/rpc/request/9", '{"method":"getSessionLimits","params":{}}')
    answer = client.messages.get(timeout=TIMEOUT_S)
    assert answer.topic == "v1/devices/me/rpc/response/9"
    limits = json.loads(answer.payload)
    assert limits["maxPayloadSize"] == 65536
    assert limits["rateLimits"] == limits["gatewayRateLimits"]
    client.close()
