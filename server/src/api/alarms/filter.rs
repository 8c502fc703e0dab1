//! Which alarms are meant: the query of the list, and the filter of a deed on
//! many.

use schema::{DeviceId, LocationId, ProfileId, Severity, TenantId, TimestampMs};
use serde::Deserialize;
use store::alarms::{AlarmOrder, AlarmPlace, AlarmQuery};
use utoipa::{IntoParams, ToSchema};

use crate::api::auth::Access;
use crate::api::paging::checked_limit;
use crate::api::problem::{ApiResult, Problem};
use crate::api::several::Several;

/// The longest text that is looked for, in bytes.
const MAX_TEXT_BYTES: usize = 256;

/// How a list of alarms is ordered.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AlarmOrder)]
pub enum OrderName {
    /// The last raised first. Pages stay where they are while alarms change.
    #[default]
    Newest,
    /// The worst first. An alarm whose severity changes while pages are read
    /// may come twice or not at all.
    Severity,
}

/// Which alarms are meant, and which page of them.
#[derive(Clone, Debug, Default, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
#[schema(as = AlarmFilter)]
pub struct Filter {
    /// Items of a page, 1 to 1000; 100 when not given. Not in a deed's filter.
    pub limit: Option<u32>,
    /// What `next` of the page before said. Not in a deed's filter.
    pub after: Option<String>,
    /// The last raised first when not given. Not in a deed's filter.
    #[param(inline)]
    pub order: Option<OrderName>,
    /// Whether to count all that the filters leave, which reads them all; no
    /// when not given. Not in a deed's filter.
    pub total: Option<bool>,
    tenant: Option<u64>,
    /// One location, or several with commas between them.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<Vec<u64>>)]
    location: Several<u64>,
    device: Option<u64>,
    /// The id of an alarm profile.
    profile: Option<u64>,
    /// The key of a rule.
    rule: Option<String>,
    active: Option<bool>,
    acknowledged: Option<bool>,
    shelved: Option<bool>,
    /// The name; empty for alarms that nobody has.
    assigned_to: Option<String>,
    /// One severity, or several with commas between them.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<Vec<String>>)]
    severity: Several<Severity>,
    /// This severity or a worse one.
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    severity_from: Option<Severity>,
    /// Stands in the rule's key or in the description, whatever the case;
    /// at most 256 bytes.
    text: Option<String>,
    /// Raised at or after, in milliseconds since 1970.
    from: Option<i64>,
    /// Raised before, in milliseconds since 1970.
    to: Option<i64>,
}

impl Filter {
    /// The page that is asked for, one alarm longer than it is shown.
    pub fn page(self, access: &Access) -> ApiResult<AlarmQuery> {
        let order = match self.order.unwrap_or_default() {
            OrderName::Newest => AlarmOrder::Newest,
            OrderName::Severity => AlarmOrder::Severity,
        };
        let limit = checked_limit(self.limit)? as usize + 1;
        let after = self.after.as_deref().map(|text| place(order, text)).transpose()?;
        Ok(AlarmQuery { order, limit, after, ..self.all(access)? })
    }

    /// All alarms that are meant, for a deed, behind those that a call before has
    /// come to.
    pub fn for_deed(self, after: Option<&str>, access: &Access) -> ApiResult<AlarmQuery> {
        let pages = [
            ("limit", self.limit.is_some()),
            ("after", self.after.is_some()),
            ("order", self.order.is_some()),
            ("total", self.total.is_some()),
        ];
        if let Some((field, _)) = pages.into_iter().find(|(_, given)| *given) {
            let detail = "A deed is done to all alarms that the filter leaves; it has no pages. \
                          `after` stands beside the filter.";
            return Err(Problem::invalid(format!("filter.{field}"), detail));
        }
        let after = after.map(|text| place(AlarmOrder::Newest, text)).transpose()?;
        Ok(AlarmQuery { after, ..self.all(access)? })
    }

    fn all(self, access: &Access) -> ApiResult<AlarmQuery> {
        if let Some(text) = &self.text
            && !(1..=MAX_TEXT_BYTES).contains(&text.len())
        {
            let detail =
                format!("It has {} bytes, and must have 1 to {MAX_TEXT_BYTES}.", text.len());
            return Err(Problem::invalid("text", detail));
        }
        Ok(AlarmQuery {
            tenant: access.filter(self.tenant.map(TenantId))?,
            locations: self.location.0.into_iter().map(LocationId).collect(),
            device: self.device.map(DeviceId),
            profile: self.profile.map(ProfileId),
            rule: self.rule,
            active: self.active,
            acknowledged: self.acknowledged,
            shelved: self.shelved,
            assigned_to: self.assigned_to,
            severity_from: self.severity_from,
            severities: self.severity.0,
            text: self.text,
            from: self.from.map(TimestampMs),
            to: self.to.map(TimestampMs),
            ..AlarmQuery::default()
        })
    }
}

/// The cursor of a page that ends with this alarm.
pub fn cursor(order: AlarmOrder, place: AlarmPlace) -> String {
    match order {
        AlarmOrder::Newest => place.sequence.to_string(),
        AlarmOrder::Severity => format!("{}:{}", place.severity, place.sequence),
    }
}

fn place(order: AlarmOrder, text: &str) -> ApiResult<AlarmPlace> {
    let place = match order {
        AlarmOrder::Newest => text
            .parse()
            .ok()
            .map(|sequence| AlarmPlace { sequence, severity: Severity::Indeterminate }),
        AlarmOrder::Severity => text.split_once(':').and_then(|(severity, sequence)| {
            let (severity, sequence) = (severity.parse().ok()?, sequence.parse().ok()?);
            Some(AlarmPlace { sequence, severity })
        }),
    };
    place.ok_or_else(|| {
        let detail = format!("{text:?} is no cursor of this order: give what `next` said.");
        Problem::invalid("after", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_belongs_to_its_order() {
        let at = AlarmPlace { sequence: 7, severity: Severity::Major };
        let text = cursor(AlarmOrder::Severity, at);
        assert_eq!(place(AlarmOrder::Severity, &text).unwrap(), at);
        assert_eq!(place(AlarmOrder::Newest, "7").unwrap().sequence, 7);
        for (order, text) in [(AlarmOrder::Newest, &*text), (AlarmOrder::Severity, "7")] {
            assert_eq!(place(order, text).unwrap_err().field.as_deref(), Some("after"));
        }
    }

    #[test]
    fn a_deed_has_no_pages_and_a_wrong_filter_is_named() {
        let access = Access::of_installation();
        let filter = Filter { limit: Some(5), ..Filter::default() };
        let problem = filter.for_deed(None, &access).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("filter.limit"));
        let problem = Filter::default().for_deed(Some("major:7"), &access).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("after"));
        let query = Filter::default().for_deed(Some("7"), &access).unwrap();
        assert_eq!(query.after.map(|place| place.sequence), Some(7));
        let filter = Filter { text: Some(String::new()), ..Filter::default() };
        assert_eq!(filter.page(&access).unwrap_err().field.as_deref(), Some("text"));
    }
}
