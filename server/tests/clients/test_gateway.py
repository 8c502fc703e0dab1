"""thingsboard-gateway with a Modbus and an MQTT connector, each fed by a real machine's side."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from baken import wait_until

HERE = pathlib.Path(__file__).parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def processes():
    """Processes to end, newest first, however the test ends."""
    started = []
    yield started
    for process in reversed(started):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def modbus_config(port):
    return {"master": {"slaves": [{
        "host": "127.0.0.1", "port": port, "type": "tcp", "method": "socket", "unitId": 1,
        "deviceName": "meter 1", "deviceType": "meter", "timeout": 5, "byteOrder": "BIG",
        "wordOrder": "LITTLE", "retries": 3, "retryOnEmpty": True, "retryOnInvalid": True,
        "pollPeriod": 500, "connectAttemptTimeMs": 1000, "connectAttemptCount": 5,
        "waitAfterFailedAttemptsMs": 1000,
        "attributes": [{"tag": "serial", "type": "16int", "functionCode": 3, "objectsCount": 1, "address": 3}],
        "timeseries": [
            {"tag": "temperature", "type": "16int", "functionCode": 3, "objectsCount": 1, "address": 0, "divider": 10},
            {"tag": "humidity", "type": "16int", "functionCode": 3, "objectsCount": 1, "address": 1, "divider": 10},
            {"tag": "pressure", "type": "16int", "functionCode": 3, "objectsCount": 1, "address": 2}],
        "attributeUpdates": [], "rpc": []}]}}


def mqtt_config(port):
    return {
        "broker": {"host": "127.0.0.1", "port": port, "clientId": "gateway-connector", "version": 5,
                   "maxMessageNumberPerWorker": 10, "maxNumberOfWorkers": 10, "cleanSession": True,
                   "security": {"type": "anonymous"}},
        "mapping": [{"topicFilter": "sensor/+/data", "subscriptionQos": 1, "converter": {
            "type": "json",
            "deviceInfo": {"deviceNameExpressionSource": "topic",
                           "deviceNameExpression": "(?<=sensor/)(.*?)(?=/data)",
                           "deviceProfileExpressionSource": "constant",
                           "deviceProfileExpression": "sensor"},
            "timeout": 60000, "attributes": [],
            "timeseries": [{"type": "double", "key": "level", "value": "${level}"},
                           {"type": "string", "key": "state", "value": "${state}"}]}}],
        "requestsMapping": {}}


def gateway_config(baken, token, folder):
    package = next(pathlib.Path(os.environ["BAKEN_GATEWAY_ENV"]).glob("lib/python3*/site-packages/thingsboard_gateway"))
    shutil.copy(package / "config" / "logs.json", folder / "logs.json")
    return {
        "thingsboard": {
            "host": baken.mqtt_host, "port": baken.mqtt_port, "remoteShell": False,
            "remoteConfiguration": False, "latencyDebugMode": False,
            "statistics": {"enable": False}, "deviceFiltering": {"enable": False},
            "maxPayloadSizeBytes": 8196, "minPackSendDelayMS": 50, "minPackSizeToSend": 500,
            "checkConnectorsConfigurationInSeconds": 60, "handleDeviceRenaming": True,
            "security": {"type": "accessToken", "accessToken": token}, "qos": 1,
            "reportStrategy": {"type": "ON_RECEIVED"},
            "checkingDeviceActivity": {"checkDeviceInactivity": False}},
        "storage": {"type": "memory", "read_records_count": 100, "max_records_count": 100000},
        "grpc": {"enabled": False},
        "connectors": [
            {"name": "modbus", "type": "modbus", "configuration": "modbus.json"},
            {"name": "mqtt", "type": "mqtt", "configuration": "mqtt.json"}]}


def test_modbus_and_mqtt_connectors_reach_the_history(baken, processes, tmp_path):
    router = baken.router("gateway")
    python = str(pathlib.Path(os.environ["BAKEN_GATEWAY_ENV"]) / "bin" / "python")

    machine = subprocess.Popen([python, str(HERE / "modbus_machine.py")], stdout=subprocess.PIPE, text=True)
    processes.append(machine)
    modbus_port = int(machine.stdout.readline())

    sensors_port = free_port()
    (tmp_path / "mosquitto.conf").write_text(f"listener {sensors_port} 127.0.0.1\nallow_anonymous true\n")
    mosquitto = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    processes.append(subprocess.Popen([mosquitto, "-c", str(tmp_path / "mosquitto.conf")],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    folder = tmp_path / "gateway"
    folder.mkdir()
    for name, content in [("tb_gateway.json", gateway_config(baken, router["token"], folder)),
                          ("modbus.json", modbus_config(modbus_port)), ("mqtt.json", mqtt_config(sensors_port))]:
        (folder / name).write_text(json.dumps(content))
    output = open(tmp_path / "gateway.txt", "wb")
    gateway = subprocess.Popen([str(pathlib.Path(python).with_name("thingsboard-gateway"))], cwd=folder,
                               env={**os.environ, "TB_GW_CONFIG_DIR": str(folder) + "/"},
                               stdout=output, stderr=subprocess.STDOUT)
    processes.append(gateway)

    try:
        meter = baken.device_named(router, "meter 1")
        baken.await_latest(meter, {"temperature": 21.5, "humidity": 48, "pressure": 1013})
        wait_until("the meter's attribute", lambda: baken.attributes(meter, "client").get("serial") == 7)

        def publish():
            subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(sensors_port), "-q", "1",
                            "-t", "sensor/tank 4/data", "-m", '{"level": 63.25, "state": "filling"}'],
                           check=True, timeout=30)
            items = baken.call("GET", f"/devices?router={router['id']}")["items"]
            return [item["id"] for item in items if item["name"] == "tank 4"]
        tank = wait_until("the tank behind the MQTT connector", publish)[0]
        baken.await_latest(tank, {"level": 63.25, "state": "filling"})
    except AssertionError as error:
        output.flush()
        raise AssertionError(f"{error}\n{(tmp_path / 'gateway.txt').read_text()[-4000:]}") from error
