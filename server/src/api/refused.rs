//! What the store and the broker refuse, as a [`Problem`]. The kinds of trouble
//! and their statuses are [`Problem`]'s own.

use alarms::CommandError;
use forwarders::destinations::Fault;
use forwarders::engine::ForwarderError;
use ingest::batch::SubmitError;
use ingest::broker::RpcError;
use schema::DocumentKind;
use store::alarms::AlarmStoreError;
use store::{AttributesError, DirectoryError};

use super::problem::Problem;

/// The noun of a kind of document, as the paths have it.
fn noun(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::Tenant => "tenant",
        DocumentKind::Location => "location",
        DocumentKind::Router => "router",
        DocumentKind::Device => "device",
        DocumentKind::ApiToken => "token",
        DocumentKind::User => "user",
        DocumentKind::Subscription => "subscription",
        DocumentKind::OfflineProfile => "offline profile",
        DocumentKind::MessageTemplate => "message template",
        DocumentKind::Forwarder => "forwarder",
    }
}

/// Upper case in front and a full stop behind, as all details have them.
fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let Some(first) = letters.next() else { return text };
    format!("{}{}.", first.to_uppercase(), letters.as_str())
}

impl From<DirectoryError> for Problem {
    fn from(error: DirectoryError) -> Self {
        match &error {
            DirectoryError::NotFound { kind, id } => {
                Self::not_found(kind.map_or("document", noun), id)
            }
            // The one thing that cannot be done to an id that is there.
            DirectoryError::Invalid { field: "id", .. } => Self::conflict(sentence(&error)),
            DirectoryError::Invalid { field, .. } => Self::invalid(*field, sentence(&error)),
            DirectoryError::NameTaken { .. } => Self::conflict(sentence(&error)).with_field("name"),
            DirectoryError::TooMany { .. } => Self::conflict(sentence(&error)).with_field("tenant"),
            DirectoryError::CredentialsInUse => {
                Self::conflict(sentence(&error)).with_field("credentials")
            }
            DirectoryError::IdentityInUse => {
                Self::conflict(sentence(&error)).with_field("settings")
            }
            DirectoryError::VersionConflict { expected, found, .. } => {
                Self::version_mismatch(*expected, *found)
            }
            DirectoryError::HasChildren { .. }
            | DirectoryError::DeviceQuota { .. }
            | DirectoryError::TemplateTaken { .. }
            | DirectoryError::LastRecipient { .. }
            | DirectoryError::DeviceElsewhere { .. } => Self::conflict(sentence(&error)),
            DirectoryError::Item { index, source } => {
                let problem = Self::from((**source).clone());
                within(problem, *index)
            }
            DirectoryError::Backend(_) if error.is_retryable() => {
                tracing::error!(%error, "the directory refused a write");
                Self::unavailable("The directory cannot be written now; the server's log says why.")
            }
            DirectoryError::Backend(_) => Self::internal(&error),
            DirectoryError::Closed => Self::unavailable("The server is stopping."),
        }
    }
}

impl From<AlarmStoreError> for Problem {
    fn from(error: AlarmStoreError) -> Self {
        match &error {
            AlarmStoreError::NoSuchProfile => Self::not_found("alarm profile", "with this id"),
            AlarmStoreError::VersionConflict { expected, found } => {
                Self::version_mismatch(*expected, *found)
            }
            AlarmStoreError::NameTaken { .. } => {
                Self::conflict(format!("{error}.")).with_field("name")
            }
            AlarmStoreError::TooManyProfiles => {
                Self::conflict(sentence(&error)).with_field("tenant")
            }
            AlarmStoreError::TooManyRules { .. } => {
                Self::conflict(sentence(&error)).with_field("rules")
            }
            AlarmStoreError::SystemProfile => Self::conflict(format!(
                "{}: change `settings.system_alarms` of the tenant instead.",
                sentence(&error).trim_end_matches('.')
            )),
            AlarmStoreError::Closed => Self::unavailable("The server is stopping."),
            _ if error.is_retryable() => {
                tracing::error!(%error, "the alarm store refused");
                Self::unavailable(
                    "The alarms cannot be read or written now; the server's log says why.",
                )
            }
            _ => Self::internal(&error),
        }
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Store(error) => error.into(),
            CommandError::Invalid(report) => {
                let field = report.errors.first().map(|problem| problem.field.clone());
                let said: Vec<String> = report
                    .errors
                    .iter()
                    .map(|problem| {
                        format!("{} ({:?}): {}", problem.field, problem.value, problem.message)
                    })
                    .collect();
                Self::invalid(field.unwrap_or_default(), said.join("; "))
            }
            CommandError::NoSuchAlarm => Self::not_found("alarm", "with this id"),
            CommandError::TenantAlarmKey(_) => Self::internal(&error),
            CommandError::Already(_) => Self::conflict(format!("{error}.")),
            CommandError::Append(_) | CommandError::NotYet { .. } => {
                tracing::warn!(%error, "an alarm command has not taken effect");
                Self::unavailable(format!("{error}."))
            }
        }
    }
}

/// The same problem, said of the item at `index` of an import.
pub(super) fn within(mut problem: Problem, index: usize) -> Problem {
    problem.detail = format!("Router {index} of the list, counted from 0: {}", problem.detail);
    let field = problem.field.take();
    problem.with_field(
        field.map_or_else(
            || format!("routers[{index}]"),
            |field| format!("routers[{index}].{field}"),
        ),
    )
}

impl From<AttributesError> for Problem {
    fn from(error: AttributesError) -> Self {
        match &error {
            AttributesError::Limit { key, .. } => Self::invalid(key.clone(), sentence(&error)),
            AttributesError::Sql(_) if error.is_retryable() => {
                tracing::error!(%error, "the attributes refused a request");
                Self::unavailable("Attributes cannot be used now; the server's log says why.")
            }
            AttributesError::Closed => Self::unavailable("The server is stopping."),
            AttributesError::Sql(_)
            | AttributesError::Partition(_)
            | AttributesError::Damaged { .. }
            | AttributesError::Start(_) => Self::internal(&error),
        }
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::invalid(fault.field, fault.message)
    }
}

impl From<ForwarderError> for Problem {
    fn from(error: ForwarderError) -> Self {
        match &error {
            ForwarderError::NotRunning | ForwarderError::Busy => Self::conflict(sentence(&error)),
            ForwarderError::NotYet => Self::timed_out(sentence(&error)),
            ForwarderError::Store(_) if error.is_retryable() => {
                tracing::error!(%error, "the forwarders' store refused");
                Self::unavailable("Forwarders cannot be read now; the server's log says why.")
            }
            ForwarderError::Store(_) => Self::internal(&error),
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        tracing::error!(%error, "the journal did not take a change of attributes");
        Self::unavailable("The journal takes nothing now; the server's log says why.")
    }
}

impl From<RpcError> for Problem {
    fn from(error: RpcError) -> Self {
        match error {
            RpcError::UnknownDevice => Self::not_found("device", "of this id"),
            RpcError::Offline | RpcError::NotSubscribed => Self::conflict(sentence(&error)),
            RpcError::Busy => Self::too_many(sentence(&error), 1),
            RpcError::TooLarge => Self::invalid("params", sentence(&error)),
            RpcError::Timeout => {
                Self::timed_out("The router did not answer in time; it may still have done it.")
            }
            RpcError::Disconnected => Self::timed_out(
                "The router disconnected before it answered; it may still have done it.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_in_an_import_is_named_with_its_place() {
        let source = Box::new(DirectoryError::CredentialsInUse);
        let problem = Problem::from(DirectoryError::Item { index: 3, source });
        assert_eq!(problem.status, 409);
        assert_eq!(problem.field.as_deref(), Some("routers[3].credentials"));
        assert_eq!(
            problem.detail,
            "Router 3 of the list, counted from 0: `credentials` are already in use."
        );
    }

    #[test]
    fn a_tenant_with_too_many_profiles_or_rules_is_409_and_says_how_many_it_may_have() {
        let rules = AlarmStoreError::TooManyRules { others: 9_999, rules: 2 };
        let cases =
            [(AlarmStoreError::TooManyProfiles, "tenant", "200"), (rules, "rules", "10000")];
        for (error, field, limit) in cases {
            let problem = Problem::from(error);
            assert_eq!((problem.status, problem.field.as_deref()), (409, Some(field)));
            assert!(problem.detail.contains(limit), "{}", problem.detail);
        }
    }

    #[test]
    fn a_stale_version_is_412_and_a_full_tenant_409() {
        let stale = DirectoryError::VersionConflict {
            kind: DocumentKind::Router,
            id: 1,
            expected: 2,
            found: 3,
        };
        assert_eq!(Problem::from(stale).status, 412);
        let full = DirectoryError::DeviceQuota { tenant: schema::TenantId(1), limit: 5 };
        assert_eq!(Problem::from(full).status, 409);
    }
}
