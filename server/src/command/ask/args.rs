//! What the client commands take.

use clap::{Args, Subcommand, ValueEnum};

use super::super::ServerArgs;

#[derive(Debug, Subcommand)]
pub(in super::super) enum TenantCommand {
    /// Make a tenant
    Create {
        name: String,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// All tenants
    List(ServerArgs),
    /// One tenant with its settings
    Show(OneArgs),
    /// Delete a tenant that has no locations any more
    Delete(OneArgs),
}

#[derive(Debug, Subcommand)]
pub(in super::super) enum LocationCommand {
    /// Make a location at a tenant
    Create {
        name: String,
        #[arg(long, value_name = "ID")]
        tenant: u64,
        /// An IANA time zone, such as Europe/Amsterdam
        #[arg(long, default_value = "UTC")]
        time_zone: String,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Locations, all or a tenant's
    List(ListArgs),
    /// One location
    Show(OneArgs),
    /// Delete a location that has no routers any more
    Delete(OneArgs),
}

#[derive(Debug, Subcommand)]
pub(in super::super) enum RouterCommand {
    /// Make a router; without --credential it gets an access token, shown once
    Create {
        name: String,
        #[arg(long, value_name = "ID")]
        location: u64,
        /// How the router proves who it is
        #[arg(long, value_enum, default_value = "token")]
        credential: CredentialKind,
        /// The token, fingerprint or common name; a token is made if none is given
        #[arg(long)]
        value: Option<String>,
        /// With --credential password
        #[arg(long)]
        user: Option<String>,
        /// With --credential password
        #[arg(long, hide_env_values = true)]
        password: Option<String>,
        /// With --credential password, and only if it must be this one
        #[arg(long)]
        client_id: Option<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Routers, all, a tenant's or a location's
    List(ListArgs),
    /// One router
    Show(OneArgs),
    /// A router's connections of now
    Sessions(OneArgs),
    /// Delete a router and its devices; it is disconnected
    Delete(OneArgs),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in super::super) enum CredentialKind {
    Token,
    Password,
    Fingerprint,
    CommonName,
}

#[derive(Debug, Subcommand)]
pub(in super::super) enum DeviceCommand {
    /// Devices, all, a tenant's, a location's or a router's
    List(ListArgs),
    /// One device
    Show(OneArgs),
    /// Delete a device
    Delete(OneArgs),
}

#[derive(Debug, Subcommand)]
pub(in super::super) enum TokenCommand {
    /// Make a token; it is shown once
    Create {
        name: String,
        /// The one tenant that it opens; all without this
        #[arg(long, value_name = "ID")]
        tenant: Option<u64>,
        /// It may change nothing
        #[arg(long)]
        read_only: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Tokens, all or a tenant's; never their secret part
    List(ListArgs),
    /// One token
    Show(OneArgs),
    /// Revoke a token
    Delete(OneArgs),
}

#[derive(Debug, Subcommand)]
pub(in super::super) enum TelemetryCommand {
    /// The latest reading of each key of a device
    Latest {
        device: u64,
        /// Only these keys, separated by commas
        #[arg(long)]
        keys: Option<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Readings of one key, oldest first
    Range {
        device: u64,
        key: String,
        /// Milliseconds since 1970, or RFC 3339
        #[arg(long)]
        from: Option<String>,
        /// Likewise; the first time that is left out
        #[arg(long)]
        to: Option<String>,
        #[arg(long, default_value_t = 1_000)]
        limit: u32,
        /// Newest first
        #[arg(long)]
        newest_first: bool,
        #[command(flatten)]
        server: ServerArgs,
    },
}

#[derive(Debug, Args)]
pub(in super::super) struct RejectionArgs {
    /// Only what this tenant's routers sent
    #[arg(long, value_name = "ID")]
    pub(super) tenant: Option<u64>,
    #[arg(long, default_value_t = 100)]
    pub(super) limit: u32,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(in super::super) struct OneArgs {
    pub(super) id: u64,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(in super::super) struct ListArgs {
    #[arg(long, value_name = "ID")]
    pub(super) tenant: Option<u64>,
    #[arg(long, value_name = "ID")]
    pub(super) location: Option<u64>,
    #[arg(long, value_name = "ID")]
    pub(super) router: Option<u64>,
    /// Names that begin with this
    #[arg(long)]
    pub(super) name: Option<String>,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}
