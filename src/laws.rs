//! What holds for every input, however wrong: one law for each thing that Tidegate parses by itself.
//!
//! A law takes bytes, reads them as a stranger's, and panics if a promise does not hold. So cargo-fuzz can look for bytes that break
//! one (`tests/fuzz/run`), and the bytes that it once found go through the same law in every `cargo test`. The laws stand beside
//! what they are about, because they see what nobody else may; this module is their only door, and no build that is
//! shipped has it.

pub use crate::config::laws::{config, launch, plan};
pub use crate::proxy::laws::{cookies, forwarded, proxy_header, scrutiny, target};
pub use crate::routing::laws::{host, path};
pub use crate::upstream::laws::responses;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    type Law = fn(&[u8]);

    const LAWS: [(&str, Law); 11] = [
        ("config", config),
        ("cookies", cookies),
        ("forwarded", forwarded),
        ("host", host),
        ("launch", launch),
        ("path", path),
        ("plan", plan),
        ("proxy_header", proxy_header),
        ("responses", responses),
        ("scrutiny", scrutiny),
        ("target", target),
    ];

    fn names(folder: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let stem = |entry: fs::DirEntry| entry.path().file_stem().unwrap().to_string_lossy().into_owned();
        entries.map(|entry| stem(entry.unwrap())).collect()
    }

    #[test]
    fn the_laws_hold_for_everything_that_was_ever_found() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
        let laws: BTreeSet<String> = LAWS.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names(&fuzz.join("targets")), laws);
        assert_eq!(names(&fuzz.join("corpus")), laws);
        for (name, law) in LAWS {
            let mut files: Vec<_> = fs::read_dir(fuzz.join("corpus").join(name))
                .unwrap()
                .map(|file| file.unwrap().path())
                .collect();
            files.sort();
            assert!(files.len() >= 10, "the corpus of {name} has {} files", files.len());
            for file in files {
                println!("{}", file.display());
                law(&fs::read(&file).unwrap());
            }
        }
    }

    #[test]
    fn the_laws_hold_for_bytes_of_no_kind() {
        for (name, law) in LAWS {
            println!("{name}");
            for bytes in [&b""[..], b"\0", b"\xff\xff\xff\xff", b"\r\n\r\n", &[b'a'; 5000]] {
                law(bytes);
            }
        }
    }
}
