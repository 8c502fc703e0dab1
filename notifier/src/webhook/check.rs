//! Which URLs a webhook may have.

use std::net::IpAddr;

use schema::{is_localhost_name, is_public_address};
use url::{Host, Url};

use super::WebhookOptions;

/// The longest URL of a webhook, as servers commonly take it.
pub const MAX_URL_BYTES: usize = 2_048;

/// Why a webhook may not have a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookUrlError {
    #[error("it is no URL")]
    NotAUrl,
    #[error("it is longer than {MAX_URL_BYTES} bytes")]
    TooLong,
    #[error("it does not begin with https://")]
    Scheme,
    /// They would stand in the open wherever the URL does.
    #[error("it holds a user name or a password")]
    UserInfo,
    #[error("its host is {0}, which is no address of the public Internet")]
    Address(String),
}

/// Whether a webhook may have the URL, as far as the URL alone says it. What its
/// name resolves to is checked with each request, since that can change.
///
/// # Errors
/// Says why not.
pub fn check_url(text: &str, options: &WebhookOptions) -> Result<(), WebhookUrlError> {
    checked(text, options).map(drop)
}

pub(super) fn checked(text: &str, options: &WebhookOptions) -> Result<Url, WebhookUrlError> {
    if text.len() > MAX_URL_BYTES {
        return Err(WebhookUrlError::TooLong);
    }
    // The parser knows all ways to write an IPv4 address, such as 0x7f.1.
    let url = Url::parse(text).map_err(|_| WebhookUrlError::NotAUrl)?;
    if url.scheme() != "https" && !(options.allow_http && url.scheme() == "http") {
        return Err(WebhookUrlError::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(WebhookUrlError::UserInfo);
    }
    let own = match url.host().ok_or(WebhookUrlError::NotAUrl)? {
        Host::Ipv4(address) => !is_public_address(IpAddr::V4(address)),
        Host::Ipv6(address) => !is_public_address(IpAddr::V6(address)),
        Host::Domain(name) => is_localhost_name(name),
    };
    if own && !options.allow_private_addresses {
        return Err(WebhookUrlError::Address(url.host_str().unwrap_or_default().to_owned()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: WebhookOptions =
        WebhookOptions { timeout_ms: 1, allow_private_addresses: false, allow_http: false };

    #[test]
    fn a_url_out_there_by_https_is_good() {
        for good in [
            "https://hooks.example.nl/a/b?c=d",
            "https://example.nl:8443/",
            "HTTPS://EXAMPLE.NL",
            "https://1.1.1.1/",
            "https://[2606:4700::1111]/",
            "https://localhost.example.nl/",
        ] {
            assert_eq!(check_url(good, &DEFAULT), Ok(()), "{good}");
        }
    }

    #[test]
    fn any_other_is_refused_with_the_reason() {
        for (bad, why) in [
            ("", WebhookUrlError::NotAUrl),
            ("example.nl/hook", WebhookUrlError::NotAUrl),
            ("https://", WebhookUrlError::NotAUrl),
            ("http://example.nl/", WebhookUrlError::Scheme),
            ("file:///etc/passwd", WebhookUrlError::Scheme),
            ("gopher://example.nl/", WebhookUrlError::Scheme),
            ("https://a:b@example.nl/", WebhookUrlError::UserInfo),
            ("https://example.nl@10.0.0.1/", WebhookUrlError::UserInfo),
        ] {
            assert_eq!(check_url(bad, &DEFAULT), Err(why), "{bad}");
        }
        let long = format!("https://example.nl/{}", "a".repeat(MAX_URL_BYTES));
        assert_eq!(check_url(&long, &DEFAULT), Err(WebhookUrlError::TooLong));
    }

    #[test]
    fn an_address_inside_is_refused_however_it_is_written() {
        for own in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://017700000001/",
            "https://10.1.2.3:9200/",
            "https://169.254.169.254/latest/meta-data",
            "https://192.168.1.1/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[fd00::1]/",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://db.localhost/",
            "https://１２７.0.0.1/",
        ] {
            let error = check_url(own, &DEFAULT).unwrap_err();
            assert!(matches!(error, WebhookUrlError::Address(_)), "{own}: {error}");
        }
    }

    #[test]
    fn an_installation_may_allow_more() {
        let private = WebhookOptions { allow_private_addresses: true, ..DEFAULT };
        assert_eq!(check_url("https://10.0.0.1/", &private), Ok(()));
        assert_eq!(check_url("http://10.0.0.1/", &private), Err(WebhookUrlError::Scheme));
        let http = WebhookOptions { allow_http: true, ..DEFAULT };
        assert_eq!(check_url("http://example.nl/", &http), Ok(()));
        assert_eq!(check_url("ftp://example.nl/", &http), Err(WebhookUrlError::Scheme));
        assert!(check_url("http://10.0.0.1/", &http).is_err());
    }
}
