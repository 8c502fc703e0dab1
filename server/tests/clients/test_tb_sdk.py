"""tb-mqtt-client, ThingsBoard's own Python SDK, as a device and as a gateway."""

import threading

from tb_device_mqtt import TBDeviceMqttClient
from tb_gateway_mqtt import TBGatewayMqttClient

from baken import YESTERDAY_MS, wait_until

TIMEOUT_S = 30


def connect(client):
    client.connect()
    wait_until("the SDK's connection", client.is_connected)
    return client


def test_device_telemetry_attributes_and_rpc(baken):
    router = baken.router("sdk device")
    client = connect(TBDeviceMqttClient(baken.mqtt_host, baken.mqtt_port, router["token"]))
    try:
        assert client.send_telemetry({"temperature": 41.5, "on": True}).get() == 0
        assert client.send_telemetry({"ts": YESTERDAY_MS, "values": {"old": 3}}).get() == 0
        baken.await_latest(router["device"], {"temperature": 41.5, "on": True, "old": 3})

        assert client.send_attributes({"firmware": "v1.2", "slots": 4}).get() == 0
        wait_until("client attributes", lambda: baken.attributes(router["device"], "client")
                   == {"firmware": "v1.2", "slots": 4})

        pushed = threading.Event()
        seen = []
        client.subscribe_to_all_attributes(lambda result, *rest: (seen.append(result), pushed.set()))
        client.set_server_side_rpc_request_handler(
            lambda request_id, body: client.send_rpc_reply(request_id, {"echo": body["params"]}))

        def push():
            baken.set_shared(router["device"], {"interval": 5})
            return pushed.wait(1)
        wait_until("the pushed shared attribute", push)
        assert seen[0] == {"interval": 5}

        answer = baken.call("POST", f"/devices/{router['device']}/rpc",
                            {"method": "read", "params": {"register": 7}, "timeout_ms": 20000})
        assert answer["result"] == {"echo": {"register": 7}}

        asked = threading.Event()
        values = []
        client.request_attributes(client_keys=["firmware"], shared_keys=["interval"],
                                  callback=lambda result, *rest: (values.append(result), asked.set()))
        assert asked.wait(TIMEOUT_S)
        assert values[0] == {"client": {"firmware": "v1.2"}, "shared": {"interval": 5}}
    finally:
        client.disconnect()


def test_gateway_devices_telemetry_attributes_and_rpc(baken):
    router = baken.router("sdk gateway")
    client = connect(TBGatewayMqttClient(baken.mqtt_host, baken.mqtt_port, router["token"]))
    try:
        client.gw_connect_device("chiller 1", "chiller")
        assert client.gw_send_telemetry(
            "chiller 1", [{"ts": YESTERDAY_MS, "values": {"supply": 6.5}},
                          {"ts": YESTERDAY_MS + 1_000, "values": {"supply": 6.6}}]).get() == 0
        device = baken.device_named(router, "chiller 1")
        wait_until("two readings", lambda: baken.readings(device, "supply")
                   == [(YESTERDAY_MS, 6.5), (YESTERDAY_MS + 1_000, 6.6)])
        assert client.gw_send_attributes("chiller 1", {"serial": "A1"}).get() == 0
        wait_until("gateway attributes", lambda: baken.attributes(device, "client") == {"serial": "A1"})

        client.gw_set_server_side_rpc_request_handler(
            lambda gateway, body: client.gw_send_rpc_reply(
                body["device"], body["data"]["id"], {"done": body["data"]["method"]}))
        answer = baken.call("POST", f"/devices/{device}/rpc",
                            {"method": "reset", "params": {}, "timeout_ms": 20000})
        assert answer["result"] == {"done": "reset"}

        pushed = threading.Event()
        seen = []
        client.gw_subscribe_to_all_attributes(lambda result, *rest: (seen.append(result), pushed.set()))

        def push():
            baken.set_shared(device, {"setpoint": 7})
            return pushed.wait(1)
        wait_until("the gateway device's shared attribute", push)
        assert seen[0] == {"device": "chiller 1", "data": {"setpoint": 7}}
    finally:
        client.disconnect()
