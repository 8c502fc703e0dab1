//! Sends messages by HTTPS with IAM credentials, one after another, so that the
//! order of a series is kept.

use aws_sdk_iotdataplane::Client;
use aws_sdk_iotdataplane::config::retry::RetryConfig;
use aws_sdk_iotdataplane::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_iotdataplane::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_iotdataplane::operation::publish::PublishError;
use aws_sdk_iotdataplane::primitives::Blob;
use aws_smithy_http_client::tls;

use super::super::{Class, Destination, Failure, Sent, Waiting, encode};
use super::MAX_MESSAGE_BYTES;
use super::config::{Proof, Settings};
use crate::engine::Context;
use crate::outgoing::Outgoing;
use crate::reach::is_not_allowed;

pub(super) struct Service {
    client: Client,
    settings: Settings,
    context: Context,
}

impl Service {
    pub fn new(settings: Settings, context: &Context) -> Self {
        let Proof::Iam { region, access_key_id, secret_access_key, session_token } =
            &settings.proof
        else {
            unreachable!("the caller has seen that there are IAM credentials")
        };
        let credentials = Credentials::new(
            access_key_id.clone(),
            secret_access_key.clone(),
            session_token.clone(),
            None,
            "forwarder",
        );
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .build_with_resolver(context.reach().clone());
        let endpoint = match settings.endpoint.starts_with("http://") {
            true => settings.endpoint.clone(),
            false => format!("https://{}", settings.endpoint),
        };
        // Whether to try again is the engine's to decide.
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.clone()))
            .credentials_provider(credentials)
            .endpoint_url(endpoint)
            .retry_config(RetryConfig::disabled())
            .http_client(http)
            .build();
        Self { client: Client::from_conf(config), settings, context: context.clone() }
    }

    async fn publish(&self, topic: String, body: String) -> Result<(), Failure> {
        let _place = self.context.account.permit(1).await;
        let request = self.client.publish().topic(topic).qos(1);
        let sent = request.payload(Blob::new(body)).send().await;
        sent.map(|_| ()).map_err(|error| failure(&error))
    }

    /// Publishes one message of a test.
    pub async fn test(&self) -> Result<String, String> {
        let topic = self.settings.test_topic();
        let sent = self.publish(topic.clone(), r#"{"test":true}"#.to_owned()).await;
        match sent {
            Ok(()) => Ok(format!("AWS IoT Core took a message for the topic {topic}.")),
            Err(failure) => Err(failure.message),
        }
    }
}

impl Destination for Service {
    fn send<'a>(&'a mut self, batch: &'a [Outgoing]) -> Waiting<'a, Sent> {
        Box::pin(async move {
            let mut sent = Sent::default();
            for message in encode::messages(batch, MAX_MESSAGE_BYTES) {
                let topic = self.settings.topic_of(&batch[message.values.start]);
                if let Err(failure) = self.publish(topic, message.body).await {
                    sent.failure = Some(failure);
                    break;
                }
                sent.done = message.values.end;
            }
            sent
        })
    }

    fn close(&mut self) -> Waiting<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// An error in words, and what to do about it.
fn failure(error: &SdkError<PublishError>) -> Failure {
    let Some(response) = error.raw_response() else {
        let class = if is_not_allowed(error) { Class::Pause } else { Class::Retry };
        let why = aws_sdk_iotdataplane::error::DisplayErrorContext(error).to_string();
        let why: String = why.chars().take(300).collect();
        return Failure::new(class, format!("AWS IoT Core cannot be reached: {why}"));
    };
    let status = response.status().as_u16();
    let (code, told) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
    let (class, what) = match status {
        401 | 403 => {
            (Class::Pause, "AWS does not take the credentials, or the policy denies iot:Publish")
        }
        404 => (Class::Pause, "there is no such endpoint"),
        400 | 422 => (Class::Refuse, "AWS refused the message"),
        413 => (Class::Split, "the message is too large"),
        429 => (Class::Throttle, "AWS takes no more for now"),
        502..=504 => (Class::Retry, "AWS is not available"),
        500..=599 => (Class::Bounded, "AWS failed"),
        _ => (Class::Pause, "this is no data endpoint of AWS IoT Core"),
    };
    Failure::new(class, format!("{what} (HTTP {status} {code} {told})"))
}
