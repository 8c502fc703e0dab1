//! What is refused, with field, value and what is allowed.

use schema::{Delivery, ProfileId, RuleChoice, Tenant, TenantSettings};
use store::directory::limits::{MAX_ADDRESSES, MAX_QUIET_HOURS, MAX_SCOPE_ENTRIES};

use super::super::directory::location;
use super::*;

type Change<T> = Box<dyn Fn(&mut T)>;

fn change<T>(change: impl Fn(&mut T) + 'static) -> Change<T> {
    Box::new(change)
}

/// Each change is refused of a new document and of one that is there.
async fn refused<T: Clone>(
    directory: &Directory,
    good: &T,
    body: fn(T) -> DocumentBody,
    cases: Vec<(Change<T>, &'static str, &'static str, &'static str)>,
) {
    let id = made(directory, body(good.clone())).await;
    for (change, field, value, allowed) in cases {
        let mut bad = good.clone();
        change(&mut bad);
        let errors = [
            directory.create(body(bad.clone())).await.unwrap_err(),
            directory.update(id, None, body(bad)).await.unwrap_err(),
        ];
        for error in errors {
            let (found, said, told) = invalid(&error);
            assert_eq!(found, field, "{error}");
            assert!(said.contains(value), "{value:?} is not in {said:?} of {error}");
            assert!(told.contains(allowed), "{allowed:?} is not in {told:?} of {error}");
        }
    }
    directory.delete(id, None).await.unwrap();
}

fn hours(days: &[&str], from: &str, to: &str) -> QuietHours {
    QuietHours {
        days: days.iter().map(|day| (*day).to_owned()).collect(),
        from: from.to_owned(),
        to: to.to_owned(),
        severity_from: Severity::Critical,
    }
}

#[tokio::test]
async fn of_a_user() {
    for backend in backends() {
        let directory = backend.open();
        let (tenant, _) = site(&directory, "t", 1).await;
        let delivery = |group_s, max_per_hour| Delivery { group_s, max_per_hour };
        let cases: Vec<(Change<User>, _, _, _)> = vec![
            (change(|u: &mut User| u.name.clear()), "name", "\"\"", "1 to 255 bytes"),
            (
                change(|u: &mut User| u.email = Some("eva".to_owned())),
                "email",
                "\"eva\"",
                "eva@example.com",
            ),
            (
                change(|u: &mut User| u.phone = Some("0612345678".to_owned())),
                "phone",
                "0612345678",
                "+31612345678",
            ),
            (
                change(|u: &mut User| u.time_zone = "Mars/Base".to_owned()),
                "time_zone",
                "Mars/Base",
                "Europe/Amsterdam",
            ),
            (
                change(|u: &mut User| u.quiet_hours = vec![hours(&["maandag"], "22:00", "07:00")]),
                "quiet_hours.days",
                "maandag",
                "mon, tue",
            ),
            (
                change(|u: &mut User| u.quiet_hours = vec![hours(&[], "9:00", "07:00")]),
                "quiet_hours.from",
                "9:00",
                "22:30",
            ),
            (
                change(|u: &mut User| u.quiet_hours = vec![hours(&[], "22:00", "25:00")]),
                "quiet_hours.to",
                "25:00",
                "24:00",
            ),
            (
                change(|u: &mut User| {
                    u.quiet_hours = vec![hours(&[], "22:00", "07:00"); MAX_QUIET_HOURS + 1];
                }),
                "quiet_hours",
                "a list of 21",
                "at most 20",
            ),
            (
                change(move |u: &mut User| u.limits.sms = delivery(86_401, 1)),
                "limits.sms.group_s",
                "86401",
                "0 to 86400",
            ),
            (
                change(move |u: &mut User| u.limits.email = delivery(0, 0)),
                "limits.email.max_per_hour",
                "0",
                "1 to 3600",
            ),
            (
                change(move |u: &mut User| u.limits.webhook = delivery(0, 3_601)),
                "limits.webhook.max_per_hour",
                "3601",
                "1 to 3600",
            ),
            (
                change(|u: &mut User| {
                    let secret = Sealed("s".to_owned());
                    u.webhook = Some(Webhook { url: "https://x\n".to_owned(), secret });
                }),
                "webhook.url",
                "https://x",
                "1 to 2048 bytes",
            ),
            (
                change(|u: &mut User| {
                    let secret = Sealed(String::new());
                    u.webhook = Some(Webhook { url: "https://x".to_owned(), secret });
                }),
                "webhook.secret",
                "empty",
                "signs",
            ),
        ];
        refused(&directory, &user(tenant, "Eva"), DocumentBody::User, cases).await;
        let nobodys = directory.create(DocumentBody::User(user(TenantId(999), "Eva"))).await;
        assert_eq!(nobodys.unwrap_err().to_string(), "there is no tenant 999");
    }
}

#[tokio::test]
async fn of_a_subscription() {
    for backend in backends() {
        let directory = backend.open();
        let (tenant, _) = site(&directory, "t", 1).await;
        let (other, elsewhere) = site(&directory, "other", 1).await;
        let eva = made_user(&directory, tenant, "Eva").await;
        let stranger = made_user(&directory, other, "Eva").await;
        let twice = vec![RuleChoice { profile: ProfileId(4), key: None }; 2];
        let no_key = vec![RuleChoice { profile: ProfileId(4), key: Some(String::new()) }];
        let raised = || vec![Moment::Raised];
        let cases: Vec<(Change<Subscription>, _, _, _)> = vec![
            (
                change(|s: &mut Subscription| s.channels.clear()),
                "channels",
                "empty",
                "email, sms and webhook",
            ),
            (
                change(|s: &mut Subscription| s.channels = vec![Channel::Sms, Channel::Sms]),
                "channels",
                "sms twice",
                "once",
            ),
            (
                change(|s: &mut Subscription| s.channels = vec![Channel::Webhook]),
                "channels",
                "webhook",
                "no address for it; give the user a `webhook` first",
            ),
            (
                change(|s: &mut Subscription| s.on.clear()),
                "on",
                "empty",
                "raised, severity_changed",
            ),
            (
                change(|s: &mut Subscription| s.on = vec![Moment::Cleared, Moment::Cleared]),
                "on",
                "cleared twice",
                "once",
            ),
            (
                change(|s: &mut Subscription| s.on = vec![Moment::Cleared, Moment::Acknowledged]),
                "on",
                "cleared, acknowledged",
                "raised must be among them",
            ),
            (
                change(move |s: &mut Subscription| s.scope = at(&[elsewhere], &[])),
                "scope.locations",
                &*elsewhere.to_string().leak(),
                "tenant's own",
            ),
            (
                change(|s: &mut Subscription| s.scope = at(&[LocationId(999)], &[])),
                "scope.locations",
                "999",
                "tenant's own",
            ),
            (
                change(|s: &mut Subscription| s.scope = at(&[], &[" Coast"])),
                "scope.groups",
                " Coast",
                "1 to 64 bytes",
            ),
            (
                change(|s: &mut Subscription| s.scope = at(&[], &["Coast", "Coast"])),
                "scope.groups",
                "\"Coast\" twice",
                "once",
            ),
            (
                change(|s: &mut Subscription| {
                    let groups: Vec<String> =
                        (0..=MAX_SCOPE_ENTRIES).map(|n| format!("g{n}")).collect();
                    s.scope = Scope { locations: Vec::new(), groups };
                }),
                "scope",
                "1001",
                "at most 1000",
            ),
            (
                change(move |s: &mut Subscription| s.rules = twice.clone()),
                "rules",
                "profile 4 twice",
                "once",
            ),
            (
                change(move |s: &mut Subscription| s.rules = no_key.clone()),
                "rules.key",
                "\"\"",
                "1 to 255 bytes",
            ),
            (
                change(|s: &mut Subscription| s.unacknowledged_for_s = 59),
                "unacknowledged_for_s",
                "59",
                "0, or 60 to 2592000",
            ),
            (
                change(|s: &mut Subscription| s.repeat_s = 2_592_001),
                "repeat_s",
                "2592001",
                "0, or 60 to 2592000",
            ),
        ];
        let good = Subscription { on: raised(), ..subscription(tenant, eva) };
        refused(&directory, &good, DocumentBody::Subscription, cases).await;

        let theirs = DocumentBody::Subscription(subscription(tenant, stranger));
        let error = directory.create(theirs).await.unwrap_err();
        assert_eq!(invalid(&error).0, "user", "{error}");
        let nobodys = DocumentBody::Subscription(subscription(tenant, UserId(999)));
        let error = directory.create(nobodys).await.unwrap_err();
        assert_eq!(error.to_string(), "there is no user 999");
        // The hardest that is taken: an escalation, repeated, of the longest waits.
        let long = Subscription { unacknowledged_for_s: 2_592_000, repeat_s: 60, ..good };
        subscribed(&directory, long).await;
    }
}

#[tokio::test]
async fn of_an_offline_profile() {
    for backend in backends() {
        let directory = backend.open();
        let (tenant, _) = site(&directory, "t", 1).await;
        let (other, _) = site(&directory, "other", 1).await;
        let eva = made_user(&directory, tenant, "Eva").await;
        let stranger = made_user(&directory, other, "Eva").await;
        let cases: Vec<(Change<OfflineProfile>, _, _, _)> = vec![
            (
                change(|p: &mut OfflineProfile| p.after_s = 599),
                "after_s",
                "599",
                "600 to 2592000: the tenant's own alarm comes after 600 s",
            ),
            (change(|p: &mut OfflineProfile| p.repeat_s = 1), "repeat_s", "1", "0, or 60"),
            (
                change(|p: &mut OfflineProfile| {
                    p.users.clear();
                    p.emails.clear();
                    p.phones.clear();
                }),
                "users",
                "empty",
                "at least one recipient",
            ),
            (
                change(|p: &mut OfflineProfile| p.channels.clear()),
                "channels",
                "empty",
                "email, sms and webhook",
            ),
            (
                change(|p: &mut OfflineProfile| p.channels = vec![Channel::Webhook]),
                "channels",
                "webhook",
                "has no address",
            ),
            (
                change(move |p: &mut OfflineProfile| p.users.push(stranger)),
                "users",
                &*stranger.to_string().leak(),
                "tenant's own",
            ),
            (change(move |p: &mut OfflineProfile| p.users.push(eva)), "users", "twice", "once"),
            (
                change(|p: &mut OfflineProfile| p.emails.push("desk".to_owned())),
                "emails",
                "desk",
                "eva@example.com",
            ),
            (
                change(|p: &mut OfflineProfile| p.phones.push("112".to_owned())),
                "phones",
                "112",
                "E.164",
            ),
            (
                change(|p: &mut OfflineProfile| p.emails.push("desk@example.com".to_owned())),
                "emails",
                "desk@example.com",
                "once",
            ),
            (
                change(|p: &mut OfflineProfile| {
                    p.emails = (0..MAX_ADDRESSES).map(|n| format!("a{n}@b.nl")).collect()
                }),
                "emails",
                "51",
                "at most 50",
            ),
            (
                change(|p: &mut OfflineProfile| p.time_zone = "+02:00".to_owned()),
                "time_zone",
                "+02:00",
                "UTC",
            ),
            (
                change(|p: &mut OfflineProfile| p.scope = at(&[LocationId(7_777)], &[])),
                "scope.locations",
                "7777",
                "tenant's own",
            ),
        ];
        let good = profile(tenant, "night", &[eva]);
        refused(&directory, &good, DocumentBody::OfflineProfile, cases).await;
    }
}

#[tokio::test]
async fn of_a_template() {
    for backend in backends() {
        let directory = backend.open();
        let (tenant, _) = site(&directory, "t", 1).await;
        let cases: Vec<(Change<MessageTemplate>, _, _, _)> = vec![
            (
                change(|t: &mut MessageTemplate| t.channel = Channel::Webhook),
                "channel",
                "webhook",
                "email or sms",
            ),
            (change(|t: &mut MessageTemplate| t.text.clear()), "text", "0 bytes", "1 to 32768"),
            (
                change(|t: &mut MessageTemplate| t.html = Some("x".repeat(32_769))),
                "html",
                "32769",
                "1 to 32768",
            ),
            (
                change(|t: &mut MessageTemplate| t.subject = Some("a\nb".to_owned())),
                "subject",
                "a\\nb",
                "control",
            ),
            (
                change(|t: &mut MessageTemplate| t.channel = Channel::Sms),
                "subject",
                "given",
                "its text only",
            ),
        ];
        let good = template(tenant, TemplateKind::Cleared);
        refused(&directory, &good, DocumentBody::MessageTemplate, cases).await;
    }
}

#[tokio::test]
async fn what_it_belongs_to_never_changes() {
    for backend in backends() {
        let directory = backend.open();
        let (one, _) = site(&directory, "one", 1).await;
        let (two, _) = site(&directory, "two", 1).await;
        let eva = made_user(&directory, one, "Eva").await;
        let jan = made_user(&directory, one, "Jan").await;
        let id = subscribed(&directory, subscription(one, eva)).await;
        let handed = DocumentBody::Subscription(subscription(one, jan));
        let error = directory.update(id, None, handed).await.unwrap_err();
        assert_eq!(error.to_string(), format!("`user` is {jan}: it is {eva} and never changes"));
        let night = made(&directory, DocumentBody::OfflineProfile(profile(one, "n", &[]))).await;
        let text = template(one, TemplateKind::Test);
        let text = made(&directory, DocumentBody::MessageTemplate(text)).await;
        let moved = [
            (eva.0, DocumentBody::User(user(two, "Eva"))),
            (id, DocumentBody::Subscription(subscription(two, eva))),
            (night, DocumentBody::OfflineProfile(profile(two, "n", &[]))),
            (text, DocumentBody::MessageTemplate(template(two, TemplateKind::Test))),
        ];
        for (id, body) in moved {
            let error = directory.update(id, None, body).await.unwrap_err();
            assert_eq!(invalid(&error).0, "tenant", "{error}");
        }
    }
}

#[tokio::test]
async fn an_address_stays_as_long_as_something_needs_it() {
    for backend in backends() {
        let directory = backend.open();
        let (tenant, here) = site(&directory, "t", 1).await;
        let eva = made_user(&directory, tenant, "Eva").await;
        let by_sms = Subscription {
            channels: vec![Channel::Sms],
            scope: at(&[here], &[]),
            ..subscription(tenant, eva)
        };
        let by_sms = subscribed(&directory, by_sms).await;
        let night = DocumentBody::OfflineProfile(profile(tenant, "n", &[eva]));
        let night = made(&directory, night).await;
        let without = |email: bool, phone: bool| {
            let mut user = user(tenant, "Eva");
            user.email.take_if(|_| !email);
            user.phone.take_if(|_| !phone);
            DocumentBody::User(user)
        };
        let error = directory.update(eva.0, None, without(true, false)).await.unwrap_err();
        let told = format!("subscription {by_sms} tells the user by sms; change that first");
        assert_eq!(invalid(&error), ("phone", "missing", told.as_str()));
        let error = directory.update(eva.0, None, without(false, true)).await.unwrap_err();
        let told = format!("offline profile {night} tells the user by email; change that first");
        assert_eq!(invalid(&error), ("email", "missing", told.as_str()));
        directory.delete(by_sms, None).await.unwrap();
        directory.update(eva.0, None, without(true, false)).await.unwrap();
    }
}

#[tokio::test]
async fn an_offline_alarm_comes_no_later_than_its_profiles_tell() {
    for backend in backends() {
        let directory = backend.open();
        let (tenant, _) = site(&directory, "t", 1).await;
        let night = DocumentBody::OfflineProfile(profile(tenant, "n", &[]));
        let night = made(&directory, night).await;
        let with_delay = |delay_s| {
            let mut settings = TenantSettings::default();
            settings.system_alarms.offline.delay_s = delay_s;
            DocumentBody::Tenant(Tenant { name: "t".to_owned(), settings })
        };
        let error = directory.update(tenant.0, None, with_delay(901)).await.unwrap_err();
        let (field, value, allowed) = invalid(&error);
        assert_eq!((field, value), ("settings.system_alarms.offline.delay_s", "901"));
        assert!(allowed.contains(&format!("at most 900, after which offline profile {night}")));
        directory.update(tenant.0, None, with_delay(900)).await.unwrap();
        directory.create(location(tenant, "another")).await.unwrap();
    }
}
