//! What goes with a user, a location and a tenant, and what stays.

use std::collections::HashSet;

use schema::DocumentKind;

use super::super::directory::location;
use super::*;

#[tokio::test]
async fn a_user_takes_their_subscriptions_and_leaves_offline_profiles() {
    for backend in backends() {
        let directory = backend.open();
        let (tenant, _) = site(&directory, "t", 1).await;
        let eva = made_user(&directory, tenant, "Eva").await;
        let jan = made_user(&directory, tenant, "Jan").await;
        let of_eva = subscribed(&directory, subscription(tenant, eva)).await;
        let of_jan = subscribed(&directory, subscription(tenant, jan)).await;
        let both = OfflineProfile {
            emails: Vec::new(),
            phones: Vec::new(),
            ..profile(tenant, "both", &[eva, jan])
        };
        let both = made(&directory, DocumentBody::OfflineProfile(both)).await;
        let desk = profile(tenant, "desk", &[eva]);
        let desk = made(&directory, DocumentBody::OfflineProfile(desk)).await;
        directory.delete(eva.0, None).await.unwrap();
        // Nobody would be told by the profile any more.
        let error = directory.delete(jan.0, None).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "user {jan} is the only recipient of offline profile {both}: give the profile \
                 another or delete it first"
            )
        );
        let look = |directory: &Directory| {
            assert_eq!((directory.user(eva), directory.subscription(of_eva)), (None, None));
            assert!(directory.user(jan).is_some() && directory.subscription(of_jan).is_some());
            assert_eq!(directory.offline_profile(both).unwrap().users, [jan]);
            let desk = directory.offline_profile(desk).unwrap();
            assert_eq!((desk.version, desk.users.len(), desk.emails.len()), (2, 0, 1));
            assert_eq!(directory.subscriptions_of(tenant).len(), 1);
        };
        look(&directory);
        directory.close().await;
        let again = backend.open();
        look(&again);
        again.delete(both, None).await.unwrap();
        again.delete(jan.0, None).await.unwrap();
    }
}

#[tokio::test]
async fn a_location_that_goes_makes_no_scope_wider() {
    for backend in backends() {
        let directory = backend.open();
        let (tenant, here) = site(&directory, "t", 1).await;
        let there = LocationId(made(&directory, location(tenant, "there")).await);
        let eva = made_user(&directory, tenant, "Eva").await;
        let scoped = |scope| Subscription { scope, ..subscription(tenant, eva) };
        let only_here = subscribed(&directory, scoped(at(&[here], &[]))).await;
        let in_both = subscribed(&directory, scoped(at(&[here, there], &[]))).await;
        let in_group = subscribed(&directory, scoped(at(&[here], &["Coast"]))).await;
        let in_all = subscribed(&directory, scoped(Scope::default())).await;
        let lone = OfflineProfile { scope: at(&[here], &[]), ..profile(tenant, "lone", &[eva]) };
        let lone = made(&directory, DocumentBody::OfflineProfile(lone)).await;
        let wide = OfflineProfile {
            scope: at(&[there, here], &[]),
            enabled: false,
            ..profile(tenant, "wide", &[])
        };
        let wide = made(&directory, DocumentBody::OfflineProfile(wide)).await;
        directory.delete(here.0, None).await.unwrap();
        let look = |directory: &Directory| {
            // With their only place they go, because an empty scope would be all.
            assert_eq!(directory.subscription(only_here), None);
            assert_eq!(directory.offline_profile(lone), None);
            assert_eq!(directory.subscription(in_both).unwrap().scope, at(&[there], &[]));
            assert_eq!(directory.subscription(in_group).unwrap().scope, at(&[], &["Coast"]));
            let all = directory.subscription(in_all).unwrap();
            assert_eq!((all.version, &all.scope), (1, &Scope::default()));
            let wide = directory.offline_profile(wide).unwrap();
            assert_eq!((wide.version, &wide.scope), (2, &at(&[there], &[])));
            let told: Vec<u64> =
                directory.subscriptions_of(tenant).iter().map(|entry| entry.id).collect();
            assert_eq!(told, [in_both, in_group, in_all]);
        };
        look(&directory);
        directory.close().await;
        let again = backend.open();
        look(&again);
        again.delete(there.0, None).await.unwrap();
        assert_eq!(again.subscription(in_both), None);
        assert_eq!(again.offline_profile(wide), None);
    }
}

#[tokio::test]
async fn a_tenant_takes_all_who_were_told() {
    for backend in backends() {
        let directory = backend.open();
        let (tenant, here) = site(&directory, "t", 1).await;
        let eva = made_user(&directory, tenant, "Eva").await;
        let subscription = subscribed(&directory, subscription(tenant, eva)).await;
        let lone = OfflineProfile {
            emails: Vec::new(),
            phones: Vec::new(),
            ..profile(tenant, "lone", &[eva])
        };
        let lone = made(&directory, DocumentBody::OfflineProfile(lone)).await;
        let text = DocumentBody::MessageTemplate(template(tenant, TemplateKind::Test));
        let text = made(&directory, text).await;
        directory.delete(here.0, None).await.unwrap();
        let mut feed = directory.subscribe();
        directory.delete(tenant.0, None).await.unwrap();
        let gone: HashSet<(DocumentKind, u64)> =
            std::iter::from_fn(|| feed.try_recv().ok().filter(|change| change.deleted))
                .map(|change| (change.kind, change.id))
                .collect();
        let expected = [
            (DocumentKind::Tenant, tenant.0),
            (DocumentKind::User, eva.0),
            (DocumentKind::Subscription, subscription),
            (DocumentKind::OfflineProfile, lone),
            (DocumentKind::MessageTemplate, text),
        ];
        assert_eq!(gone, HashSet::from(expected));
        assert_eq!(directory.subscriptions_of(tenant).len(), 0);
        assert_eq!(directory.offline_profiles_of(tenant).len(), 0);
        directory.close().await;
        let again = backend.open();
        let all = ListQuery::default();
        assert_eq!(again.users(&all).items.len(), 0);
        assert_eq!(again.subscriptions(&all).items.len(), 0);
        assert_eq!(again.offline_profiles(&all).items.len(), 0);
        assert_eq!(again.message_templates(&all).items.len(), 0);
    }
}
