//! The part of the model that says who is told of alarms.

use proptest::prelude::*;
use schema::{
    Channel, ChannelLimits, DocumentBody, Language, LocationId, MessageTemplate, Moment,
    OfflineProfile, Scope, Severity, Subscription, TemplateKind, TenantId, User, UserId,
};
use store::ListQuery;

use super::naive::Model;
use super::{Run, agree, pick};

#[derive(Clone, Debug)]
pub(super) enum Step {
    User { tenant: u8, name: u8, reach: u8 },
    Reach { user: u8, reach: u8 },
    Subscribe { user: u8, channels: u8, places: Vec<u8>, group: bool, enabled: bool },
    Offline { tenant: u8, name: u8, users: Vec<u8>, places: Vec<u8>, address: bool },
    Template { tenant: u8, text: u8 },
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let some = || prop::collection::vec(any::<u8>(), 0..3);
    prop_oneof![
        3 => (any::<u8>(), 0..6u8, 0..4u8)
            .prop_map(|(tenant, name, reach)| Step::User { tenant, name, reach }),
        2 => (any::<u8>(), 0..4u8).prop_map(|(user, reach)| Step::Reach { user, reach }),
        4 => (any::<u8>(), 0..4u8, some(), any::<bool>(), any::<bool>()).prop_map(
            |(user, channels, places, group, enabled)| {
                Step::Subscribe { user, channels, places, group, enabled }
            }
        ),
        2 => (any::<u8>(), 0..6u8, some(), some(), any::<bool>()).prop_map(
            |(tenant, name, users, places, address)| {
                Step::Offline { tenant, name, users, places, address }
            }
        ),
        1 => (any::<u8>(), 0..4u8).prop_map(|(tenant, text)| Step::Template { tenant, text }),
    ]
}

fn channels(bits: u8) -> Vec<Channel> {
    let all = [(1, Channel::Email), (2, Channel::Sms)];
    all.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, channel)| channel).collect()
}

fn user(tenant: TenantId, name: String, reach: u8) -> User {
    let has = |channel| channels(reach).contains(&channel);
    User {
        tenant,
        name,
        email: has(Channel::Email).then(|| "eva@example.com".to_owned()),
        phone: has(Channel::Sms).then(|| "+31612345678".to_owned()),
        webhook: None,
        language: Language::Nl,
        time_zone: "Europe/Amsterdam".to_owned(),
        quiet_hours: Vec::new(),
        limits: ChannelLimits::default(),
        enabled: true,
    }
}

fn has_twice<T: PartialEq>(list: &[T]) -> bool {
    (1..list.len()).any(|n| list[..n].contains(&list[n]))
}

impl Model {
    fn users(&self) -> Vec<u64> {
        self.ids(|body| matches!(body, DocumentBody::User(_)))
    }

    fn user(&self, id: UserId) -> &User {
        let DocumentBody::User(user) = &self.documents[&id.0].1 else { unreachable!() };
        user
    }

    fn is_at(&self, location: LocationId, tenant: TenantId) -> bool {
        match self.documents.get(&location.0) {
            Some((_, DocumentBody::Location(found))) => found.tenant == tenant,
            _ => false,
        }
    }

    fn refuses_scope(&self, scope: &Scope, tenant: TenantId) -> bool {
        has_twice(&scope.locations)
            || scope.locations.iter().any(|location| !self.is_at(*location, tenant))
    }

    /// Whether another document has the name, in a tenant and of a kind.
    fn is_named(&self, id: u64, named: impl Fn(&DocumentBody) -> bool) -> bool {
        self.documents.iter().any(|(&other, (_, body))| other != id && named(body))
    }

    fn refuses_user(&self, id: u64, new: &User) -> Option<&'static str> {
        let reached = |channels: &[Channel]| channels.iter().all(|it| new.contact(*it).is_some());
        let needs_more = self.documents.values().any(|(_, body)| match body {
            DocumentBody::Subscription(it) => it.user.0 == id && !reached(&it.channels),
            DocumentBody::OfflineProfile(it) => {
                it.users.contains(&UserId(id)) && !reached(&it.channels)
            }
            _ => false,
        });
        if needs_more {
            return Some("invalid");
        }
        self.is_named(id, |body| {
            matches!(body, DocumentBody::User(u) if u.tenant == new.tenant && u.name == new.name)
        })
        .then_some("name_taken")
    }

    fn refuses_subscription(&self, new: &Subscription) -> Option<&'static str> {
        let user = self.user(new.user);
        let reached = new.channels.iter().all(|channel| user.contact(*channel).is_some());
        let is_fine =
            reached && !new.channels.is_empty() && !self.refuses_scope(&new.scope, new.tenant);
        (!is_fine).then_some("invalid")
    }

    fn refuses_profile(&self, id: u64, new: &OfflineProfile) -> Option<&'static str> {
        let is_told = |id: &UserId| {
            let user = self.user(*id);
            let reached = new.channels.iter().all(|channel| user.contact(*channel).is_some());
            user.tenant == new.tenant && reached
        };
        let nobody = new.users.is_empty() && new.emails.is_empty();
        if nobody
            || has_twice(&new.users)
            || !new.users.iter().all(is_told)
            || self.refuses_scope(&new.scope, new.tenant)
        {
            return Some("invalid");
        }
        self.is_named(id, |body| {
            matches!(body, DocumentBody::OfflineProfile(p) if p.tenant == new.tenant && p.name == new.name)
        })
        .then_some("name_taken")
    }

    /// Changes what can be changed of a body, and says whether that is refused.
    pub fn told_renamed(
        &self,
        id: u64,
        body: &mut DocumentBody,
        name: &str,
    ) -> Option<&'static str> {
        match body {
            DocumentBody::User(user) => {
                name.clone_into(&mut user.name);
                self.refuses_user(id, user)
            }
            DocumentBody::OfflineProfile(profile) => {
                name.clone_into(&mut profile.name);
                self.refuses_profile(id, profile)
            }
            DocumentBody::Subscription(subscription) => {
                subscription.enabled = !subscription.enabled;
                self.refuses_subscription(subscription)
            }
            DocumentBody::MessageTemplate(template) => {
                name.clone_into(&mut template.text);
                None
            }
            _ => unreachable!("the others are renamed by themselves"),
        }
    }

    pub fn has_locations(&self, tenant: u64) -> bool {
        self.documents.values().any(
            |(_, body)| matches!(body, DocumentBody::Location(found) if found.tenant.0 == tenant),
        )
    }

    pub fn is_last_recipient(&self, user: u64) -> bool {
        self.documents.values().any(|(_, body)| {
            matches!(body, DocumentBody::OfflineProfile(profile)
                if profile.users == [UserId(user)] && profile.emails.is_empty())
        })
    }

    /// What a user or location that is gone leaves behind.
    pub fn leave(&mut self, gone: u64) {
        self.documents.retain(|_, (version, body)| {
            let was = body.clone();
            let places = match body {
                DocumentBody::Subscription(subscription) => &mut subscription.scope.locations,
                DocumentBody::OfflineProfile(profile) => {
                    profile.users.retain(|user| user.0 != gone);
                    &mut profile.scope.locations
                }
                _ => return true,
            };
            let many = places.len();
            places.retain(|location| location.0 != gone);
            let left_one = places.len() < many;
            let is_empty = places.is_empty();
            if *body != was {
                *version += 1;
            }
            let groups = match body {
                DocumentBody::Subscription(subscription) => &subscription.scope.groups,
                DocumentBody::OfflineProfile(profile) => &profile.scope.groups,
                _ => unreachable!(),
            };
            !(left_one && is_empty && groups.is_empty())
        });
    }
}

impl Run {
    pub(super) async fn apply_told(&mut self, step: Step) {
        match step {
            Step::User { tenant, name, reach } => {
                let Some(tenant) = pick(&self.model.tenants(), tenant) else { return };
                let body = user(TenantId(tenant), format!("n{name}"), reach);
                let refusal = self.model.refuses_user(0, &body);
                self.make(DocumentBody::User(body), refusal).await;
            }
            Step::Reach { user: n, reach } => {
                let Some(id) = pick(&self.model.users(), n).map(UserId) else { return };
                let was = self.model.user(id);
                let body = user(was.tenant, was.name.clone(), reach);
                let refusal = self.model.refuses_user(id.0, &body);
                let version = self.model.documents[&id.0].0;
                let body = DocumentBody::User(body);
                let changed = self.directory.update(id.0, Some(version), body.clone()).await;
                if agree(changed, refusal).is_some() {
                    self.model.documents.insert(id.0, (version + 1, body));
                }
            }
            Step::Subscribe { user, channels: bits, places, group, enabled } => {
                let Some(user) = pick(&self.model.users(), user).map(UserId) else { return };
                let body = Subscription {
                    tenant: self.model.user(user).tenant,
                    user,
                    scope: self.scope(&places, group),
                    channels: channels(bits),
                    rules: Vec::new(),
                    severity_from: Severity::Minor,
                    on: vec![Moment::Raised],
                    unacknowledged_for_s: 0,
                    repeat_s: 0,
                    enabled,
                };
                let refusal = self.model.refuses_subscription(&body);
                self.make(DocumentBody::Subscription(body), refusal).await;
            }
            Step::Offline { tenant, name, users, places, address } => {
                let Some(tenant) = pick(&self.model.tenants(), tenant).map(TenantId) else {
                    return;
                };
                let known = self.model.users();
                let users: Vec<UserId> =
                    users.iter().filter_map(|n| pick(&known, *n)).map(UserId).collect();
                let body = OfflineProfile {
                    tenant,
                    name: format!("n{name}"),
                    scope: self.scope(&places, false),
                    after_s: 600,
                    repeat_s: 0,
                    users,
                    channels: vec![Channel::Email],
                    emails: address.then(|| "desk@example.com".to_owned()).into_iter().collect(),
                    phones: Vec::new(),
                    language: Language::En,
                    time_zone: "UTC".to_owned(),
                    when_back: true,
                    enabled: true,
                };
                let refusal = self.model.refuses_profile(0, &body);
                self.make(DocumentBody::OfflineProfile(body), refusal).await;
            }
            Step::Template { tenant, text } => {
                let Some(tenant) = pick(&self.model.tenants(), tenant).map(TenantId) else {
                    return;
                };
                let kind = TemplateKind::ALL[usize::from(text)];
                let taken = self.model.is_named(0, |body| {
                    matches!(body, DocumentBody::MessageTemplate(t) if t.tenant == tenant && t.kind == kind)
                });
                let body = MessageTemplate {
                    tenant,
                    channel: Channel::Sms,
                    language: Language::Nl,
                    kind,
                    subject: None,
                    text: "t".to_owned(),
                    html: None,
                };
                let refusal = taken.then_some("template_taken");
                self.make(DocumentBody::MessageTemplate(body), refusal).await;
            }
        }
    }

    fn scope(&self, places: &[u8], group: bool) -> Scope {
        let known = self.model.locations();
        let locations = places.iter().filter_map(|n| pick(&known, *n)).map(LocationId).collect();
        Scope { locations, groups: group.then(|| "Coast".to_owned()).into_iter().collect() }
    }

    async fn make(&mut self, body: DocumentBody, refusal: Option<&'static str>) {
        let made = self.directory.create(body.clone()).await;
        if let Some(made) = agree(made, refusal) {
            self.model.documents.insert(made.id, (1, body));
        }
    }

    pub(super) fn found_told(&self, id: u64, body: &DocumentBody) -> Option<(u64, DocumentBody)> {
        let d = &self.directory;
        match body {
            DocumentBody::User(_) => {
                d.user(UserId(id)).map(|e| (e.version, DocumentBody::User(e.body.clone())))
            }
            DocumentBody::Subscription(_) => {
                d.subscription(id).map(|e| (e.version, DocumentBody::Subscription(e.body.clone())))
            }
            DocumentBody::OfflineProfile(_) => d
                .offline_profile(id)
                .map(|e| (e.version, DocumentBody::OfflineProfile(e.body.clone()))),
            DocumentBody::MessageTemplate(t) => {
                let held = d.template_of(t.tenant, t.channel, t.language, t.kind);
                assert_eq!(held.map(|entry| entry.id), Some(id));
                d.message_template(id)
                    .map(|e| (e.version, DocumentBody::MessageTemplate(e.body.clone())))
            }
            _ => unreachable!("the others are found by themselves"),
        }
    }

    /// How many the lists have, all of which the model must have too.
    pub(super) fn compare_told(&self) -> usize {
        let (d, model) = (&self.directory, &self.model);
        let all = ListQuery::default();
        for tenant in model.tenants().into_iter().map(TenantId) {
            let told: Vec<u64> = d.subscriptions_of(tenant).iter().map(|entry| entry.id).collect();
            let wanted = model.ids(|body| {
                matches!(body, DocumentBody::Subscription(s) if s.tenant == tenant && s.enabled)
            });
            assert_eq!(told, wanted);
            let told: Vec<u64> =
                d.offline_profiles_of(tenant).iter().map(|entry| entry.id).collect();
            let wanted = model
                .ids(|body| matches!(body, DocumentBody::OfflineProfile(p) if p.tenant == tenant));
            assert_eq!(told, wanted);
        }
        for user in model.users().into_iter().map(UserId) {
            let query = ListQuery { user: Some(user), ..ListQuery::default() };
            let listed: Vec<u64> = d.subscriptions(&query).items.iter().map(|e| e.id).collect();
            let wanted =
                model.ids(|body| matches!(body, DocumentBody::Subscription(s) if s.user == user));
            assert_eq!(listed, wanted);
        }
        d.users(&all).items.len()
            + d.subscriptions(&all).items.len()
            + d.offline_profiles(&all).items.len()
            + d.message_templates(&all).items.len()
    }
}
