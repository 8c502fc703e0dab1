//! The policy that a customer attaches to the certificate, or to the IAM user.

use serde_json::{Value, json};

/// What the forwarder needs and nothing more: to connect as `client_id` (none
/// with IAM credentials) and to publish below the topic's fixed beginning.
#[must_use]
pub fn policy(topic: &str, client_id: Option<&str>) -> Value {
    let fixed = topic.split('{').next().unwrap_or_default();
    let publish = match fixed == topic {
        true => topic.to_owned(),
        false => format!("{fixed}*"),
    };
    let statement = |action: &str, resource: String| {
        json!({
            "Effect": "Allow",
            "Action": action,
            "Resource": format!("arn:aws:iot:REGION:ACCOUNT:{resource}"),
        })
    };
    let mut statements = Vec::new();
    if let Some(client_id) = client_id {
        statements.push(statement("iot:Connect", format!("client/{client_id}")));
    }
    statements.push(statement("iot:Publish", format!("topic/{publish}")));
    json!({ "Version": "2012-10-17", "Statement": statements })
}
