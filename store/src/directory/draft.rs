//! The directory as it will be once the requests that share a transaction are
//! durable: the index that readers see, and over it what is to be written.
//!
//! Readers never see a draft, so nobody puts an id into the journal that a
//! crash could take back.

use std::collections::HashMap;
use std::ops::Range;

use schema::{Author, DeviceId, Document, DocumentBody, DocumentKind, TenantId, TimestampMs};

use super::audit;
use super::backend::Write;
use super::index::{Claim, Index, counted, with_claims, with_parents};

#[derive(Debug)]
pub(super) struct Draft<'a> {
    index: &'a Index,
    /// When the transaction's changes are made.
    pub now: TimestampMs,
    /// Who makes the changes that are staged next.
    pub author: Author,
    ids: &'a mut Range<u64>,
    writes: Vec<Write>,
    /// What the writes come to; `None` is a deleted document.
    documents: HashMap<u64, Option<Document>>,
    holders: HashMap<String, Option<u64>>,
    counts: HashMap<(TenantId, DocumentKind), u32>,
}

impl<'a> Draft<'a> {
    /// `ids` holds as many as the requests can use.
    pub fn new(index: &'a Index, ids: &'a mut Range<u64>, now: TimestampMs) -> Self {
        Self {
            index,
            now,
            author: Author::installation(),
            ids,
            writes: Vec::new(),
            documents: HashMap::new(),
            holders: HashMap::new(),
            counts: HashMap::new(),
        }
    }

    pub fn into_writes(self) -> Vec<Write> {
        self.writes
    }

    pub fn new_id(&mut self) -> u64 {
        self.ids.next().expect("ids for all requests were reserved before the draft")
    }

    pub fn get(&self, id: u64) -> Option<Document> {
        match self.documents.get(&id) {
            Some(staged) => staged.clone(),
            None => self.index.document(id),
        }
    }

    pub fn holder(&self, claim: &Claim<'_>) -> Option<u64> {
        if self.holders.is_empty() {
            return self.index.holder(claim);
        }
        match self.holders.get(&claim_text(claim)) {
            Some(staged) => *staged,
            None => self.index.holder(claim),
        }
    }

    /// How many a tenant has of a kind that is counted.
    pub fn count(&self, tenant: TenantId, kind: DocumentKind) -> u32 {
        let staged = self.counts.get(&(tenant, kind)).copied();
        staged.unwrap_or_else(|| self.index.count(tenant, kind))
    }

    /// All live children of one kind.
    pub fn children(&self, parent: u64, kind: DocumentKind) -> Vec<u64> {
        let kept = self.index.children(parent, kind).filter(|id| !self.documents.contains_key(id));
        let staged = self.documents.iter().filter_map(|(&id, document)| {
            let body = &document.as_ref()?.body;
            (body.kind() == kind && is_under(body, parent)).then_some(id)
        });
        let mut children: Vec<u64> = kept.chain(staged).collect();
        children.sort_unstable();
        children
    }

    /// Makes a document.
    pub fn insert(&mut self, id: u64, body: DocumentBody) -> Document {
        let document = Document { id, version: 1, changed_at: self.now, body };
        self.stage(None, document.clone(), false);
        document
    }

    /// Gives `old` a new body.
    pub fn replace(&mut self, old: &Document, body: DocumentBody) -> Document {
        let version = old.version + 1;
        let document = Document { id: old.id, version, changed_at: self.now, body };
        self.stage(Some(&old.body), document.clone(), false);
        document
    }

    pub fn delete(&mut self, mut old: Document) {
        old.version += 1;
        old.changed_at = self.now;
        let body = old.body.clone();
        self.stage(Some(&body), old, true);
    }

    /// Where the draft is now, for [`Draft::roll_back`].
    pub fn mark(&self) -> usize {
        self.writes.len()
    }

    /// Takes back what was staged after `mark`.
    pub fn roll_back(&mut self, mark: usize) {
        if mark == self.writes.len() {
            return;
        }
        let mut writes = std::mem::take(&mut self.writes);
        writes.truncate(mark);
        self.documents.clear();
        self.holders.clear();
        self.counts.clear();
        for write in writes {
            let old = self.get(write.document.id).map(|document| document.body);
            self.take_in(old.as_ref(), write);
        }
    }

    fn stage(&mut self, old: Option<&DocumentBody>, document: Document, deleted: bool) {
        let mut taken = if deleted { Vec::new() } else { claim_texts(&document.body) };
        let mut released = old.map(claim_texts).unwrap_or_default();
        if taken == released {
            taken.clear();
            released.clear();
        }
        let event = audit::event(old, &document, deleted, &self.author);
        self.take_in(old, Write { document, deleted, taken, released, event });
    }

    fn take_in(&mut self, old: Option<&DocumentBody>, write: Write) {
        let id = write.document.id;
        for claim in &write.released {
            self.holders.insert(claim.clone(), None);
        }
        for claim in &write.taken {
            self.holders.insert(claim.clone(), Some(id));
        }
        if let Some(counted) = counted(&write.document.body) {
            let (tenant, kind) = counted;
            let count = self.count(tenant, kind);
            match (old.is_some(), write.deleted) {
                (false, _) => self.counts.insert(counted, count + 1),
                (true, true) => self.counts.insert(counted, count - 1),
                (true, false) => None,
            };
        }
        self.documents.insert(id, (!write.deleted).then(|| write.document.clone()));
        self.writes.push(write);
    }
}

fn is_under(body: &DocumentBody, parent: u64) -> bool {
    let mut is_under = false;
    with_parents(body, |found| is_under |= found == parent);
    is_under
}

/// A claim as it stands in storage. The text is stable.
fn claim_text(claim: &Claim<'_>) -> String {
    match claim {
        Claim::TenantName(name) => format!("tenant:{name}"),
        Claim::LocationName(tenant, name) => format!("location:{tenant}:{name}"),
        Claim::DeviceName(tenant, name) => format!("device:{tenant}:{name}"),
        Claim::Credentials(key) => format!("credentials:{key}"),
        Claim::Token(hash) => format!("api_token:{hash}"),
        Claim::UserName(tenant, name) => format!("user:{tenant}:{name}"),
        Claim::OfflineProfileName(tenant, name) => format!("offline_profile:{tenant}:{name}"),
        Claim::Template(tenant, channel, language, kind) => {
            let (language, kind) = (language.as_str(), kind.as_str());
            format!("message_template:{tenant}:{channel}:{language}:{kind}")
        }
        Claim::ForwarderName(tenant, name) => format!("forwarder:{tenant}:{name}"),
        Claim::ForwarderIdentity(identity) => format!("forwarder_identity:{identity}"),
    }
}

fn claim_texts(body: &DocumentBody) -> Vec<String> {
    let mut texts = Vec::new();
    with_claims(body, |claim| texts.push(claim_text(claim)));
    texts
}

impl Draft<'_> {
    /// The device of this name, staged or not.
    pub fn device_by_name(&self, tenant: TenantId, name: &str) -> Option<(DeviceId, Document)> {
        let id = self.holder(&Claim::DeviceName(tenant, name))?;
        Some((DeviceId(id), self.get(id)?))
    }
}
