"""MQTT.js on Node."""

import json
import os
import pathlib
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).with_name("mqttjs.mjs")


@pytest.mark.parametrize("version", ["4", "5"])
def test_publish_rpc_and_attributes(baken, version, tmp_path):
    router = baken.router(f"mqttjs {version}")
    # Modules are looked up beside the script, so it runs from where they were installed.
    script = pathlib.Path(os.environ["BAKEN_NODE_MODULES"]).parent / f"mqttjs-{version}.mjs"
    script.write_text(SCRIPT.read_text())
    client = subprocess.Popen(
        ["node", str(script), f"mqtt://{baken.mqtt_host}:{baken.mqtt_port}", router["token"], version],
        stdout=subprocess.PIPE, text=True)
    assert client.stdout.readline() == "ready\n"
    baken.await_latest(router["device"], {"js": int(version)})
    answer = baken.call("POST", f"/devices/{router['device']}/rpc",
                        {"method": "double", "params": {"n": 21}, "timeout_ms": 20000})
    assert answer["result"] == {"twice": 42}
    baken.set_shared(router["device"], {"mode": "eco"})
    assert json.loads(client.stdout.readline()) == {
        "topic": "v1/devices/me/attributes", "payload": {"mode": "eco"}}
    assert client.wait(timeout=30) == 0
