//! The one message of the gRPC Health Checking Protocol, both ways: `grpc.health.v1.Health/Check`.
//!
//! `HealthCheckRequest` has the service's name as field 1, `HealthCheckResponse` has a status as field 1, and 1 is
//! `SERVING`. That is all, so there is no need for a compiler of protocols.

use http::HeaderMap;

/// What is called.
pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";

const SERVING: u64 = 1;
/// Wire types of Protocol Buffers: a varint, and what says its own length.
const VARINT: u64 = 0;
const LENGTH: u64 = 2;

/// A `HealthCheckRequest` as one message of gRPC: not compressed, its length, itself.
pub(super) fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(service.len() + 3);
    if !service.is_empty() {
        message.push((1 << 3) | LENGTH as u8);
        put_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend(message);
    framed
}

/// `grpc-status` in trailers or head.
pub(super) fn status(fields: &HeaderMap) -> Option<u32> {
    fields.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Whether a call that ended so, with these bytes, says that the service serves.
pub(super) fn judge(status: Option<u32>, body: &[u8]) -> Result<(), String> {
    match status {
        Some(0) => {}
        Some(5) => return Err("the server does not know this service (NOT_FOUND)".to_owned()),
        Some(12) => return Err("the server has no health service (UNIMPLEMENTED)".to_owned()),
        Some(other) => return Err(format!("grpc-status {other}")),
        None => return Err("the answer has no grpc-status".to_owned()),
    }
    match serving(body) {
        Some(SERVING) => Ok(()),
        Some(0) => Err("UNKNOWN".to_owned()),
        Some(2) => Err("NOT_SERVING".to_owned()),
        Some(3) => Err("SERVICE_UNKNOWN".to_owned()),
        Some(other) => Err(format!("the serving status {other}")),
        None => Err("the answer is no HealthCheckResponse".to_owned()),
    }
}

/// The status in a `HealthCheckResponse`, 0 if it is left out; fields that nobody knows are passed over.
fn serving(framed: &[u8]) -> Option<u64> {
    let (head, message) = framed.split_at_checked(5)?;
    let length = u32::from_be_bytes(head.get(1..)?.try_into().ok()?);
    if head.first() != Some(&0) || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    let mut rest = message;
    let mut status = 0;
    while !rest.is_empty() {
        let key = take_varint(&mut rest)?;
        match key & 7 {
            VARINT => {
                let value = take_varint(&mut rest)?;
                if key >> 3 == 1 {
                    status = value;
                }
            }
            LENGTH => {
                let length = usize::try_from(take_varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            1 => rest = rest.get(8..)?,
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_question_names_the_service_or_nothing() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = question(&"x".repeat(200));
        assert_eq!(long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
    }

    #[test]
    fn only_a_call_that_succeeded_and_says_serving_passes() {
        #[track_caller]
        fn check(status: Option<u32>, body: &[u8], expected: Result<(), &str>) {
            let judged = judge(status, body);
            assert_eq!(judged.as_ref().map_err(String::as_str).copied(), expected);
        }
        let serving = [0, 0, 0, 0, 2, 0x08, 1];
        check(Some(0), &serving, Ok(()));
        check(Some(0), &[0, 0, 0, 0, 6, 0x12, 2, b'h', b'i', 0x08, 1], Ok(()));
        check(Some(0), &[0, 0, 0, 0, 2, 0x08, 2], Err("NOT_SERVING"));
        check(Some(0), &[0, 0, 0, 0, 2, 0x08, 3], Err("SERVICE_UNKNOWN"));
        check(Some(0), &[0, 0, 0, 0, 0], Err("UNKNOWN"));
        check(Some(0), &[], Err("the answer is no HealthCheckResponse"));
        check(Some(0), &[1, 0, 0, 0, 2, 0x08, 1], Err("the answer is no HealthCheckResponse"));
        check(Some(0), &serving[..6], Err("the answer is no HealthCheckResponse"));
        check(Some(12), &[], Err("the server has no health service (UNIMPLEMENTED)"));
        check(Some(5), &[], Err("the server does not know this service (NOT_FOUND)"));
        check(Some(14), &serving, Err("grpc-status 14"));
        check(None, &serving, Err("the answer has no grpc-status"));
    }

    proptest! {
        #[test]
        fn no_answer_is_too_odd_to_be_judged(status in prop::option::of(0u32..20), body: Vec<u8>) {
            let _ = judge(status, &body);
        }

        #[test]
        fn numbers_come_back_as_they_went(value: u64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut rest = &bytes[..];
            prop_assert_eq!(take_varint(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }
    }
}
