// MQTT.js as a device: publishes, answers one RPC, prints what it was pushed.
import mqtt from "mqtt";

const [url, token, protocolVersion] = process.argv.slice(2);
const client = await mqtt.connectAsync(url, {
  username: token,
  protocolVersion: Number(protocolVersion),
  reconnectPeriod: 0,
});
client.on("message", async (topic, payload) => {
  if (topic.startsWith("v1/devices/me/rpc/request/")) {
    const id = topic.split("/").pop();
    const { params } = JSON.parse(payload);
    await client.publishAsync(`v1/devices/me/rpc/response/${id}`, JSON.stringify({ twice: params.n * 2 }), { qos: 1 });
  } else {
    console.log(JSON.stringify({ topic, payload: JSON.parse(payload) }));
    await client.endAsync();
  }
});
await client.subscribeAsync("v1/devices/me/rpc/request/+", { qos: 1 });
await client.subscribeAsync("v1/devices/me/attributes", { qos: 1 });
await client.publishAsync("v1/devices/me/telemetry", JSON.stringify({ js: Number(protocolVersion) }), { qos: 1 });
console.log("ready");
