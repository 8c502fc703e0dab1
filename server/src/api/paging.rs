//! Lists come in pages: `{"items":[…],"next":"…"}`; `next` is absent on the
//! last page and goes into `after` to get the following one.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::{ApiResult, Problem};

/// Items of a page when `limit` is not given.
pub const DEFAULT_PAGE_ITEMS: u32 = 100;

/// The most items of a page.
pub const MAX_PAGE_ITEMS: u32 = 1_000;

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give this as `after` to get the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The page of `items`, of which the caller fetched one more than asked
    /// for (`paging.fetch_limit()`), so that it is known whether more follow.
    pub fn of(mut items: Vec<T>, paging: Paging, cursor: impl Fn(&T) -> String) -> Self {
        let limit = paging.limit as usize;
        let next = (items.len() > limit).then(|| cursor(&items[limit - 1]));
        items.truncate(limit);
        Self { items, next }
    }

    /// The same page with each item turned into what is shown.
    pub fn map<U>(self, show: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(show).collect(), next: self.next }
    }
}

/// What `?limit=&after=` ask for, checked.
///
/// A module has its own query struct (`deny_unknown_fields`, so that a misspelt
/// filter isn't taken for no filter) with `limit: Option<u32>` and
/// `after: Option<String>` in it, and makes this of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// 1 to [`MAX_PAGE_ITEMS`].
    pub limit: u32,
    /// The id behind which the page begins.
    pub after: Option<u64>,
}

impl Paging {
    /// Paging by ascending id.
    pub fn by_id(limit: Option<u32>, after: Option<&str>) -> ApiResult<Self> {
        let limit = checked_limit(limit)?;
        let after = after
            .map(|text| {
                text.parse().map_err(|_| {
                    Problem::invalid(
                        "after",
                        format!("{text:?} is no cursor: give what `next` of the page before said."),
                    )
                })
            })
            .transpose()?;
        Ok(Self { limit, after })
    }

    /// How many items to fetch so that [`Page::of`] knows whether more follow.
    #[must_use]
    pub fn fetch_limit(self) -> usize {
        self.limit as usize + 1
    }
}

/// `limit` within its bounds, or the default.
pub fn checked_limit(limit: Option<u32>) -> ApiResult<u32> {
    match limit {
        None => Ok(DEFAULT_PAGE_ITEMS),
        Some(limit) if (1..=MAX_PAGE_ITEMS).contains(&limit) => Ok(limit),
        Some(limit) => Err(Problem::invalid(
            "limit",
            format!("Must be 1 to {MAX_PAGE_ITEMS}, and is {limit}."),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_where_the_next_one_begins_and_the_last_says_nothing() {
        let paging = Paging::by_id(Some(2), None).unwrap();
        let page = Page::of(vec![4u64, 5, 9], paging, u64::to_string);
        assert_eq!(page, Page { items: vec![4, 5], next: Some("5".to_owned()) });
        let paging = Paging::by_id(Some(2), Some("5")).unwrap();
        assert_eq!(paging.after, Some(5));
        assert_eq!(Page::of(vec![9u64], paging, u64::to_string).next, None);
    }

    #[test]
    fn a_limit_or_cursor_out_of_bounds_is_named() {
        assert_eq!(Paging::by_id(Some(0), None).unwrap_err().field.as_deref(), Some("limit"));
        assert_eq!(Paging::by_id(Some(1_001), None).unwrap_err().status, 422);
        assert_eq!(Paging::by_id(None, Some("x")).unwrap_err().field.as_deref(), Some("after"));
    }
}
