//! Connection strings of devices, and the tokens that are made of their keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::super::encode::percent;

/// What a device's connection string says.
pub(super) struct ConnectionString {
    pub host: String,
    pub device_id: String,
    pub key: Vec<u8>,
}

/// What is wrong with one; bears nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConnectionStringError {
    #[error("it must be HostName=…;DeviceId=…;SharedAccessKey=… as the hub shows it for a device")]
    Form,
    #[error("it is the hub's own connection string; take that of the device")]
    OfHub,
    #[error("it is that of a module; take that of the device")]
    OfModule,
    #[error("its SharedAccessKey is not base64; copy it once more")]
    Key,
    #[error("the host must be a name such as hub.azure-devices.net")]
    Host,
    #[error("a device id has 1 to 128 letters, digits and -.+%_#*?!(),:=@$'")]
    DeviceId,
}

pub(super) fn parse(text: &str) -> Result<ConnectionString, ConnectionStringError> {
    use ConnectionStringError as Error;
    let (mut host, mut device_id, mut key) = (None, None, None);
    for part in text.trim().split(';').filter(|part| !part.is_empty()) {
        // A key ends with `=` itself.
        let (name, value) = part.split_once('=').ok_or(Error::Form)?;
        match name.trim() {
            "HostName" => host = Some(value.to_owned()),
            "DeviceId" => device_id = Some(value.to_owned()),
            "SharedAccessKey" => key = Some(STANDARD.decode(value).map_err(|_| Error::Key)?),
            "SharedAccessKeyName" => return Err(Error::OfHub),
            "ModuleId" => return Err(Error::OfModule),
            _ => return Err(Error::Form),
        }
    }
    let (Some(host), Some(device_id), Some(key)) = (host, device_id, key) else {
        return Err(Error::Form);
    };
    check_host(&host)?;
    check_device_id(&device_id)?;
    Ok(ConnectionString { host, device_id, key })
}

pub(super) fn check_host(host: &str) -> Result<(), ConnectionStringError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    match !host.is_empty() && host.len() <= 253 && host.chars().all(is_plain) {
        true => Ok(()),
        false => Err(ConnectionStringError::Host),
    }
}

pub(super) fn check_device_id(id: &str) -> Result<(), ConnectionStringError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-.+%_#*?!(),:=@$'".contains(c);
    match (1..=128).contains(&id.len()) && id.chars().all(is_plain) {
        true => Ok(()),
        false => Err(ConnectionStringError::DeviceId),
    }
}

/// A token for a device that holds until `expires_at_s` since 1970.
///
/// # Panics
/// Never: the keyed hash takes keys of any length.
#[must_use]
pub fn token(host: &str, device_id: &str, key: &[u8], expires_at_s: i64) -> String {
    let resource = percent(&format!("{host}/devices/{device_id}"));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(format!("{resource}\n{expires_at_s}").as_bytes());
    let signature = percent(&STANDARD.encode(mac.finalize().into_bytes()));
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expires_at_s}")
}
