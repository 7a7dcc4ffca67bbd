//! The chunked coding of a response (RFC 9112 §7.1), read strictly.
//!
//! Data goes on as it was read, however chunks are cut; only sizes and trailers wait until they are whole.
//! Extensions mean nothing here and are skipped, within bounds: they are a way to make a reader work without
//! giving it anything.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::fields::{Malformed, Scan, take_trailers};

/// So many digits hold every size that fits.
const SIZE_DIGITS_MAX: u8 = 16;
/// Of all chunks of a body.
const EXTENSION_BYTES_MAX: u32 = 16 * 1024;
const TRAILER_BYTES_MAX: usize = 16 * 1024;
const TRAILERS_MAX: usize = 64;

/// What comes next of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Content.
    Data(Bytes),
    /// What follows the content.
    Trailers(HeaderMap),
    /// It was read to its end.
    End,
}

/// A chunked body, as far as it was read.
#[derive(Debug)]
pub(super) struct Chunks {
    at: At,
    extension_bytes: u32,
}

#[derive(Debug)]
enum At {
    Size {
        size: u64,
        digits: u8,
    },
    /// White space after the size: an extension has to follow (RFC 9112 §7.1.1, "bad" white space).
    Gap {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    Trailers(Scan),
    End,
}

const START: At = At::Size { size: 0, digits: 0 };

impl Chunks {
    pub(super) fn new() -> Self {
        Self { at: START, extension_bytes: 0 }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.at, At::End)
    }

    /// Takes what comes next from the front of what was read; `None`: more has to be read first.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, Malformed> {
        loop {
            match &mut self.at {
                At::Data { left } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    *left -= count as u64;
                    if *left == 0 {
                        self.at = At::DataCr;
                    }
                    return Ok(Some(Piece::Data(input.split_to(count).freeze())));
                }
                At::Trailers(scan) => {
                    let Some(bytes) = scan.end(input, TRAILER_BYTES_MAX)? else { return Ok(None) };
                    self.at = At::End;
                    if bytes == 2 {
                        input.advance(2);
                    } else {
                        let trailers = take_trailers(input, bytes, TRAILERS_MAX)?;
                        return Ok(Some(Piece::Trailers(trailers)));
                    }
                }
                At::End => return Ok(Some(Piece::End)),
                At::Size { .. }
                | At::Gap { .. }
                | At::Extension { .. }
                | At::SizeEnd { .. }
                | At::DataCr
                | At::DataLf => {
                    let Some(byte) = input.first().copied() else { return Ok(None) };
                    input.advance(1);
                    self.step(byte)?;
                }
            }
        }
    }

    /// One byte between data and data.
    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        self.at = match (&self.at, byte) {
            (At::Size { size, digits }, byte) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).ok_or(Malformed::ChunkSize)?;
                if *digits >= SIZE_DIGITS_MAX {
                    return Err(Malformed::ChunkSize);
                }
                At::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (At::Size { digits: 0, .. }, _) => return Err(Malformed::ChunkSize),
            (At::Size { size, .. }, b'\r') => At::SizeEnd { size: *size },
            (At::Size { size, .. } | At::Gap { size }, b';') => At::Extension { size: *size },
            (At::Size { size, .. } | At::Gap { size }, b' ' | b'\t') => {
                let size = *size;
                self.skip()?;
                At::Gap { size }
            }
            (At::Size { .. } | At::Gap { .. }, _) => return Err(Malformed::ChunkSize),
            (At::Extension { size }, b'\r') => At::SizeEnd { size: *size },
            (At::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                let size = *size;
                self.skip()?;
                At::Extension { size }
            }
            (At::Extension { .. }, _) => return Err(Malformed::ChunkExtension),
            (At::SizeEnd { size: 0 }, b'\n') => At::Trailers(Scan::default()),
            (At::SizeEnd { size }, b'\n') => At::Data { left: *size },
            (At::SizeEnd { .. }, _) => return Err(Malformed::ChunkSize),
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => START,
            (At::DataCr | At::DataLf | At::Data { .. } | At::Trailers(_) | At::End, _) => {
                return Err(Malformed::ChunkEnd);
            }
        };
        Ok(())
    }

    fn skip(&mut self) -> Result<(), Malformed> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX { Err(Malformed::ChunkExtension) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Content, trailers' names, whether it ended, and what is left over.
    type Read = Result<(Vec<u8>, Vec<String>, bool, Vec<u8>), Malformed>;

    fn read(bytes: &[u8], step: usize) -> Read {
        let (mut chunks, mut input) = (Chunks::new(), BytesMut::new());
        let (mut data, mut trailers, mut is_over) = (Vec::new(), Vec::new(), false);
        for piece in bytes.chunks(step) {
            input.extend_from_slice(piece);
            while !is_over {
                match chunks.next(&mut input)? {
                    None => break,
                    Some(Piece::Data(piece)) => data.extend_from_slice(&piece),
                    Some(Piece::Trailers(map)) => trailers.extend(map.keys().map(ToString::to_string)),
                    Some(Piece::End) => is_over = true,
                }
            }
        }
        Ok((data, trailers, is_over, input.to_vec()))
    }

    #[track_caller]
    fn check(text: &str, expected: Result<(&str, &[&str], &str), Malformed>) {
        let got = read(text.as_bytes(), text.len());
        let expected = expected.map(|(data, trailers, rest)| {
            let trailers = trailers.iter().map(ToString::to_string).collect();
            (data.as_bytes().to_vec(), trailers, true, rest.as_bytes().to_vec())
        });
        assert_eq!(got, expected, "{text:?}");
    }

    #[test]
    fn a_body_is_what_its_chunks_hold() {
        check("0\r\n\r\n", Ok(("", &[], "")));
        check("2\r\nok\r\n0\r\n\r\nrest", Ok(("ok", &[], "rest")));
        check("1\r\na\r\n00000A\r\n0123456789\r\n000\r\n\r\n", Ok(("a0123456789", &[], "")));
        check("1;a=b;c=\"d e\"\r\na\r\n0 ;x\r\n\r\n", Ok(("a", &[], "")));
        check("0\r\nX-Sum: 1\r\ny:\r\n\r\nrest", Ok(("", &["x-sum", "y"], "rest")));
    }

    #[test]
    fn chunks_that_could_be_read_differently_are_refused() {
        use Malformed::{ChunkEnd, ChunkExtension, ChunkSize, Field, LineEnd};
        for size in [
            "",
            " 1",
            "+1",
            "-1",
            "0x1",
            "1x",
            "g",
            "1 ",
            "1\t",
            "1 1",
            "1\r",
            "1\n",
            "1\u{b}",
            "10000000000000000",
            "1,2",
        ] {
            check(&format!("{size}\r\na\r\n0\r\n\r\n"), Err(ChunkSize));
        }
        check("1\na\r\n0\r\n\r\n", Err(ChunkSize));
        check("1\r\nab\r\n0\r\n\r\n", Err(ChunkEnd));
        check("2\r\nab0\r\n\r\n", Err(ChunkEnd));
        check("1\r\na\n0\r\n\r\n", Err(ChunkEnd));
        check("1\r\na\r0\r\n\r\n", Err(ChunkEnd));
        for extension in ["\0", "\n", "\u{1b}", "\u{7f}"] {
            check(&format!("1;{extension}\r\na\r\n0\r\n\r\n"), Err(ChunkExtension));
        }
        check("1;a\rb\r\na\r\n0\r\n\r\n", Err(ChunkSize));
        check("0\r\na: b\n\r\n", Err(LineEnd));
        check("0\r\n\n", Err(LineEnd));
        check("0\r\na : b\r\n\r\n", Err(Field));
        check("0\r\na: b\r\n c\r\n\r\n", Err(Field));
        check("0\r\nno field\r\n\r\n", Err(Field));
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let most = "x".repeat(EXTENSION_BYTES_MAX as usize);
        assert!(read(format!("1;{most}\r\na\r\n0\r\n\r\n").as_bytes(), 1000).is_ok());
        assert_eq!(read(format!("1;{most}\r\na\r\n0;x").as_bytes(), 1000), Err(Malformed::ChunkExtension));
        assert_eq!(read("1;x\r\na\r\n".repeat(20_000).as_bytes(), 1000), Err(Malformed::ChunkExtension));
        let trailers = |count: usize| format!("0\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert!(read(trailers(TRAILERS_MAX).as_bytes(), 1000).is_ok());
        assert_eq!(read(trailers(TRAILERS_MAX + 1).as_bytes(), 1000), Err(Malformed::TooManyFields));
        assert_eq!(read(format!("0\r\na: {}", "b".repeat(20_000)).as_bytes(), 1000), Err(Malformed::TooLong));
    }

    proptest! {
        #[test]
        fn how_chunks_arrive_changes_nothing(
            text in "([0-3a]{1,2}(;[a-z \0]{0,3})?\r\n[a-z0-9]{0,3}\r\n|\r\n|\n){0,4}0\r\n(a: b\r\n|c:\n){0,2}\r\n[a-z]{0,3}",
            step in 1_usize..9,
        ) {
            prop_assert_eq!(read(text.as_bytes(), step), read(text.as_bytes(), text.len()));
        }

        #[test]
        fn what_was_cut_into_chunks_is_put_together_again(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            step in 1_usize..60,
        ) {
            let mut text = Vec::new();
            for piece in &pieces {
                text.extend_from_slice(format!("{:X}\r\n", piece.len()).as_bytes());
                text.extend_from_slice(piece);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\n\r\n");
            let got = read(&text, step).unwrap();
            prop_assert_eq!(got, (pieces.concat(), Vec::new(), true, Vec::new()));
            // Without its last byte it is not over.
            prop_assert!(!read(&text[..text.len() - 1], step).unwrap().2);
        }

        #[test]
        fn no_bytes_whatever_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes, 16);
        }
    }
}
