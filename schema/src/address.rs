//! Which addresses belong to the public Internet, and networks that an operator
//! names beside it: what a tenant's own choice of a host may lead to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Whether it is nobody's own: neither private, local to a machine or a link,
/// multicast, documentation nor set aside (the registries of RFC 6890).
#[must_use]
pub fn is_public_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match a {
        // "This network", private, loopback; multicast and what is reserved.
        0 | 10 | 127 | 224.. => true,
        // Between a carrier and its customers.
        100 => (64..128).contains(&b),
        169 => b == 254,
        172 => (16..32).contains(&b),
        // Protocol assignments, documentation, relays of 6to4, private.
        192 => b == 168 || (b == 0 && (c == 0 || c == 2)) || (b == 88 && c == 99),
        // Benchmarks, documentation.
        198 => b == 18 || b == 19 || (b == 51 && c == 100),
        203 => b == 0 && c == 113,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = || {
        let [x, y] = [g.to_be_bytes(), h.to_be_bytes()];
        is_public_v4(Ipv4Addr::new(x[0], x[1], y[0], y[1]))
    };
    match (a, b, c, d, e, f) {
        // An IPv4 address in the clothes of IPv6: mapped, and translated by NAT64.
        (0, 0, 0, 0, 0, 0xFFFF) | (0x64, 0xFF9B, 0, 0, 0, 0) => v4(),
        // Protocol assignments (Teredo among them), documentation, 6to4.
        (0x2001, ..=0x01FF | 0x0DB8, ..) | (0x2002, ..) | (0x3FFF, ..=0x0FFF, ..) => false,
        // All that is given out lies in 2000::/3.
        _ => a & 0xE000 == 0x2000,
    }
}

/// Whether a name means this machine wherever it is looked up (RFC 6761, 6.3).
#[must_use]
pub fn is_localhost_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Networks, written as `10.0.0.0/8, fd00::/8`; an address alone is a network of
/// one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// A text is no list of networks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNetworksError {
    #[error("{0:?} is no network such as 10.0.0.0/8 or fd00::/8")]
    Form(String),
    /// Somebody who writes `10.1.2.3/8` means one or the other.
    #[error("{0:?} has bits behind its prefix; write the first address of the network")]
    Tail(String),
}

impl Networks {
    /// Whether the address lies in one of them. An IPv4 address in the clothes of
    /// IPv6 is the IPv4 address.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => {
                let differing = (ours.to_bits() ^ other.to_bits()).leading_zeros();
                differing >= u32::from(self.prefix_bits)
            }
            (IpAddr::V6(ours), IpAddr::V6(other)) => {
                let differing = (ours.to_bits() ^ other.to_bits()).leading_zeros();
                differing >= u32::from(self.prefix_bits)
            }
            _ => false,
        }
    }

    fn parse(text: &str) -> Result<Self, ParseNetworksError> {
        let form = || ParseNetworksError::Form(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| form())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits {
            // Nothing but digits: the number's own parser takes a sign.
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(form)?
            }
            Some(_) => return Err(form()),
            None => most,
        };
        let tail_bits = match address {
            IpAddr::V4(address) => address.to_bits().trailing_zeros(),
            IpAddr::V6(address) => address.to_bits().trailing_zeros(),
        };
        match tail_bits >= u32::from(most - prefix_bits) {
            true => Ok(Self { address, prefix_bits }),
            false => Err(ParseNetworksError::Tail(text.to_owned())),
        }
    }
}

impl FromStr for Networks {
    type Err = ParseNetworksError;

    fn from_str(text: &str) -> Result<Self, ParseNetworksError> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(Network::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Network { address, prefix_bits }) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{address}/{prefix_bits}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_somebodys_own_is_told_from_the_internet() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.0.1",
            "198.20.0.1",
            "203.0.114.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
        ] {
            assert!(is_public_address(public.parse().unwrap()), "{public}");
        }
        for own in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:192.168.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1.1.1.1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public_address(own.parse().unwrap()), "{own}");
        }
    }

    #[test]
    fn networks_are_read_and_contain_what_begins_as_they_do() {
        let networks: Networks = "10.0.0.0/8, 192.168.7.1 ,fd00::/8,".parse().unwrap();
        assert_eq!(networks.to_string(), "10.0.0.0/8,192.168.7.1/32,fd00::/8");
        for inside in ["10.0.0.0", "10.255.255.255", "192.168.7.1", "fd12::1", "::ffff:10.1.1.1"] {
            assert!(networks.contain(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.168.7.2", "fe00::1", "::10.0.0.1"] {
            assert!(!networks.contain(outside.parse().unwrap()), "{outside}");
        }
        let all: Networks = "0.0.0.0/0,::/0".parse().unwrap();
        assert!(all.contain("127.0.0.1".parse().unwrap()) && all.contain("::1".parse().unwrap()));
        let none: Networks = "".parse().unwrap();
        assert!(!none.contain("1.1.1.1".parse().unwrap()) && none.to_string().is_empty());
    }

    #[test]
    fn what_is_no_network_is_told() {
        for form in ["10.0.0.0/33", "fd00::/129", "10.0.0/8", "10.0.0.0/+8", "10.0.0.0/", "host"] {
            let told: Result<Networks, _> = form.parse();
            assert_eq!(told, Err(ParseNetworksError::Form(form.to_owned())));
        }
        for tail in ["10.1.2.3/8", "fd00::1/8", "0.0.0.1/0"] {
            let told: Result<Networks, _> = tail.parse();
            assert_eq!(told, Err(ParseNetworksError::Tail(tail.to_owned())));
        }
    }

    #[test]
    fn the_names_of_this_machine_are_known() {
        for own in ["localhost", "LOCALHOST.", "db.localhost"] {
            assert!(is_localhost_name(own), "{own}");
        }
        assert!(!is_localhost_name("localhost.example.nl") && !is_localhost_name("mylocalhost"));
    }
}
