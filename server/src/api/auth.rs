//! Who asks: a bearer token is looked up by its keyed hash, and what it may do
//! becomes an [`Access`], which every handler under `/api/v1` takes.
//!
//! A token that only reads is refused here, by the method, so that no handler
//! can forget it. Which tenant a token opens is asked by the handler, because
//! only it knows whose the document is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};
use schema::{ApiToken, Author, Provenance, TenantId};
use store::Entry;
use subtle::ConstantTimeEq as _;

use super::metrics::REASON_FORBIDDEN;
use super::metrics::REASON_UNAUTHORIZED;
use super::problem::{ApiResult, Problem};
use super::state::AppState;

/// Failed tokens of one address within [`FAILURE_WINDOW`] before the answer is 429.
const MAX_FAILURES_PER_WINDOW: u32 = 20;

/// How long failures of an address count together.
const FAILURE_WINDOW: Duration = Duration::from_secs(60);

/// Addresses whose failures are remembered at once.
const MAX_FAILING_ADDRESSES: usize = 10_000;

/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 512;

/// What the token of a request opens. Being given one means that the token is
/// known and that it may use the request's method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The one tenant that it opens; none opens the whole installation.
    tenant: Option<TenantId>,
    read_only: bool,
    token: u64,
    name: Arc<str>,
    /// The other end of the connection; none without one.
    address: Option<IpAddr>,
}

impl Access {
    /// An access that no request made, for tests and for work of the server itself.
    #[must_use]
    pub fn of_installation() -> Self {
        Self { tenant: None, read_only: false, token: 0, name: "baken".into(), address: None }
    }

    /// The one tenant that the token opens; none if it opens all.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }

    /// Whether the token may change nothing.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The id of the token's document, for audit and limits.
    #[must_use]
    pub fn token_id(&self) -> u64 {
        self.token
    }

    /// Who changes are told of: the token by name and id, and its address.
    #[must_use]
    pub fn author(&self) -> Author {
        if self.token == 0 {
            return Author::installation();
        }
        let from = self.address.map(|address| address.to_canonical().to_string());
        let provenance = Provenance { token: Some(self.token), from };
        Author { by: self.name.clone(), provenance: Some(Arc::new(provenance)) }
    }

    /// Whether documents of `tenant` are in sight. Answer 404 where they are
    /// not ([`Problem::not_found`]): a token learns nothing of other tenants.
    #[must_use]
    pub fn sees(&self, tenant: TenantId) -> bool {
        self.tenant.is_none_or(|own| own == tenant)
    }

    /// Goes on only with a token of the whole installation.
    pub fn require_installation(&self) -> ApiResult<()> {
        match self.tenant {
            None => Ok(()),
            Some(_) => Err(Problem::forbidden(
                "This needs a token of the whole installation, and yours opens one tenant.",
            )),
        }
    }

    /// The tenant filter of a list: a tenant's token sees its own, whatever is
    /// asked; asking for another's is answered as if it were not there.
    pub fn filter(&self, asked: Option<TenantId>) -> ApiResult<Option<TenantId>> {
        match (self.tenant, asked) {
            (None, asked) => Ok(asked),
            (Some(own), None) => Ok(Some(own)),
            (Some(own), Some(asked)) if own == asked => Ok(Some(own)),
            (Some(_), Some(asked)) => Err(Problem::not_found("tenant", asked)),
        }
    }
}

impl FromRequestParts<AppState> for Access {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let access = known(parts, state)?;
        let reads = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if access.read_only && !reads {
            state.metrics.refused(REASON_FORBIDDEN);
            return Err(Problem::forbidden("This token only reads."));
        }
        Ok(access)
    }
}

/// The access of a request that changes nothing although its method says so,
/// such as one that asks for a calculation: a token that only reads may make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader(pub Access);

impl FromRequestParts<AppState> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        known(parts, state).map(Self)
    }
}

/// The access of a request's token, whatever the request would do.
fn known(parts: &Parts, state: &AppState) -> Result<Access, Problem> {
    let address = parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |info| info.0.ip());
    authenticate(parts, state, address).map_err(|unknown| {
        state.metrics.refused(REASON_UNAUTHORIZED);
        let wait_s = state.failures.note(address, Instant::now());
        let reason = wait_s.map_or(unknown.reason(), |_| "too_many_failures");
        state.audit.request_refused(reason, None, unknown.hash(), Some(address));
        match wait_s {
            Some(retry_after_s) => Problem::too_many(
                "Too many requests with a wrong token from this address.",
                retry_after_s,
            ),
            None => unknown.problem(),
        }
    })
}

/// Why nobody knows who asks.
#[derive(Debug)]
enum Unknown {
    NoHeader,
    /// The header holds no bearer token.
    Malformed,
    /// No token has this keyed hash.
    Token(String),
}

impl Unknown {
    /// A stable name.
    fn reason(&self) -> &'static str {
        match self {
            Self::NoHeader => "no_token",
            Self::Malformed => "malformed_header",
            Self::Token(_) => "unknown_token",
        }
    }

    fn hash(&self) -> Option<&str> {
        match self {
            Self::Token(hash) => Some(hash),
            Self::NoHeader | Self::Malformed => None,
        }
    }

    fn problem(&self) -> Problem {
        Problem::unauthorized(match self {
            Self::NoHeader => "Send the header `Authorization: Bearer TOKEN`.",
            Self::Malformed => "The header must be `Authorization: Bearer TOKEN`.",
            Self::Token(_) => "This token is not known, or was revoked.",
        })
    }
}

/// The token of a header, with its document.
fn token_of(value: &HeaderValue, state: &AppState) -> Result<Arc<Entry<ApiToken>>, Unknown> {
    let token = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty() && token.len() <= MAX_TOKEN_BYTES);
    let hash = state.secret.token_hash(token.ok_or(Unknown::Malformed)?);
    let found = state.store.directory().api_token_by_hash(&hash);
    // The index found it by its hash; comparing again in constant time keeps
    // the answer right and silent even if the index were to compare prefixes.
    let same =
        |entry: &Arc<Entry<ApiToken>>| bool::from(entry.hash.as_bytes().ct_eq(hash.as_bytes()));
    found.filter(same).ok_or(Unknown::Token(hash))
}

/// Tells that a handler answered a known token 403.
pub(super) fn tell_forbidden(
    state: &AppState,
    authorization: Option<&HeaderValue>,
    address: Option<IpAddr>,
) {
    let token = authorization.and_then(|value| token_of(value, state).ok());
    state.audit.request_refused("forbidden", token.as_deref(), None, address);
}

fn authenticate(parts: &Parts, state: &AppState, address: IpAddr) -> Result<Access, Unknown> {
    let value = parts.headers.get(header::AUTHORIZATION).ok_or(Unknown::NoHeader)?;
    let entry = token_of(value, state)?;
    state.audit.token_used(&entry, address);
    Ok(Access {
        tenant: entry.tenant,
        read_only: entry.read_only,
        token: entry.id,
        name: entry.name.as_str().into(),
        address: Some(address),
    })
}

/// Counts failed tokens by address. It slows down who guesses; a valid token is
/// always taken, because behind a proxy all clients share one address and one
/// of them must not be able to shut out the others.
#[derive(Debug, Default)]
pub struct FailureLimit {
    by_address: Mutex<HashMap<IpAddr, Failures>>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    since: Instant,
    count: u32,
}

impl FailureLimit {
    /// Notes one more failure; seconds to wait if the address is past its limit.
    pub(super) fn note(&self, address: IpAddr, now: Instant) -> Option<u32> {
        let mut by_address =
            self.by_address.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = network(address);
        if !by_address.contains_key(&key) && by_address.len() >= MAX_FAILING_ADDRESSES {
            by_address.retain(|_, failures| now.duration_since(failures.since) < FAILURE_WINDOW);
            if by_address.len() >= MAX_FAILING_ADDRESSES {
                by_address.clear();
            }
        }
        let failures = by_address.entry(key).or_insert(Failures { since: now, count: 0 });
        let elapsed = now.duration_since(failures.since);
        if elapsed >= FAILURE_WINDOW {
            *failures = Failures { since: now, count: 0 };
        }
        failures.count = failures.count.saturating_add(1);
        (failures.count > MAX_FAILURES_PER_WINDOW).then(|| {
            let left = FAILURE_WINDOW.saturating_sub(now.duration_since(failures.since));
            u32::try_from(left.as_secs()).unwrap_or(u32::MAX).max(1)
        })
    }
}

/// Who owns one IPv6 address usually owns its whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            segments[4..].fill(0);
            IpAddr::V6(Ipv6Addr::from(segments))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_an_address_are_limited_and_forgotten_after_the_window() {
        let limit = FailureLimit::default();
        let start = Instant::now();
        let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for _ in 0..MAX_FAILURES_PER_WINDOW {
            assert_eq!(limit.note(a, start), None);
        }
        assert_eq!(limit.note(a, start + Duration::from_secs(10)), Some(50));
        assert_eq!(limit.note(b, start), None);
        assert_eq!(limit.note(a, start + FAILURE_WINDOW), None);
    }

    #[test]
    fn an_attacker_with_many_addresses_does_not_fill_the_memory() {
        let limit = FailureLimit::default();
        let now = Instant::now();
        for number in 0..25_000u32 {
            limit.note(IpAddr::V4(number.into()), now);
        }
        assert!(limit.by_address.lock().unwrap().len() <= MAX_FAILING_ADDRESSES);
        assert_eq!(network("2001:db8::1:2:3:4".parse().unwrap()).to_string(), "2001:db8::");
    }

    #[test]
    fn a_tenants_token_sees_its_tenant_only() {
        let all = Access::of_installation();
        let one = Access { tenant: Some(TenantId(1)), token: 9, ..all.clone() };
        assert!(one.sees(TenantId(1)) && !one.sees(TenantId(2)));
        assert_eq!(one.filter(None).unwrap(), Some(TenantId(1)));
        assert_eq!(one.filter(Some(TenantId(2))).unwrap_err().status, 404);
        assert_eq!(one.require_installation().unwrap_err().status, 403);
        assert_eq!(all.filter(Some(TenantId(2))).unwrap(), Some(TenantId(2)));
        assert!(all.require_installation().is_ok());
    }
}
