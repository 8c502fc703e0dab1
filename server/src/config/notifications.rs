//! How people are told of alarms: by which mail relay and SMS provider.
//!
//! Secrets stand in files of their own, so that a configuration can be shown.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Notifications.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NotificationsConfig {
    /// Where people reach this installation with a browser, such as
    /// `https://baken.example.com`; without it messages bear no links, and SMS
    /// providers can't report what arrived.
    #[schema(format = "URL or empty")]
    pub public_url: String,
    /// Days that notices, messages and their log are kept.
    #[schema(minimum = 1, maximum = 36_500)]
    pub log_days: u32,
    /// E-mail by SMTP.
    #[schema(inline)]
    pub email: EmailConfig,
    /// SMS.
    #[schema(inline)]
    pub sms: SmsConfig,
    /// Requests to the tools of users.
    #[schema(inline)]
    pub webhook: WebhookConfig,
}

impl Default for NotificationsConfig {
    fn default() -> Self {
        Self {
            public_url: String::new(),
            log_days: 400,
            email: EmailConfig::default(),
            sms: SmsConfig::default(),
            webhook: WebhookConfig::default(),
        }
    }
}

/// E-mail by SMTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmailConfig {
    /// The mail relay; empty sends no e-mail.
    #[schema(format = "host name or empty")]
    pub host: String,
    #[doc = "The relay's port: 587 for `starttls`, 465 for `tls`."]
    #[schema(minimum = 1, maximum = 65_535)]
    pub port: u16,
    /// How the connection is encrypted: by STARTTLS, which must succeed, from its
    /// beginning, or not at all.
    #[schema(inline)]
    pub tls: EmailTls,
    /// The name to log in with; empty logs in nowhere.
    #[schema(format = "text or empty")]
    pub user: String,
    /// The file with the password, of which the first line counts.
    #[schema(value_type = String, format = "file or empty")]
    pub password_file: PathBuf,
    /// Who messages are from, such as `Baken <alarms@example.com>`.
    #[schema(format = "address or empty")]
    pub from: String,
    /// Where answers go; empty sends them to `from`.
    #[schema(format = "address or empty")]
    pub reply_to: String,
    /// What the relay is greeted with; empty takes the machine's name.
    #[schema(format = "host name or empty")]
    pub hello_name: String,
    /// What stands behind the @ of a Message-ID; empty takes the domain of `from`.
    #[schema(format = "host name or empty")]
    pub message_id_domain: String,
    /// Further authorities, PEM, whose certificates the relay may have.
    #[schema(value_type = String, format = "file or empty")]
    pub ca_file: PathBuf,
    /// Connections to the relay at once.
    #[schema(minimum = 1, maximum = 100)]
    pub max_connections: u32,
    /// How long handing one message over may take.
    #[schema(minimum = 100, maximum = 600_000)]
    pub timeout_ms: u64,
}

impl Default for EmailConfig {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 587,
            tls: EmailTls::Starttls,
            user: String::new(),
            password_file: PathBuf::new(),
            from: String::new(),
            reply_to: String::new(),
            hello_name: String::new(),
            message_id_domain: String::new(),
            ca_file: PathBuf::new(),
            max_connections: 4,
            timeout_ms: 30_000,
        }
    }
}

/// How a mail relay's connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EmailTls {
    Starttls,
    Tls,
    None,
}

/// SMS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SmsConfig {
    /// Who sends them; `none` sends no SMS.
    #[schema(inline)]
    pub provider: SmsProviderName,
    /// Who messages are from: at most 11 letters and digits, a number in the form
    /// of E.164, or a short code.
    #[schema(format = "sender or empty")]
    pub sender: String,
    /// How long handing one message over may take.
    #[schema(minimum = 100, maximum = 600_000)]
    pub timeout_ms: u64,
    /// Twilio.
    #[schema(inline)]
    pub twilio: TwilioConfig,
    /// CM.com.
    #[schema(inline)]
    pub cm: CmConfig,
    /// Any other gateway that takes HTTP.
    #[schema(inline)]
    pub http: HttpSmsConfig,
}

impl Default for SmsConfig {
    fn default() -> Self {
        Self {
            provider: SmsProviderName::None,
            sender: String::new(),
            timeout_ms: 20_000,
            twilio: TwilioConfig::default(),
            cm: CmConfig::default(),
            http: HttpSmsConfig::default(),
        }
    }
}

/// Who sends SMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SmsProviderName {
    None,
    Twilio,
    Cm,
    Http,
}

/// Twilio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TwilioConfig {
    /// The account, such as `AC…`.
    #[schema(format = "SID or empty")]
    pub account_sid: String,
    /// The file with the account's auth token.
    #[schema(value_type = String, format = "file or empty")]
    pub auth_token_file: PathBuf,
    /// A messaging service in the place of `sender`.
    #[schema(format = "SID or empty")]
    pub messaging_service_sid: String,
    /// Where the API is.
    #[schema(format = "URL")]
    pub base_url: String,
}

impl Default for TwilioConfig {
    fn default() -> Self {
        Self {
            account_sid: String::new(),
            auth_token_file: PathBuf::new(),
            messaging_service_sid: String::new(),
            base_url: "https://api.twilio.com".to_owned(),
        }
    }
}

/// CM.com.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CmConfig {
    /// The file with the product token.
    #[schema(value_type = String, format = "file or empty")]
    pub product_token_file: PathBuf,
    /// Where the gateway is.
    #[schema(format = "URL")]
    pub base_url: String,
}

impl Default for CmConfig {
    fn default() -> Self {
        Self {
            product_token_file: PathBuf::new(),
            base_url: "https://gw.messaging.cm.com".to_owned(),
        }
    }
}

/// Any gateway that takes HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSmsConfig {
    /// The file with the description of the gateway's request, TOML, as
    /// docs/reference/notifications.md describes it.
    #[schema(value_type = String, format = "file or empty")]
    pub file: PathBuf,
}

/// Requests to the tools of users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    /// How long one request may take.
    #[schema(minimum = 100, maximum = 600_000)]
    pub timeout_ms: u64,
    /// Whether a user's URL may name an address of this machine or of a private
    /// network. Whoever may change users can then reach what only this machine can.
    pub allow_private_addresses: bool,
    /// Whether a user's URL may be plain HTTP.
    pub allow_http: bool,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self { timeout_ms: 10_000, allow_private_addresses: false, allow_http: false }
    }
}
