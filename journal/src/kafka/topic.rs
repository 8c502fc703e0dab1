//! The journal's topic and those beside it: made where they are missing, and
//! refused where they would not keep what was acknowledged.

use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResourceResult, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataPartition, MetadataTopic};

use super::KafkaOptions;
use crate::OpenError;

/// How long the brokers may take to answer while the journal is opened.
const PATIENCE: Duration = Duration::from_secs(30);

/// A topic that was just made is not known to every broker at once: how long it
/// is until one is asked again.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Records have headers too.
const HEADER_ROOM_BYTES: usize = 1_024;

/// Makes the topic unless it is there, and looks whether it fits.
pub(super) async fn prepare(options: &KafkaOptions) -> Result<(), OpenError> {
    let admin: AdminClient<DefaultClientContext> =
        options.client().create().map_err(|error| brokers(&error))?;
    let wait =
        AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    let wanted = wanted(options);
    let replication = TopicReplication::Fixed(i32::from(options.replication_factor));
    let mut topic = NewTopic::new(&options.topic, i32::from(options.partitions), replication);
    for (name, value) in &wanted {
        topic = topic.set(name, value);
    }
    let made = admin.create_topics([&topic], &wait).await.map_err(|error| brokers(&error))?;
    match made.into_iter().next() {
        Some(Ok(_)) => tracing::info!(topic = options.topic, "made a topic"),
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => {}
        Some(Err((_, error))) => {
            return Err(OpenError::Topic {
                topic: options.topic.clone(),
                reason: format!("it cannot be made: {error}"),
            });
        }
    }
    check_shape(&admin, options).await?;
    check_settings(&admin, options, &wait).await
}

/// The settings of a topic that is made.
fn wanted(options: &KafkaOptions) -> Vec<(&'static str, String)> {
    vec![
        ("cleanup.policy", "delete".to_owned()),
        ("min.insync.replicas", options.min_insync_replicas.to_string()),
        ("retention.ms", options.retention_ms.to_string()),
        ("retention.bytes", "-1".to_owned()),
        ("max.message.bytes", (options.max_record_bytes + HEADER_ROOM_BYTES).to_string()),
        ("message.timestamp.type", "CreateTime".to_owned()),
        // A copy that is behind never becomes the one that counts.
        ("unclean.leader.election.enable", "false".to_owned()),
    ]
}

/// The brokers' answer, asked for again while it is of one who does not know the
/// topic yet, for as long as they may take.
async fn until_known<T>(
    ask: impl AsyncFn() -> KafkaResult<T>,
    is_known: impl Fn(&T) -> bool,
) -> Result<T, OpenError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = ask().await.map_err(|error| brokers(&error))?;
        if is_known(&answer) || Instant::now() >= until {
            return Ok(answer);
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

async fn check_shape(
    admin: &AdminClient<DefaultClientContext>,
    options: &KafkaOptions,
) -> Result<(), OpenError> {
    let ask = async || admin.inner().fetch_metadata(Some(&options.topic), PATIENCE);
    let is_known = |metadata: &Metadata| !partitions_of(metadata, options).is_empty();
    let metadata = until_known(ask, is_known).await?;
    let partitions = partitions_of(&metadata, options);
    if partitions.len() != usize::from(options.partitions) {
        return Err(unfit(
            options,
            "partitions",
            &partitions.len().to_string(),
            &options.partitions.to_string(),
        ));
    }
    let fewest = partitions.iter().map(|it| it.replicas().len()).min().unwrap_or(0);
    if fewest < usize::from(options.replication_factor) {
        return Err(unfit(
            options,
            "replication_factor",
            &fewest.to_string(),
            &options.replication_factor.to_string(),
        ));
    }
    Ok(())
}

/// None while the broker that was asked does not know the topic.
fn partitions_of<'a>(metadata: &'a Metadata, options: &KafkaOptions) -> &'a [MetadataPartition] {
    let topic = metadata.topics().iter().find(|topic| topic.name() == options.topic);
    topic.map(MetadataTopic::partitions).unwrap_or_default()
}

/// A topic that somebody else made may keep more than we ask, and never less.
async fn check_settings(
    admin: &AdminClient<DefaultClientContext>,
    options: &KafkaOptions,
    wait: &AdminOptions,
) -> Result<(), OpenError> {
    let resource = ResourceSpecifier::Topic(&options.topic);
    let ask = async || admin.describe_configs([&resource], wait).await;
    let is_known = |described: &Vec<ConfigResourceResult>| {
        !matches!(described.first(), Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition)))
    };
    let described = until_known(ask, is_known).await?;
    let settings = match described.into_iter().next() {
        Some(Ok(settings)) => settings,
        Some(Err(error)) => {
            let reason = format!("its settings cannot be read: {error}");
            return Err(OpenError::Topic { topic: options.topic.clone(), reason });
        }
        None => return Ok(()),
    };
    let found =
        |name: &str| settings.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
    let policy = found("cleanup.policy");
    if policy != "delete" {
        return Err(unfit(options, "cleanup.policy", &policy, "delete"));
    }
    let unclean = found("unclean.leader.election.enable");
    if unclean == "true" {
        return Err(unfit(options, "unclean.leader.election.enable", &unclean, "false"));
    }
    let at_least = [
        ("min.insync.replicas", i128::from(options.min_insync_replicas)),
        ("retention.ms", i128::from(options.retention_ms)),
        ("max.message.bytes", i128::try_from(options.max_record_bytes).unwrap_or(i128::MAX)),
    ];
    for (name, least) in at_least {
        let value = found(name);
        // -1 keeps for ever.
        let is_enough = value.parse::<i128>().is_ok_and(|value| value < 0 || value >= least);
        if !is_enough {
            return Err(unfit(options, name, &value, &format!("{least} or more")));
        }
    }
    let bytes = found("retention.bytes");
    if bytes != "-1" {
        tracing::warn!(
            topic = options.topic,
            retention_bytes = bytes,
            "the topic may delete records by size before their time"
        );
    }
    Ok(())
}

fn unfit(options: &KafkaOptions, setting: &'static str, found: &str, wanted: &str) -> OpenError {
    OpenError::TopicShape {
        topic: options.topic.clone(),
        setting,
        found: found.to_owned(),
        wanted: wanted.to_owned(),
    }
}

pub(super) fn brokers(error: &rdkafka::error::KafkaError) -> OpenError {
    OpenError::Brokers(error.to_string())
}
