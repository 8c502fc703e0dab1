//! Writes the messages of what is told: facts from the directory and the
//! transition's event, text by the templates.

use std::collections::BTreeMap;

use schema::{
    AlarmId, Channel, ClearReason, DeviceId, LocationId, Moment, Purpose, Recipient, Severity,
    TemplateKind, TenantId, TimestampMs,
};
use serde_json::Value;
use store::Directory;
use store::alarms::{DueNotice, DueRecipient, NewMessage, message_id};

use crate::decision::TellReason;
use crate::links::{self, Ask, LinkKey};
use crate::message::{
    self, MAX_LISTED, MessageFacts, NoticeFacts, RenderError, Rendered, TemplateError,
};
use crate::whom::{Reader, moment};

/// How long a link in a message works.
pub const LINK_LIFE_MS: i64 = 7 * 24 * 3_600_000;

/// What messages are written with.
#[derive(Clone, Debug)]
pub(crate) struct Composer {
    pub directory: Directory,
    /// Where people reach this installation, without a slash behind; without it
    /// messages bear no links.
    pub public_url: Option<String>,
    pub links: LinkKey,
}

/// A message, and why the tenant's own template was not taken where it failed.
pub(crate) struct Composed {
    pub message: NewMessage,
    pub own_failed: Option<TemplateError>,
}

impl Composer {
    /// One message of all these notices.
    pub fn compose(
        &self,
        due: &DueRecipient,
        reader: &Reader,
        told: &[(&DueNotice, TellReason)],
        now: TimestampMs,
    ) -> Result<Composed, RenderError> {
        let facts = self.facts(due, reader, told, now);
        let own = match due.channel {
            Channel::Webhook => None,
            channel => self.directory.template_of(due.tenant, channel, facts.language, facts.kind),
        };
        let id = message_id(told.iter().map(|(notice, _)| notice.id));
        let own = own.as_ref().map(|template| &template.body);
        let Rendered { content, own_failed } = message::render(due.channel, &facts, own)?;
        let message = NewMessage {
            id,
            tenant: due.tenant,
            recipient: due.recipient.clone(),
            channel: due.channel,
            address: reader.address.clone(),
            kind: facts.kind.as_str(),
            severity: facts.by_severity.first().map(|(severity, _)| *severity),
            content: serde_json::to_string(&content).expect("content has text keys only"),
            notices: told.iter().map(|(it, reason)| (it.sequence, reason.as_str())).collect(),
            copy_of: None,
        };
        Ok(Composed { message, own_failed })
    }

    fn facts(
        &self,
        due: &DueRecipient,
        reader: &Reader,
        told: &[(&DueNotice, TellReason)],
        now: TimestampMs,
    ) -> MessageFacts {
        // Of each alarm the last that happened says it all.
        let mut last: BTreeMap<AlarmId, &DueNotice> = BTreeMap::new();
        for (notice, _) in told {
            last.insert(notice.alarm, notice);
        }
        let mut alarms: Vec<&DueNotice> = last.into_values().collect();
        alarms.sort_by_key(|notice| (notice.event.at, notice.sequence));
        let mut counts: BTreeMap<Severity, usize> = BTreeMap::new();
        for notice in &alarms {
            *counts.entry(notice.event.severity).or_default() += 1;
        }
        let kind = match &alarms[..] {
            [one] => kind(one),
            _ => TemplateKind::Digest,
        };
        let listed = &alarms[alarms.len().saturating_sub(MAX_LISTED)..];
        MessageFacts {
            kind,
            tenant: self.tenant_name(due.tenant),
            recipient: reader.name.clone(),
            language: reader.language,
            time_zone: reader.time_zone.clone(),
            now,
            notices: listed.iter().map(|it| self.notice(it, &due.recipient, now)).collect(),
            total: alarms.len(),
            by_severity: counts.into_iter().rev().collect(),
            over: alarms.iter().filter(|notice| !notice.state.active).count(),
            unsubscribe: self.unsubscribe(&due.recipient, told[0].0.source, now),
        }
    }

    pub fn tenant_name(&self, id: TenantId) -> String {
        self.directory.tenant(id).map(|tenant| tenant.name.clone()).unwrap_or_default()
    }

    fn unsubscribe(&self, recipient: &Recipient, source: u64, now: TimestampMs) -> Option<String> {
        let base = self.public_url.as_deref()?;
        let ask = match self.directory.subscription(source) {
            Some(_) => Ask::Subscription(source),
            None => Ask::OfflineProfile(source),
        };
        let expires = TimestampMs(now.0.saturating_add(LINK_LIFE_MS));
        let token = links::unsubscribe(&self.links, recipient, ask, expires);
        Some(links::url(base, &token))
    }

    fn acknowledge(
        &self,
        notice: &DueNotice,
        recipient: &Recipient,
        now: TimestampMs,
    ) -> Option<String> {
        let base = self.public_url.as_deref()?;
        if notice.state.acknowledged || !notice.state.active {
            return None;
        }
        let expires = TimestampMs(now.0.saturating_add(LINK_LIFE_MS));
        let token = links::acknowledge(&self.links, notice.alarm, recipient, notice.id, expires);
        Some(links::url(base, &token))
    }

    fn notice(&self, notice: &DueNotice, recipient: &Recipient, now: TimestampMs) -> NoticeFacts {
        let body: Value = serde_json::from_str(&notice.event.body).unwrap_or_default();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let location = notice.event.location.and_then(|id| self.directory.location(LocationId(id)));
        let device = notice.event.device.and_then(|id| self.directory.device(DeviceId(id)));
        let values = body["values"]
            .as_object()
            .map(|values| values.iter().map(|(key, value)| (key.clone(), value.clone())).collect());
        let state = &notice.state;
        NoticeFacts {
            transition: notice.transition,
            alarm: notice.alarm,
            moment: moment(notice),
            rule: state.rule.key.to_string(),
            system: state.is_system,
            description: text("description"),
            severity: notice.event.severity,
            highest: state.highest,
            severity_before: serde_json::from_value(body["from"].clone()).ok(),
            at: notice.event.at,
            learned_at: TimestampMs(body["received_at"].as_i64().unwrap_or(notice.event.at.0)),
            raised_at: state.raised_at,
            cleared_at: state.cleared_at,
            clear_reason: state.cleared_reason.as_deref().and_then(clear_reason),
            acknowledged: state.acknowledged,
            acknowledged_by: state.acknowledged_by.clone(),
            by: notice.event.by.clone(),
            location: location.map(|location| location.name.clone()),
            device: device.map(|device| device.name.clone()),
            values: values.unwrap_or_default(),
            acknowledge: self.acknowledge(notice, recipient, now),
        }
    }
}

fn kind(notice: &DueNotice) -> TemplateKind {
    match (notice.purpose, moment(notice)) {
        (Purpose::Escalated, _) => TemplateKind::Escalated,
        (Purpose::Reminder(_), _) => TemplateKind::Reminder,
        (Purpose::Told, Moment::Raised) => TemplateKind::Raised,
        (Purpose::Told, Moment::SeverityChanged) => TemplateKind::SeverityChanged,
        (Purpose::Told, Moment::Acknowledged) => TemplateKind::Acknowledged,
        (Purpose::Told, Moment::Cleared) => TemplateKind::Cleared,
    }
}

fn clear_reason(text: &str) -> Option<ClearReason> {
    serde_json::from_value(Value::from(text)).ok()
}
