//! Who is to be told of a transition: the notices that go into its transaction.
//!
//! It follows from documents that the directory holds in memory, and is the one
//! step of a notification that is the alarm worker's. Whether, when and how
//! somebody is told is the notifier's to decide.

use std::collections::HashMap;

use schema::{
    Channel, Moment, OfflineProfile, ProfileId, Purpose, Recipient, RuleChoice, Severity,
    Subscription, TimestampMs, Transition, TransitionKind,
};
use store::alarms::{AlarmStoreError, NewNotice};
use store::{AlarmStore, Directory};

/// The key of the system rule that offline profiles are about.
const OFFLINE_RULE: &str = "router_offline";

/// Finds who is to be told.
#[derive(Debug)]
pub(crate) struct Audience {
    directory: Directory,
    store: AlarmStore,
    /// Whether a profile is one of system alarms, which never changes.
    system: HashMap<ProfileId, bool>,
}

/// What a transition is to somebody who asks for alarms from a severity up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct News {
    moment: Moment,
    severity: Severity,
    /// The severity before; of a change only.
    before: Option<Severity>,
}

impl News {
    fn of(transition: &Transition) -> Option<Self> {
        let (moment, before) = match &transition.kind {
            TransitionKind::Raised => (Moment::Raised, None),
            TransitionKind::SeverityChanged { from } => (Moment::SeverityChanged, Some(*from)),
            TransitionKind::Acknowledged => (Moment::Acknowledged, None),
            TransitionKind::Cleared { .. } => (Moment::Cleared, None),
            TransitionKind::Updated { .. }
            | TransitionKind::Unacknowledged
            | TransitionKind::Shelved { .. }
            | TransitionKind::Unshelved { .. }
            | TransitionKind::Suppressed { .. }
            | TransitionKind::Commented { .. }
            | TransitionKind::Assigned { .. } => return None,
        };
        Some(Self { moment, severity: transition.severity, before })
    }

    /// For somebody who asks from `from` up, an alarm that rises to it begins,
    /// and one that falls below it ends.
    fn matches(self, subscription: &Subscription) -> bool {
        let from = subscription.severity_from;
        let asks = |moment| subscription.on.contains(&moment);
        match self.before {
            Some(before) if before < from && self.severity >= from => {
                asks(Moment::Raised) || asks(Moment::SeverityChanged)
            }
            Some(before) if before >= from && self.severity < from => {
                asks(Moment::Cleared) || asks(Moment::SeverityChanged)
            }
            Some(_) | None => self.severity >= from && asks(self.moment),
        }
    }

    /// Whether the alarm begins for somebody who asks from `from` up.
    fn begins(self, from: Severity) -> bool {
        let rises = self.before.is_some_and(|before| before < from && self.severity >= from);
        self.moment == Moment::Raised || rises
    }
}

/// Somebody who asks for the transition, before those who ask twice are one.
struct Asking {
    recipient: Recipient,
    channel: Channel,
    purpose: Purpose,
    source: u64,
    delay_ms: i64,
    due_at: TimestampMs,
}

impl Audience {
    pub fn new(directory: Directory, store: AlarmStore) -> Self {
        Self { directory, store, system: HashMap::new() }
    }

    /// The notices of transitions, in their order.
    pub async fn notices(
        &mut self,
        transitions: &[Transition],
        now: TimestampMs,
    ) -> Result<Vec<NewNotice>, AlarmStoreError> {
        let mut notices = Vec::new();
        for transition in transitions {
            let Some(news) = News::of(transition) else { continue };
            let subscriptions = self.directory.subscriptions_of(transition.tenant);
            let offline = match &*transition.rule.key {
                OFFLINE_RULE => self.directory.offline_profiles_of(transition.tenant),
                _ => [].into(),
            };
            if subscriptions.is_empty() && offline.is_empty() {
                continue;
            }
            let is_system = self.is_system(transition.rule.profile).await?;
            let found = transition.location.and_then(|id| self.directory.location(id));
            let groups = found.as_ref().map_or(&[][..], |found| found.groups.as_slice());
            let place = transition.location.map(|id| (id, groups));
            let mut asking = Vec::new();
            for entry in subscriptions.iter() {
                if entry.scope.covers(place)
                    && names(&entry.rules, transition, is_system)
                    && news.matches(entry)
                {
                    subscribed(entry.id, entry, news, transition, &mut asking);
                }
            }
            for entry in offline.iter().filter(|_| is_system) {
                if entry.scope.covers(place) {
                    self.offline(entry.id, entry, news, transition, &mut asking);
                }
            }
            merge(transition, asking, now, &mut notices);
        }
        Ok(notices)
    }

    async fn is_system(&mut self, profile: ProfileId) -> Result<bool, AlarmStoreError> {
        if let Some(known) = self.system.get(&profile) {
            return Ok(*known);
        }
        let is_system = self.store.is_system_profile(profile).await?;
        self.system.insert(profile, is_system);
        Ok(is_system)
    }

    fn offline(
        &self,
        id: u64,
        profile: &OfflineProfile,
        news: News,
        transition: &Transition,
        asking: &mut Vec<Asking>,
    ) {
        let delay_ms = match news.moment {
            Moment::Raised => i64::from(profile.after_s) * 1_000,
            Moment::Cleared if profile.when_back => 0,
            Moment::Cleared | Moment::SeverityChanged | Moment::Acknowledged => return,
        };
        // The alarm itself came when the router had been away for its own delay.
        let tenant = self.directory.tenant(transition.tenant);
        let own_ms = tenant
            .map_or(0, |tenant| i64::from(tenant.settings.system_alarms.offline.delay_s) * 1_000);
        let wait_ms = (delay_ms - own_ms).max(0);
        let due_at = TimestampMs(transition.received_at.0.saturating_add(wait_ms));
        let mut ask = |recipient: Recipient, channel| {
            let (purpose, source) = (Purpose::Told, id);
            let delay_ms = wait_ms;
            asking.push(Asking { recipient, channel, purpose, source, delay_ms, due_at });
        };
        for user in &profile.users {
            for channel in &profile.channels {
                ask(Recipient::User(*user), *channel);
            }
        }
        for (addresses, channel) in
            [(&profile.emails, Channel::Email), (&profile.phones, Channel::Sms)]
        {
            for address in addresses {
                ask(Recipient::Address(address.clone()), channel);
            }
        }
    }
}

fn names(rules: &[RuleChoice], transition: &Transition, is_system: bool) -> bool {
    let profile = if is_system { ProfileId::SYSTEM } else { transition.rule.profile };
    let is_named = |rule: &RuleChoice| {
        let is_key = |key: &String| {
            // Limits and troubles have a key of their own for each thing.
            let whole = &*transition.rule.key;
            whole == key || (is_system && whole.split('/').next() == Some(key))
        };
        rule.profile == profile && rule.key.as_ref().is_none_or(is_key)
    };
    rules.is_empty() || rules.iter().any(is_named)
}

fn subscribed(
    id: u64,
    subscription: &Subscription,
    news: News,
    transition: &Transition,
    asking: &mut Vec<Asking>,
) {
    let escalates =
        subscription.unacknowledged_for_s > 0 && news.begins(subscription.severity_from);
    let (purpose, delay_ms) = match escalates {
        true => (Purpose::Escalated, i64::from(subscription.unacknowledged_for_s) * 1_000),
        false => (Purpose::Told, 0),
    };
    let due_at = TimestampMs(transition.received_at.0.saturating_add(delay_ms));
    for channel in &subscription.channels {
        let recipient = Recipient::User(subscription.user);
        let (channel, source) = (*channel, id);
        asking.push(Asking { recipient, channel, purpose, source, delay_ms, due_at });
    }
}

/// Who asks twice is told once, by what is due first.
fn merge(
    transition: &Transition,
    mut asking: Vec<Asking>,
    now: TimestampMs,
    notices: &mut Vec<NewNotice>,
) {
    asking.sort_by(|a, b| {
        let key =
            |it: &Asking| (it.channel, it.purpose == Purpose::Escalated, it.due_at, it.source);
        a.recipient.cmp(&b.recipient).then(key(a).cmp(&key(b)))
    });
    asking.dedup_by(|later, first| {
        later.recipient == first.recipient
            && later.channel == first.channel
            && later.purpose == first.purpose
    });
    notices.extend(asking.into_iter().map(|it| NewNotice {
        tenant: transition.tenant,
        transition: transition.id,
        alarm: transition.alarm,
        recipient: it.recipient,
        channel: it.channel,
        purpose: it.purpose,
        source: it.source,
        made_at: now,
        delay_ms: it.delay_ms,
        due_at: it.due_at,
    }));
}
