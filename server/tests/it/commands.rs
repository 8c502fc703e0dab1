//! The client commands against a running node.

use serde_json::Value;

use super::harness::{Baken, recent_ms, run, text, until};
use super::mqtt::Mqtt;

/// A client command with `--json`; its answer.
async fn ask(baken: &Baken, args: &[&str]) -> Value {
    let data = baken.dir.to_str().unwrap();
    let output = run(&[args, &["--data", data, "--json"]].concat()).await;
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

#[tokio::test]
async fn a_tenant_its_router_and_its_readings_by_command() {
    let baken = Baken::start().await;
    let tenant = ask(&baken, &["tenants", "create", "Acme"]).await["id"].to_string();
    let location = ["locations", "create", "North", "--tenant", &tenant];
    let location = ask(&baken, &location).await["id"].to_string();
    let router = ask(&baken, &["routers", "create", "r1", "--location", &location]).await;
    let listed = ask(&baken, &["routers", "list", "--tenant", &tenant]).await;
    assert_eq!(listed["items"][0]["id"], router["id"]);

    let device = router["device"].to_string();
    let mut mqtt =
        Mqtt::connect(baken.run.mqtt.as_deref().unwrap(), router["token"].as_str().unwrap()).await;
    let ts = recent_ms();
    mqtt.telemetry(&format!(r#"{{"ts":{ts},"values":{{"t":21.5}}}}"#)).await;
    until("the reading", async || {
        let latest = ask(&baken, &["telemetry", "latest", &device]).await;
        (latest["readings"]["t"]["value"] == 21.5).then_some(())
    })
    .await;
    let data = baken.dir.to_str().unwrap();
    let table = run(&["telemetry", "latest", &device, "--data", data]).await;
    let time = jiff::Timestamp::from_millisecond(ts).unwrap();
    let row = format!("key  time                      value\nt    {time:.3}  21.5\n");
    assert_eq!(text(&table.stdout), row);
    let end = jiff::Timestamp::from_millisecond(ts + 1).unwrap();
    let (from, to) = (time.to_string(), end.to_string());
    let range = ["telemetry", "range", &device, "t", "--from", &from, "--to", &to];
    assert_eq!(ask(&baken, &range).await["readings"][0]["ts"], ts);

    let refused = run(&["tenants", "delete", &tenant, "--data", data]).await;
    assert_eq!(refused.status.code(), Some(1), "a tenant with locations stays");
    assert!(text(&refused.stderr).starts_with("baken: It clashes with what there is: "));
    let id = router["id"].to_string();
    ask(&baken, &["routers", "delete", &id]).await;
    let gone = run(&["routers", "show", &id, "--data", data]).await;
    assert_eq!(text(&gone.stderr), format!("baken: Not found: There is no router {id}.\n"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let output = run(&["tenants", "list", "--data", data]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("baken: no token: "), "{}", text(&output.stderr));
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let server = format!("http://127.0.0.1:{port}");
    let output = run(&["tenants", "list", "--server", &server, "--token", "x"]).await;
    let error = text(&output.stderr);
    assert!(error.contains("cannot reach") && error.contains("Connection refused"), "{error}");
}
