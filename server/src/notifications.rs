//! Makes the notifier of the configuration: the relay, the provider, the keys.

mod gateway;

use std::path::Path;
use std::sync::Arc;

use alarms::AlarmWorkers;
use anyhow::{Context as _, bail};
use journal::Journal;
use notifier::channel::Plain;
use notifier::email::{EmailOptions, EmailSender, Tls};
use notifier::links::LinkKey;
use notifier::sms::callback::CallbackKey;
use notifier::sms::cm::{Cm, CmOptions};
use notifier::sms::http::Http;
use notifier::sms::twilio::{SendAs, Twilio, TwilioOptions};
use notifier::sms::{Sender, SmsProvider};
use notifier::webhook::{WebhookOptions, WebhookSender};
use notifier::{Alarming, Notifier, NotifierParts, Providers, SystemAlarmChange, Unseal};
use prometheus::Registry;
use store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{
    EmailConfig, EmailTls, NotificationsConfig, SmsConfig, SmsProviderName, WebhookConfig,
};
use crate::secret::{self, Secret, webhook_context};

/// Keeps the keys apart that are made of the installation's secret. Stable:
/// links and addresses that are out there were signed with them.
const LINKS: &str = "links";
const CALLBACKS: &str = "sms callbacks";

/// The key that signs the links of messages.
pub(crate) fn link_key(secret: &Secret) -> LinkKey {
    LinkKey::new(secret.derive(LINKS))
}

/// The name of the notifier's work, which one node does at a time.
const ROLE: &str = "notifier";

/// The work of telling people, on this node or waiting for its turn.
#[derive(Debug)]
pub(crate) struct Telling {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Telling {
    /// Begins when the work is this node's.
    pub fn start(
        notifier: &Arc<Notifier>,
        journal: &Journal,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let assignment = journal.assignment(ROLE, registry).context("cannot join the notifiers")?;
        let (stop, stopping) = watch::channel(false);
        let notifier = Arc::clone(notifier);
        let begin = move |ending| {
            let notifier = Arc::clone(&notifier);
            async move { notifier.work(ending).await }
        };
        Ok(Self { stop, task: tokio::spawn(assignment.run_once(stopping, begin)) })
    }

    /// What is with a provider is waited for, what is queued stays.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the notifier failed");
        }
    }
}

/// Puts the notifier together.
pub(crate) fn notifier(
    config: &NotificationsConfig,
    store: &Store,
    secret: &Secret,
    alarms: &Arc<AlarmWorkers>,
    registry: &Registry,
) -> anyhow::Result<Notifier> {
    let callbacks = CallbackKey::new(&secret.derive(CALLBACKS));
    let providers = Providers {
        email: email(&config.email).context("notifications.email")?,
        sms: sms(&config.sms, callbacks.clone()).context("notifications.sms")?,
        reports: some(&config.public_url).map(|url| (callbacks, url)),
        webhook: WebhookSender::new(webhook_options(&config.webhook))
            .context("notifications.webhook")?,
    };
    let commands = alarms.commands().clone();
    let alarming = Alarming::new(move |change: SystemAlarmChange| {
        let commands = commands.clone();
        async move {
            let SystemAlarmChange { tenant, key, active, severity, description } = change;
            commands
                .tenant_alarm(tenant, key, active, severity, description, Vec::new())
                .await
                .map_err(|error| error.to_string())
        }
    });
    let opener = secret.clone();
    let unseal = Unseal::new(move |tenant, sealed| {
        let opened = opener.unseal(&webhook_context(tenant), sealed);
        opened.map(Plain).map_err(|error| error.to_string())
    });
    let parts = NotifierParts {
        directory: store.directory().clone(),
        store: store.alarms().clone(),
        providers,
        unseal,
        alarming,
        links: link_key(secret),
        public_url: some(&config.public_url),
        log_days: config.log_days,
    };
    Notifier::new(parts, registry).context("cannot start the notifier")
}

/// What a user's webhook may be.
pub(crate) fn webhook_options(config: &WebhookConfig) -> WebhookOptions {
    WebhookOptions {
        timeout_ms: config.timeout_ms,
        allow_private_addresses: config.allow_private_addresses,
        allow_http: config.allow_http,
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn secret_file(setting: &str, path: &Path) -> anyhow::Result<Plain> {
    secret::first_line(setting, path).map(Plain)
}

fn email(config: &EmailConfig) -> anyhow::Result<Option<EmailSender>> {
    if config.host.is_empty() {
        return Ok(None);
    }
    let user = some(&config.user);
    let password = match &user {
        Some(_) => Some(secret_file("password_file", &config.password_file)?),
        None => None,
    };
    let domain = config.from.rsplit_once('@').map(|(_, domain)| domain.trim_end_matches('>'));
    let options = EmailOptions {
        host: config.host.clone(),
        port: config.port,
        tls: match config.tls {
            EmailTls::Starttls => Tls::StartTls,
            EmailTls::Tls => Tls::Tls,
            EmailTls::None => Tls::None,
        },
        user,
        password,
        from: config.from.clone(),
        reply_to: some(&config.reply_to),
        hello_name: some(&config.hello_name),
        message_id_domain: some(&config.message_id_domain)
            .unwrap_or_else(|| domain.unwrap_or_default().to_owned()),
        ca_file: (!config.ca_file.as_os_str().is_empty()).then(|| config.ca_file.clone()),
        max_connections: config.max_connections,
        timeout_ms: config.timeout_ms,
    };
    Ok(Some(EmailSender::new(&options)?))
}

fn sms(config: &SmsConfig, key: CallbackKey) -> anyhow::Result<Option<Arc<dyn SmsProvider>>> {
    let sender = || Sender::parse("sender", &config.sender);
    Ok(Some(match config.provider {
        SmsProviderName::None => return Ok(None),
        SmsProviderName::Twilio => {
            let twilio = &config.twilio;
            let send_as = match some(&twilio.messaging_service_sid) {
                Some(service) => SendAs::MessagingService(service),
                None => SendAs::Sender(sender()?),
            };
            let token = secret_file("twilio.auth_token_file", &twilio.auth_token_file)?;
            let options = TwilioOptions {
                base_url: twilio.base_url.clone(),
                timeout_ms: config.timeout_ms,
                ..TwilioOptions::new(twilio.account_sid.clone(), token, send_as)
            };
            Arc::new(Twilio::new(options)?)
        }
        SmsProviderName::Cm => {
            let token = secret_file("cm.product_token_file", &config.cm.product_token_file)?;
            let options = CmOptions {
                base_url: config.cm.base_url.clone(),
                timeout_ms: config.timeout_ms,
                ..CmOptions::new(token, sender()?, key)
            };
            Arc::new(Cm::new(options)?)
        }
        SmsProviderName::Http => {
            let path = &config.http.file;
            if path.as_os_str().is_empty() {
                bail!("`http.file` is empty, but must name a file");
            }
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("`http.file`: cannot read {}", path.display()))?;
            let gateway: gateway::Gateway =
                toml::from_str(&text).with_context(|| format!("`http.file` {}", path.display()))?;
            Arc::new(Http::new(gateway.options(sender()?, config.timeout_ms, key)?)?)
        }
    }))
}
