//! Cookies that a visitor cannot make up.
//!
//! The visitor cookie sticks the *visitor*, not the variant: it carries a random id, and the id has a
//! bucket. Cookies that pin a variant drift, because whoever was once sent to the candidate stays there
//! however low the weight is set; an id keeps the share exact. Ratchet and override have cookies of
//! their own, with the same envelope:
//!
//! `1 . key id . field . field … . MAC`, where the MAC is HMAC-SHA-256 (RFC 2104, FIPS 180-4) over the
//! cookie's name, `=` and everything before the MAC, truncated to 128 bits, in hex. The name is covered, so a
//! cookie of one service or purpose means nothing to another. Two keys allow rotation: the first
//! signs, all verify.

use std::fmt::Write as _;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Bucket, Variant};
use crate::clock::Timestamp;

const ENVELOPE_VERSION: &str = "1";
const MAC_BYTES: usize = 16;
/// Longer values are not looked at; the longest genuine one has under 100 bytes.
const VALUE_BYTES_MAX: usize = 256;

/// Why a cookie is ignored. Each is counted, none is an error for the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CookieError {
    /// Not of our form: foreign, cut, or from another version.
    #[error("not of the expected form")]
    Garbled,
    /// Of our form, but not signed by one of our keys.
    #[error("signed by nobody we know")]
    Forged,
    /// Ours, and too old.
    #[error("expired")]
    Expired,
}

/// Why bytes cannot serve as a key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Too short to be secret.
    #[error("a key needs at least 32 bytes, this one has {0}")]
    TooShort(usize),
}

/// A signing key.
#[derive(Clone)]
pub struct Key {
    id: String,
    mac: Hmac<Sha256>,
}

impl Key {
    /// From at least 32 secret bytes.
    pub fn new(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < 32 {
            return Err(KeyError::TooShort(secret.len()));
        }
        let digest = Sha256::new().chain_update(b"tidegate key id").chain_update(secret).finalize();
        let mac = Hmac::new_from_slice(secret).map_err(|_| KeyError::TooShort(secret.len()))?;
        Ok(Self { id: format!("{:02x}{:02x}", digest[0], digest[1]), mac })
    }

    fn mac(&self, name: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(name.as_bytes());
        mac.update(b"=");
        mac.update(body);
        mac
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The keys in force: the first signs, all verify.
#[derive(Clone, Debug)]
pub struct Keys {
    signing: Key,
    older: Vec<Key>,
}

impl Keys {
    /// The signing key, and those that still verify.
    pub fn new(signing: Key, older: Vec<Key>) -> Self {
        Self { signing, older }
    }

    /// `fields` end up between key id and MAC as they are.
    fn seal(&self, name: &str, fields: std::fmt::Arguments<'_>) -> String {
        let mut value = String::with_capacity(96);
        // Writing to a String cannot fail.
        let _ = write!(value, "{ENVELOPE_VERSION}.{}.{fields}", self.signing.id);
        let mac = self.signing.mac(name, value.as_bytes()).finalize().into_bytes();
        value.push('.');
        for byte in &mac[..MAC_BYTES] {
            let _ = write!(value, "{byte:02x}");
        }
        value
    }

    /// The fields of a value that one of the keys signed under `name`.
    fn open<'v>(&self, name: &str, value: &'v [u8]) -> Result<&'v str, CookieError> {
        use CookieError::{Forged, Garbled};
        if value.len() > VALUE_BYTES_MAX {
            return Err(Garbled);
        }
        let value = std::str::from_utf8(value).map_err(|_| Garbled)?;
        let (body, mac) = value.rsplit_once('.').ok_or(Garbled)?;
        let (version, rest) = body.split_once('.').ok_or(Garbled)?;
        let (key_id, fields) = rest.split_once('.').ok_or(Garbled)?;
        if version != ENVELOPE_VERSION {
            return Err(Garbled);
        }
        let mac = mac_from_hex(mac).ok_or(Garbled)?;
        std::iter::once(&self.signing)
            .chain(&self.older)
            .filter(|key| key.id == key_id)
            .any(|key| key.mac(name, body.as_bytes()).verify_truncated_left(&mac).is_ok())
            .then_some(fields)
            .ok_or(Forged)
    }
}

fn mac_from_hex(text: &str) -> Option<[u8; MAC_BYTES]> {
    let text = text.as_bytes();
    if text.len() != 2 * MAC_BYTES {
        return None;
    }
    // Lower case only, so that a cookie has one spelling.
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut mac = [0; MAC_BYTES];
    for (byte, pair) in mac.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(mac)
}

/// A visitor's random 64 bit id. It says nothing about him.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VisitorId(pub u64);

impl VisitorId {
    /// The id's position for a salt. The key is the id in 16 hex digits.
    pub fn bucket(self, salt: &str) -> Bucket {
        Bucket::of(&self.hex(), salt.as_bytes())
    }

    fn hex(self) -> [u8; 16] {
        let mut digits = [0; 16];
        for (at, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(self.0 >> (60 - 4 * at) & 0xf) as usize];
        }
        digits
    }
}

impl std::fmt::Display for VisitorId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// `tidegate`: who a visitor is, and since when the cookie stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisitorCookie {
    /// The id.
    pub id: VisitorId,
    /// When this cookie was issued.
    pub issued: Timestamp,
}

impl VisitorCookie {
    /// The cookie's name, without the `__Host-` that https adds.
    pub const NAME: &'static str = "tidegate";
    /// How long a cookie is good for: 180 days.
    pub const MAX_AGE: Duration = Duration::from_secs(180 * 24 * 3600);

    /// The value to send under `name`.
    pub fn seal(&self, keys: &Keys, name: &str) -> String {
        keys.seal(name, format_args!("{}.{:x}", self.id, self.issued.as_secs()))
    }

    /// Reads a value received under `name`.
    pub fn open(keys: &Keys, name: &str, value: &[u8], now: Timestamp) -> Result<Self, CookieError> {
        let fields = keys.open(name, value)?;
        let (id, issued) = fields.split_once('.').ok_or(CookieError::Garbled)?;
        let id = VisitorId(number(id)?);
        let issued = seconds(issued)?;
        if now.since(issued) > Self::MAX_AGE {
            return Err(CookieError::Expired);
        }
        Ok(Self { id, issued })
    }

    /// Whether it is time to issue it anew: at half its age, so that regular visitors never lose it.
    pub fn wants_renewal(&self, now: Timestamp) -> bool {
        now.since(self.issued) > Self::MAX_AGE / 2
    }
}

/// `tidegate-r-SERVICE`: the visitor reached the candidate in this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatchetCookie {
    /// The epoch.
    pub epoch: u64,
}

impl RatchetCookie {
    /// What comes before the service's name in the cookie's name.
    pub const NAME_PREFIX: &'static str = "tidegate-r-";
    /// How long a browser keeps it: 30 days, longer than rollouts take.
    pub const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

    /// The value to send under `name`.
    pub fn seal(&self, keys: &Keys, name: &str) -> String {
        keys.seal(name, format_args!("{:x}", self.epoch))
    }

    /// Reads a value received under `name`.
    pub fn open(keys: &Keys, name: &str, value: &[u8]) -> Result<Self, CookieError> {
        Ok(Self { epoch: number(keys.open(name, value)?)? })
    }
}

/// `tidegate-o-SERVICE`: a tester goes where he asked, until the cookie expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverrideCookie {
    /// Where to.
    pub variant: Variant,
    /// Until when.
    pub expires: Timestamp,
}

impl OverrideCookie {
    /// What comes before the service's name in the cookie's name.
    pub const NAME_PREFIX: &'static str = "tidegate-o-";

    /// The value to hand to a tester for use under `name`.
    pub fn seal(&self, keys: &Keys, name: &str) -> String {
        keys.seal(name, format_args!("{}.{:x}", self.variant, self.expires.as_secs()))
    }

    /// Reads a value received under `name`.
    pub fn open(keys: &Keys, name: &str, value: &[u8], now: Timestamp) -> Result<Self, CookieError> {
        let fields = keys.open(name, value)?;
        let (variant, expires) = fields.split_once('.').ok_or(CookieError::Garbled)?;
        let variant = variant.parse().map_err(|_| CookieError::Garbled)?;
        let expires = seconds(expires)?;
        if expires <= now {
            return Err(CookieError::Expired);
        }
        Ok(Self { variant, expires })
    }
}

fn number(hex: &str) -> Result<u64, CookieError> {
    u64::from_str_radix(hex, 16).map_err(|_| CookieError::Garbled)
}

fn seconds(hex: &str) -> Result<Timestamp, CookieError> {
    let millis = number(hex)?.checked_mul(1000).ok_or(CookieError::Garbled)?;
    Ok(Timestamp::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn key(byte: u8) -> Key {
        Key::new(&[byte; 32]).unwrap()
    }

    fn keys() -> Keys {
        Keys::new(key(1), vec![])
    }

    fn cookie() -> VisitorCookie {
        VisitorCookie { id: VisitorId(0x00ab_cdef_0123_4567), issued: NOW }
    }

    #[test]
    fn a_genuine_cookie_is_read_back() {
        let value = cookie().seal(&keys(), "tidegate");
        assert!(value.contains(".00abcdef01234567."), "{value}");
        assert_eq!(VisitorCookie::open(&keys(), "tidegate", value.as_bytes(), NOW), Ok(cookie()));

        let ratchet = RatchetCookie { epoch: u64::MAX };
        let value = ratchet.seal(&keys(), "tidegate-r-shop");
        assert_eq!(RatchetCookie::open(&keys(), "tidegate-r-shop", value.as_bytes()), Ok(ratchet));

        let wish =
            OverrideCookie { variant: Variant::Green, expires: Timestamp::from_millis(1_800_000_001_000) };
        let value = wish.seal(&keys(), "tidegate-o-shop");
        assert_eq!(OverrideCookie::open(&keys(), "tidegate-o-shop", value.as_bytes(), NOW), Ok(wish));
        let late = wish.expires;
        assert_eq!(
            OverrideCookie::open(&keys(), "tidegate-o-shop", value.as_bytes(), late),
            Err(CookieError::Expired)
        );
    }

    #[test]
    fn anything_else_is_told_apart() {
        #[track_caller]
        fn check(name: &str, value: &[u8], expected: CookieError) {
            assert_eq!(VisitorCookie::open(&keys(), name, value, NOW), Err(expected));
        }
        let value = cookie().seal(&keys(), "tidegate");
        check("tidegate-r-shop", value.as_bytes(), CookieError::Forged);
        check(
            "tidegate",
            cookie().seal(&Keys::new(key(2), vec![]), "tidegate").as_bytes(),
            CookieError::Forged,
        );
        check("tidegate", value.replace(".00ab", ".00ac").as_bytes(), CookieError::Forged);
        check("tidegate", value.to_uppercase().as_bytes(), CookieError::Garbled);
        check("tidegate", value.replacen('1', "2", 1).as_bytes(), CookieError::Garbled);
        check("tidegate", &value.as_bytes()[..value.len() - 1], CookieError::Garbled);
        check("tidegate", b"", CookieError::Garbled);
        check("tidegate", b"blue", CookieError::Garbled);
        check("tidegate", b"1.\xff\xfe.0.0", CookieError::Garbled);
        check("tidegate", &[b'1'; 10_000], CookieError::Garbled);
    }

    #[test]
    fn keys_rotate() {
        let old = Keys::new(key(1), vec![]);
        let rotated = Keys::new(key(2), vec![key(1)]);
        let gone = Keys::new(key(2), vec![]);
        let value = cookie().seal(&old, "tidegate");
        assert!(VisitorCookie::open(&rotated, "tidegate", value.as_bytes(), NOW).is_ok());
        assert!(VisitorCookie::open(&gone, "tidegate", value.as_bytes(), NOW).is_err());
        let value = cookie().seal(&rotated, "tidegate");
        assert!(VisitorCookie::open(&gone, "tidegate", value.as_bytes(), NOW).is_ok());
        assert_eq!(Key::new(&[0; 31]).unwrap_err(), KeyError::TooShort(31));
    }

    #[test]
    fn cookies_are_renewed_at_half_their_age_and_expire() {
        let after = |part: Duration| Timestamp::from_millis(NOW.as_millis() + part.as_millis() as u64);
        assert!(!cookie().wants_renewal(after(VisitorCookie::MAX_AGE / 2)));
        let later = after(VisitorCookie::MAX_AGE / 2 + Duration::from_secs(1));
        assert!(cookie().wants_renewal(later));
        let value = cookie().seal(&keys(), "tidegate");
        let too_late = after(VisitorCookie::MAX_AGE + Duration::from_secs(1));
        assert_eq!(
            VisitorCookie::open(&keys(), "tidegate", value.as_bytes(), too_late),
            Err(CookieError::Expired)
        );
    }

    #[test]
    fn a_key_does_not_print_itself() {
        let text = format!("{:?}", Keys::new(Key::new(&[0x41; 32]).unwrap(), vec![]));
        assert!(!text.contains("41, 41") && !text.contains("AAAA"), "{text}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(value in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = VisitorCookie::open(&keys(), "tidegate", &value, NOW);
            let _ = OverrideCookie::open(&keys(), "tidegate", &value, NOW);
        }

        #[test]
        fn no_changed_byte_passes(at in 0usize..64, to in any::<u8>()) {
            let value = cookie().seal(&keys(), "tidegate").into_bytes();
            let mut changed = value.clone();
            let at = at % value.len();
            changed[at] = to;
            prop_assume!(changed != value);
            prop_assert!(VisitorCookie::open(&keys(), "tidegate", &changed, NOW).is_err());
        }
    }
}
