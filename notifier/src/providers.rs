//! The ways out of this installation, as they are configured.

use std::fmt;
use std::sync::Arc;

use schema::{Channel, Sealed, TenantId};

use crate::channel::{Outcome, Outgoing, Plain};
use crate::email::EmailSender;
use crate::sms::callback::{CallbackKey, callback_url};
use crate::sms::{SmsProvider, SmsRequest};
use crate::webhook::WebhookSender;

/// Requests to webhooks at once.
const WEBHOOKS_AT_ONCE: usize = 16;

/// Messages that an SMS provider is given at once.
const SMS_AT_ONCE: usize = 4;

/// What hands messages over; a channel that is not configured is none.
#[derive(Debug)]
pub struct Providers {
    pub email: Option<EmailSender>,
    pub sms: Option<Arc<dyn SmsProvider>>,
    /// How an SMS provider's reports are signed, and where they reach us; without
    /// it there are none.
    pub reports: Option<(CallbackKey, String)>,
    pub webhook: WebhookSender,
}

impl Providers {
    /// Whether the channel is configured.
    #[must_use]
    pub fn is_there(&self, channel: Channel) -> bool {
        match channel {
            Channel::Email => self.email.is_some(),
            Channel::Sms => self.sms.is_some(),
            Channel::Webhook => true,
        }
    }

    /// Messages that may be with the channel at once.
    #[must_use]
    pub fn at_once(&self, channel: Channel) -> usize {
        match channel {
            Channel::Email => self.email.as_ref().map_or(1, EmailSender::max_connections),
            Channel::Sms => SMS_AT_ONCE,
            Channel::Webhook => WEBHOOKS_AT_ONCE,
        }
    }

    /// Hands a message over.
    pub async fn send(&self, message: &Outgoing) -> Outcome {
        match (message.channel, &self.email, &self.sms) {
            (Channel::Email, Some(email), _) => email.send(message).await,
            (Channel::Sms, _, Some(sms)) => self.send_sms(&**sms, message).await,
            (Channel::Webhook, _, _) => self.webhook.send(message).await,
            (channel, _, _) => Outcome::Later {
                answer: format!("{channel} is not configured"),
                after: None,
                whole_provider: true,
            },
        }
    }

    async fn send_sms(&self, sms: &dyn SmsProvider, message: &Outgoing) -> Outcome {
        let callback = self
            .reports
            .as_ref()
            .map(|(key, public_url)| callback_url(key, public_url, sms.name(), Some(message.id)));
        let (to, text) = (message.to.clone(), message.content.text.clone());
        sms.send(&SmsRequest { id: message.id, to, text, callback }).await
    }
}

type Open = dyn Fn(TenantId, &Sealed) -> Result<Plain, String> + Send + Sync;

/// Opens the secrets of webhooks; only the server has the key.
#[derive(Clone)]
pub struct Unseal(Arc<Open>);

impl Unseal {
    /// The function says why a secret can't be opened, without showing any of it.
    pub fn new(
        open: impl Fn(TenantId, &Sealed) -> Result<Plain, String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(open))
    }

    pub(crate) fn open(&self, tenant: TenantId, secret: &Sealed) -> Result<Plain, String> {
        (self.0)(tenant, secret)
    }
}

impl fmt::Debug for Unseal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unseal")
    }
}
