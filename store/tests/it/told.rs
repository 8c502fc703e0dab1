//! Who is told of alarms, as every backend of the directory must keep it. Each
//! case looks again after opening anew.

mod deletion;
mod refusals;

use std::sync::Arc;

use schema::{
    Channel, ChannelLimits, DocumentBody, Language, LocationId, MessageTemplate, Moment,
    OfflineProfile, QuietHours, Scope, Sealed, Severity, Subscription, TemplateKind, TenantId,
    User, UserId, Webhook,
};
use store::{Directory, DirectoryError, ListQuery};

use super::directory::{backends, made, site, tenant};

fn user(tenant: TenantId, name: &str) -> User {
    User {
        tenant,
        name: name.to_owned(),
        email: Some("eva@example.com".to_owned()),
        phone: Some("+31612345678".to_owned()),
        webhook: None,
        language: Language::Nl,
        time_zone: "Europe/Amsterdam".to_owned(),
        quiet_hours: vec![QuietHours {
            days: vec!["sat".to_owned(), "sun".to_owned()],
            from: "22:30".to_owned(),
            to: "07:00".to_owned(),
            severity_from: Severity::Critical,
        }],
        limits: ChannelLimits::default(),
        enabled: true,
    }
}

fn subscription(tenant: TenantId, user: UserId) -> Subscription {
    Subscription {
        tenant,
        user,
        scope: Scope::default(),
        channels: vec![Channel::Email, Channel::Sms],
        rules: Vec::new(),
        severity_from: Severity::Major,
        on: vec![Moment::Raised, Moment::Cleared],
        unacknowledged_for_s: 600,
        repeat_s: 3_600,
        enabled: true,
    }
}

fn profile(tenant: TenantId, name: &str, users: &[UserId]) -> OfflineProfile {
    OfflineProfile {
        tenant,
        name: name.to_owned(),
        scope: Scope::default(),
        after_s: 900,
        repeat_s: 0,
        users: users.to_vec(),
        channels: vec![Channel::Email],
        emails: vec!["desk@example.com".to_owned()],
        phones: vec!["+31201234567".to_owned()],
        language: Language::Nl,
        time_zone: "Europe/Amsterdam".to_owned(),
        when_back: true,
        enabled: true,
    }
}

fn template(tenant: TenantId, kind: TemplateKind) -> MessageTemplate {
    MessageTemplate {
        tenant,
        channel: Channel::Email,
        language: Language::Nl,
        kind,
        subject: Some("Alarm".to_owned()),
        text: "Er is een alarm.\nKijk even.".to_owned(),
        html: None,
    }
}

fn at(locations: &[LocationId], groups: &[&str]) -> Scope {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    Scope { locations: locations.to_vec(), groups }
}

async fn made_user(directory: &Directory, tenant: TenantId, name: &str) -> UserId {
    UserId(made(directory, DocumentBody::User(user(tenant, name))).await)
}

async fn subscribed(directory: &Directory, subscription: Subscription) -> u64 {
    made(directory, DocumentBody::Subscription(subscription)).await
}

/// Field, value and what is allowed, of a change that must be refused for that.
fn invalid(error: &DirectoryError) -> (&'static str, &str, &str) {
    let DirectoryError::Invalid { field, value, allowed } = error else { panic!("{error}") };
    (field, value, allowed)
}

#[tokio::test]
async fn what_was_made_is_found_by_all_its_ways_before_and_after_opening_anew() {
    for backend in backends() {
        let directory = backend.open();
        let (one, here) = site(&directory, "one", 1).await;
        let (two, _) = site(&directory, "two", 1).await;
        let secret = Sealed("sealed1:abc".to_owned());
        let hook = Webhook { url: "https://chat.example.com/in".to_owned(), secret };
        let eva = User { webhook: Some(hook), ..user(one, "Eva") };
        let eva_id = UserId(made(&directory, DocumentBody::User(eva.clone())).await);
        let jan_id = made_user(&directory, one, "Jan").await;
        let other_id = made_user(&directory, two, "Eva").await;
        let narrow = Subscription { scope: at(&[here], &["Coast"]), ..subscription(one, eva_id) };
        let first = subscribed(&directory, narrow.clone()).await;
        let off = Subscription { enabled: false, ..subscription(one, eva_id) };
        let off = subscribed(&directory, off).await;
        let of_jan = subscribed(&directory, subscription(one, jan_id)).await;
        // One may be as another is.
        let again = subscribed(&directory, subscription(one, jan_id)).await;
        let of_other = subscribed(&directory, subscription(two, other_id)).await;
        let night = profile(one, "night", &[eva_id]);
        let night_id = made(&directory, DocumentBody::OfflineProfile(night.clone())).await;
        let raised = template(one, TemplateKind::Raised);
        let raised_id = made(&directory, DocumentBody::MessageTemplate(raised.clone())).await;
        let look = |directory: &Directory| {
            assert_eq!(directory.user(eva_id).unwrap().body, eva);
            assert_eq!(directory.subscription(first).unwrap().body, narrow);
            assert_eq!(directory.offline_profile(night_id).unwrap().body, night);
            assert_eq!(directory.message_template(raised_id).unwrap().body, raised);
            assert_eq!(directory.user(UserId(first)), None);
            assert_eq!(directory.subscription(eva_id.0), None);

            let of = |tenant| ListQuery { tenant: Some(tenant), ..ListQuery::default() };
            let subscriptions = |query: ListQuery| -> Vec<u64> {
                directory.subscriptions(&query).items.iter().map(|entry| entry.id).collect()
            };
            assert_eq!(subscriptions(ListQuery::default()), [first, off, of_jan, again, of_other]);
            assert_eq!(subscriptions(of(one)), [first, off, of_jan, again]);
            assert_eq!(subscriptions(ListQuery { user: Some(eva_id), ..of(one) }), [first, off]);
            assert_eq!(subscriptions(ListQuery { user: Some(eva_id), ..of(two) }), [0; 0]);
            let page = directory.subscriptions(&ListQuery { limit: 3, ..of(one) });
            assert_eq!((page.items.len(), page.next), (3, Some(of_jan)));
            let named = ListQuery { name: Some("J".to_owned()), ..of(one) };
            assert_eq!(directory.users(&named).items[0].id, jan_id.0);
            assert_eq!(directory.users(&of(two)).items.len(), 1);
            assert_eq!(directory.offline_profiles(&of(one)).items.len(), 1);
            assert_eq!(directory.offline_profiles(&of(two)).items.len(), 0);
            assert_eq!(directory.message_templates(&of(one)).items.len(), 1);

            let told: Vec<u64> = directory.subscriptions_of(one).iter().map(|it| it.id).collect();
            assert_eq!(told, [first, of_jan, again], "the enabled ones");
            assert_eq!(directory.offline_profiles_of(one)[0].id, night_id);
            assert_eq!(directory.offline_profiles_of(two).len(), 0);
            let own = |tenant, channel, language, kind| {
                directory.template_of(tenant, channel, language, kind).map(|found| found.id)
            };
            let (email, nl, kind) = (Channel::Email, Language::Nl, TemplateKind::Raised);
            assert_eq!(own(one, email, nl, kind), Some(raised_id));
            assert_eq!(own(two, email, nl, kind), None);
            assert_eq!(own(one, Channel::Sms, nl, kind), None);
            assert_eq!(own(one, email, Language::En, kind), None);
            assert_eq!(own(one, email, nl, TemplateKind::Digest), None);
        };
        look(&directory);
        directory.close().await;
        look(&backend.open());
    }
}

#[tokio::test]
async fn names_and_the_place_of_a_template_belong_to_one_of_a_tenant() {
    for backend in backends() {
        let directory = backend.open();
        let (one, _) = site(&directory, "one", 1).await;
        let (two, _) = site(&directory, "two", 1).await;
        let bodies = |tenant| {
            [
                DocumentBody::User(user(tenant, "Eva")),
                DocumentBody::OfflineProfile(profile(tenant, "night", &[])),
                DocumentBody::MessageTemplate(template(tenant, TemplateKind::Digest)),
            ]
        };
        for (first, second) in bodies(one).into_iter().zip(bodies(two)) {
            let id = made(&directory, first.clone()).await;
            let error = directory.create(first.clone()).await.unwrap_err();
            assert!(["name_taken", "template_taken"].contains(&error.reason()), "{error}");
            made(&directory, second).await;
            directory.update(id, None, first.clone()).await.unwrap();
            directory.delete(id, None).await.unwrap();
            made(&directory, first).await;
        }
        directory.close().await;
        let again = backend.open();
        for body in bodies(one) {
            again.create(body).await.unwrap_err();
        }
    }
}

#[tokio::test]
async fn the_lists_of_the_hot_path_are_made_anew_for_the_tenant_that_changed_only() {
    for backend in backends() {
        let directory = backend.open();
        let (one, _) = site(&directory, "one", 1).await;
        let (two, _) = site(&directory, "two", 1).await;
        let (eva, jan) =
            (made_user(&directory, one, "Eva").await, made_user(&directory, two, "Jan").await);
        let mine = subscribed(&directory, subscription(one, eva)).await;
        subscribed(&directory, subscription(two, jan)).await;
        let before = (directory.subscriptions_of(one), directory.subscriptions_of(two));
        assert!(Arc::ptr_eq(&before.0, &directory.subscriptions_of(one)));
        let off = Subscription { enabled: false, ..subscription(one, eva) };
        directory.update(mine, None, DocumentBody::Subscription(off)).await.unwrap();
        assert_eq!(directory.subscriptions_of(one).len(), 0);
        assert_eq!(before.0.len(), 1, "who holds the list keeps it as it was");
        assert!(Arc::ptr_eq(&before.1, &directory.subscriptions_of(two)));
        // What is no subscription leaves the list as it is.
        let list = directory.subscriptions_of(two);
        made_user(&directory, two, "Kim").await;
        assert!(Arc::ptr_eq(&list, &directory.subscriptions_of(two)));
        // A tenant that is changed keeps what it has.
        directory.update(two.0, None, tenant("renamed", 1)).await.unwrap();
        assert_eq!(directory.subscriptions_of(two), list);
    }
}
