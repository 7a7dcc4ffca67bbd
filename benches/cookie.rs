//! What the signature of the visitor cookie costs. Read on each request of `by: cookie`, made on a visitor's first.
//!
//! `cargo bench --bench cookie`

use divan::{Bencher, black_box};
use tidegate::clock::Timestamp;
use tidegate::traffic::{Key, Keys, VisitorCookie, VisitorId};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn main() {
    divan::main();
}

fn key(byte: u8) -> Key {
    Key::new(&[byte; 32]).expect("32 bytes are enough")
}

fn cookie() -> VisitorCookie {
    VisitorCookie { id: VisitorId(0x00ab_cdef_0123_4567), issued: NOW }
}

#[divan::bench]
fn seal(bencher: Bencher<'_, '_>) {
    let keys = Keys::new(key(1), vec![]);
    bencher.bench_local(|| black_box(cookie()).seal(&keys, VisitorCookie::NAME));
}

#[divan::bench]
fn open(bencher: Bencher<'_, '_>) {
    open_with(bencher, &Keys::new(key(1), vec![]), &Keys::new(key(1), vec![]));
}

/// Made before the keys were rotated.
#[divan::bench]
fn open_by_the_older_key(bencher: Bencher<'_, '_>) {
    open_with(bencher, &Keys::new(key(1), vec![]), &Keys::new(key(2), vec![key(1)]));
}

/// The dearest that somebody can make up: our form and key id, a wrong signature.
#[divan::bench]
fn refuse_forged(bencher: Bencher<'_, '_>) {
    let keys = Keys::new(key(1), vec![]);
    let value = cookie().seal(&keys, "tidegate-r-shop");
    bencher.bench_local(|| open_visitor(&keys, &value).is_err());
}

/// What other software stores under our name.
#[divan::bench]
fn refuse_garbled(bencher: Bencher<'_, '_>) {
    let keys = Keys::new(key(1), vec![]);
    bencher.bench_local(|| open_visitor(&keys, "3f2c9a7e-1b4d-4e8f-9c6a-5d7b8e9f0a1b").is_err());
}

/// Where the visitor stands, once the id is believed.
#[divan::bench]
fn bucket(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| black_box(cookie().id).bucket(black_box("shop-2.0")));
}

fn open_with(bencher: Bencher<'_, '_>, signs: &Keys, opens: &Keys) {
    let value = cookie().seal(signs, VisitorCookie::NAME);
    assert_eq!(open_visitor(opens, &value), Ok(cookie()));
    bencher.bench_local(|| open_visitor(opens, &value));
}

fn open_visitor(keys: &Keys, value: &str) -> Result<VisitorCookie, tidegate::traffic::CookieError> {
    VisitorCookie::open(keys, VisitorCookie::NAME, black_box(value).as_bytes(), NOW)
}
