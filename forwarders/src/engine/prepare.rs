//! From a document to what runs: secrets opened, the platform found, the
//! configuration checked.

use std::sync::Arc;

use schema::{ForwardedTolerance, ForwardedType, Forwarder, ForwarderItem, ForwarderScope, Sealed};

use super::spec::Scope;
use crate::destinations::{Checked, Config, Fault, Host, Item, Platform, platform};
use crate::lane::Tolerance;
use crate::reach::Reach;
use crate::value::DataType;

/// Opens a secret by its [`secret_context`]; none if it was sealed under another
/// key or for another place.
pub type Unseal = Arc<dyn Fn(&str, &Sealed) -> Option<String> + Send + Sync>;

/// Where a forwarder's secret belongs, so that a sealed text which is moved to
/// another tenant or platform opens no more. Stable: secrets are stored by it.
#[must_use]
pub fn secret_context(forwarder: &Forwarder, name: &str) -> String {
    format!("forwarder/{}/{}/{name}", forwarder.tenant, forwarder.platform)
}

/// A forwarder's document, opened and checked.
pub struct Opened {
    pub platform: &'static dyn Platform,
    pub config: Config,
    pub checked: Checked,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("checked", &self.checked).finish_non_exhaustive()
    }
}

impl Opened {
    /// # Errors
    /// [`Fault`] names the field that is wrong.
    pub fn of(forwarder: &Forwarder, unseal: &Unseal, reach: &Reach) -> Result<Self, Fault> {
        let known = || {
            let names: Vec<&str> =
                crate::destinations::PLATFORMS.iter().map(|platform| platform.name()).collect();
            Fault::new("platform", format!("The platforms are {}.", names.join(", ")))
        };
        let platform = platform(&forwarder.platform).ok_or_else(known)?;
        let mut secrets = std::collections::BTreeMap::new();
        for (name, sealed) in &forwarder.secrets {
            let opened = unseal(&secret_context(forwarder, name), sealed).ok_or_else(|| {
                let message = "It can't be read with this installation's key; give it again.";
                Fault::new(format!("secrets.{name}"), message)
            })?;
            secrets.insert(name.clone(), opened);
        }
        let items = forwarder.items.iter().enumerate().map(|(index, written)| item(index, written));
        let items = items.collect::<Result<_, _>>()?;
        let config = Config { settings: forwarder.settings.clone(), secrets, items };
        let checked = platform.check(&config)?;
        let Host { name, field } = &checked.host;
        reach.check(name).map_err(|error| Fault::new(*field, format!("{error}.")))?;
        Ok(Self { platform, config, checked })
    }
}

fn item(index: usize, written: &ForwarderItem) -> Result<Item, Fault> {
    let tolerance = written.tolerance.map(|tolerance| match tolerance {
        ForwardedTolerance::Absolute(width) => Tolerance::Absolute(width),
        ForwardedTolerance::Relative(share) => Tolerance::Relative(share),
    });
    if let Some(Tolerance::Absolute(width) | Tolerance::Relative(width)) = tolerance
        && (!width.is_finite() || width < 0.0)
    {
        let field = format!("items[{index}].tolerance");
        return Err(Fault::new(field, "It must be 0 or more."));
    }
    let data_type = written.data_type.map(|data_type| match data_type {
        ForwardedType::Number => DataType::Number,
        ForwardedType::Integer => DataType::Integer,
        ForwardedType::Boolean => DataType::Boolean,
        ForwardedType::Text => DataType::Text,
        ForwardedType::Json => DataType::Json,
    });
    let (key, settings) = (written.key.clone(), written.settings.clone());
    Ok(Item { key, data_type, tolerance, settings })
}

/// Whose readings a document's forwarder sends.
pub(super) fn scope(forwarder: &Forwarder) -> Scope {
    match &forwarder.scope {
        ForwarderScope::Tenant => Scope::Tenant,
        ForwarderScope::Location(location) => Scope::Location(*location),
        ForwarderScope::LocationGroup(group) => Scope::Group(group.clone()),
    }
}
