//! Who is told of alarms: users, subscriptions, offline profiles and message
//! templates.

use std::sync::Arc;

use schema::{
    Channel, Language, MessageTemplate, OfflineProfile, Subscription, TemplateKind, TenantId, User,
    UserId,
};

use super::index::Claim;
use super::{Directory, Entry, ListQuery, Page};

impl Directory {
    #[must_use]
    pub fn user(&self, id: UserId) -> Option<Arc<Entry<User>>> {
        self.shared.index().users.get(&id.0).cloned()
    }

    #[must_use]
    pub fn subscription(&self, id: u64) -> Option<Arc<Entry<Subscription>>> {
        self.shared.index().subscriptions.get(&id).cloned()
    }

    #[must_use]
    pub fn offline_profile(&self, id: u64) -> Option<Arc<Entry<OfflineProfile>>> {
        self.shared.index().offline_profiles.get(&id).cloned()
    }

    #[must_use]
    pub fn message_template(&self, id: u64) -> Option<Arc<Entry<MessageTemplate>>> {
        self.shared.index().templates.get(&id).cloned()
    }

    #[must_use]
    pub fn users(&self, query: &ListQuery) -> Page<User> {
        self.shared.index().list_users(query)
    }

    /// Subscriptions, of one user where the query says so.
    #[must_use]
    pub fn subscriptions(&self, query: &ListQuery) -> Page<Subscription> {
        self.shared.index().list_subscriptions(query)
    }

    #[must_use]
    pub fn offline_profiles(&self, query: &ListQuery) -> Page<OfflineProfile> {
        self.shared.index().list_offline_profiles(query)
    }

    #[must_use]
    pub fn message_templates(&self, query: &ListQuery) -> Page<MessageTemplate> {
        self.shared.index().list_templates(query)
    }

    /// The enabled subscriptions of a tenant, in the order of their ids. Their users
    /// may be disabled. The list is made once after each change, so that asking at
    /// every transition costs little.
    #[must_use]
    pub fn subscriptions_of(&self, tenant: TenantId) -> Arc<[Arc<Entry<Subscription>>]> {
        self.shared.index().subscriptions_of(tenant)
    }

    /// The enabled offline profiles of a tenant, in the order of their ids; likewise.
    #[must_use]
    pub fn offline_profiles_of(&self, tenant: TenantId) -> Arc<[Arc<Entry<OfflineProfile>>]> {
        self.shared.index().offline_profiles_of(tenant)
    }

    /// The tenant's own text for such a message; none where Baken's is used.
    #[must_use]
    pub fn template_of(
        &self,
        tenant: TenantId,
        channel: Channel,
        language: Language,
        kind: TemplateKind,
    ) -> Option<Arc<Entry<MessageTemplate>>> {
        let index = self.shared.index();
        let id = index.holder(&Claim::Template(tenant, channel, language, kind))?;
        index.templates.get(&id).cloned()
    }
}
