//! What it costs to sign and to check a visitor cookie.
//!
//! `cargo bench --bench cookie`

use divan::{Bencher, black_box};
use tidegate::clock::Timestamp;
use tidegate::traffic::{Key, Keys, VisitorCookie, VisitorId};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const COOKIE: VisitorCookie = VisitorCookie { id: VisitorId(0x0123_4567_89ab_cdef), issued: NOW };

fn main() {
    divan::main();
}

fn key(byte: u8) -> Key {
    Key::new(&[byte; 32]).expect("a key")
}

#[divan::bench]
fn seal(bencher: Bencher<'_, '_>) {
    let keys = Keys::new(key(1), vec![]);
    bencher.bench_local(|| black_box(COOKIE).seal(&keys, "tidegate"));
}

#[divan::bench]
fn open(bencher: Bencher<'_, '_>) {
    let keys = Keys::new(key(1), vec![]);
    let value = COOKIE.seal(&keys, "tidegate");
    bencher.bench_local(|| VisitorCookie::open(&keys, "tidegate", black_box(value.as_bytes()), NOW));
}

#[divan::bench]
fn open_with_the_older_key(bencher: Bencher<'_, '_>) {
    let value = COOKIE.seal(&Keys::new(key(1), vec![]), "tidegate");
    let keys = Keys::new(key(2), vec![key(1)]);
    bencher.bench_local(|| VisitorCookie::open(&keys, "tidegate", black_box(value.as_bytes()), NOW));
}

#[divan::bench]
fn open_garbage(bencher: Bencher<'_, '_>) {
    let keys = Keys::new(key(1), vec![]);
    bencher.bench_local(|| VisitorCookie::open(&keys, "tidegate", black_box(b"blue"), NOW));
}
