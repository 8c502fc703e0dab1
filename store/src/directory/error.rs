//! What the directory answers when it does not do what was asked.

use std::sync::Arc;

use schema::{
    Channel, DocumentKind, Language, LocationId, RouterId, TemplateKind, TenantId, UserId,
};

use crate::SqlError;

/// Why a change of the directory was refused. Nothing of it was written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("there is no {} {id}", kind.map_or("document", DocumentKind::as_str))]
    NotFound { kind: Option<DocumentKind>, id: u64 },
    #[error("`{field}` is {value}: {allowed}")]
    Invalid { field: &'static str, value: String, allowed: String },
    #[error("`name` is {name:?}: another {} of the same {} has it", kind.as_str(), scope(*kind))]
    NameTaken { kind: DocumentKind, name: String },
    #[error(
        "another template of the same tenant is for {channel} in `{}` about `{}`",
        language.as_str(), about.as_str()
    )]
    TemplateTaken { channel: Channel, language: Language, about: TemplateKind },
    /// Says no more than this, because the other router may be another tenant's.
    #[error("`credentials` are already in use")]
    CredentialsInUse,
    /// Says no more than this, because the other forwarder may be another tenant's.
    #[error("another forwarder is the same device or client to its platform")]
    IdentityInUse,
    #[error("version {expected} was expected, but {} {id} has version {found}", kind.as_str())]
    VersionConflict { kind: DocumentKind, id: u64, expected: u64, found: u64 },
    #[error("{} {id} still has a {}; delete what it holds first", kind.as_str(), child.as_str())]
    HasChildren { kind: DocumentKind, id: u64, child: DocumentKind },
    #[error("tenant {tenant} has reached its limit of {limit} devices (`max_devices`)")]
    DeviceQuota { tenant: TenantId, limit: u32 },
    #[error(
        "tenant {tenant} has {limit} documents of the kind {}, and may have no more",
        kind.as_str()
    )]
    TooMany { tenant: TenantId, kind: DocumentKind, limit: u32 },
    /// Without it nobody would be told of what somebody wants told.
    #[error(
        "user {user} is the only recipient of offline profile {profile}: give the profile another \
         or delete it first"
    )]
    LastRecipient { user: UserId, profile: u64 },
    /// A device stays in the partition of its location, so its readings may
    /// not come in by a router of another.
    #[error(
        "the device {name:?} is at location {location}, not at that of router {router}; \
         delete it there first, or give one of the two another name"
    )]
    DeviceElsewhere { name: String, location: LocationId, router: RouterId },
    /// One of several that were to be made together.
    #[error("item {index}: {source}")]
    Item { index: usize, source: Box<DirectoryError> },
    #[error("the directory could not be written: {0}")]
    Backend(Arc<SqlError>),
    #[error("the directory is closed")]
    Closed,
}

fn scope(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::Tenant => "installation",
        _ => "tenant",
    }
}

impl DirectoryError {
    /// True where the same request may succeed later without any other change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Backend(error) => error.is_retryable(),
            Self::Item { source, .. } => source.is_retryable(),
            _ => false,
        }
    }

    /// The reason in a few words, for a metric's label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Invalid { .. } => "invalid",
            Self::NameTaken { .. } => "name_taken",
            Self::TemplateTaken { .. } => "template_taken",
            Self::CredentialsInUse => "credentials_in_use",
            Self::IdentityInUse => "identity_in_use",
            Self::VersionConflict { .. } => "version_conflict",
            Self::HasChildren { .. } => "has_children",
            Self::DeviceQuota { .. } => "device_quota",
            Self::TooMany { .. } => "too_many",
            Self::LastRecipient { .. } => "last_recipient",
            Self::DeviceElsewhere { .. } => "device_elsewhere",
            Self::Item { source, .. } => source.reason(),
            Self::Backend(_) => "backend",
            Self::Closed => "closed",
        }
    }
}

/// Why the directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Sql(#[from] SqlError),
    #[error("document {id} cannot be read: {source}")]
    Document { id: u64, source: serde_json::Error },
    #[error("document {id} is of the kind {kind:?}, which this program does not know")]
    UnknownKind { id: u64, kind: String },
    #[error("the thread that writes could not be started: {0}")]
    Thread(#[from] std::io::Error),
    #[error("a metric could not be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}
