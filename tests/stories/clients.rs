//! The clients that people have at hand: curl and `openssl s_client`. Browsers and load generators are in `tests/soak`.

use crate::support::program::run;
use crate::support::{Authority, Gate, Origin, origin, tidegate};

/// A gate with two doors, in the clear and by TLS, and what stands behind it.
struct Stage {
    gate: Gate,
    authority: Authority,
    secure: u16,
    blue: Origin,
    _green: Origin,
}

async fn stage() -> Stage {
    let (blue, green) = (origin().says("blue").start().await, origin().says("green").start().await);
    let authority = Authority::new();
    authority.renew();
    let listeners = format!("listen: [{{address: \"127.0.0.1:0\"}}, {}]", authority.listener());
    let gate = tidegate().set(&listeners).service("shop", &blue, &green).start().await;
    let secure = gate.status().await.listen[1].rsplit(':').next().unwrap().parse().unwrap();
    Stage { gate, authority, secure, blue, _green: green }
}

impl Stage {
    /// `curl` to a path, and after the body what `format` asks for.
    async fn curl(&self, scheme: &str, arguments: &[&str], format: &str) -> Option<String> {
        let port = if scheme == "https" { self.secure } else { self.gate.address().port() };
        let (url, ca) = (format!("{scheme}://localhost:{port}/"), self.authority.path("ca.pem"));
        let always = ["-sS", "--ipv4", "--cacert", &ca, "--max-time", "20", "-w", format];
        run("curl", &[&always[..], arguments, &[&url]].concat(), b"").await
    }

    /// `openssl s_client`, which asks for `/` once it is in.
    async fn s_client(&self, arguments: &[&str]) -> Option<String> {
        let (address, ca) = (format!("127.0.0.1:{}", self.secure), self.authority.path("ca.pem"));
        let always =
            ["s_client", "-connect", &address, "-servername", "shop.test", "-CAfile", &ca, "-ign_eof"];
        let hello = b"GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n";
        run("openssl", &[&always[..], arguments].concat(), hello).await
    }
}

#[tokio::test]
async fn curl_speaks_both_versions_in_the_clear_and_by_tls() {
    let stage = stage().await;
    for (scheme, flag, version) in [
        ("http", "--http1.0", "1"),
        ("http", "--http1.1", "1.1"),
        // It asks for an upgrade to h2c, which is not taken.
        ("http", "--http2", "1.1"),
        ("http", "--http2-prior-knowledge", "2"),
        ("https", "--http1.1", "1.1"),
        ("https", "--http2", "2"),
    ] {
        let Some(said) = stage.curl(scheme, &[flag], " %{http_version}").await else { return };
        assert_eq!(said, format!("blue {version}"), "{scheme} {flag}");
    }
}

#[tokio::test]
async fn curl_uploads_in_every_way_and_keeps_its_connection() {
    let stage = stage().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'u'; 3_000_000]).unwrap();
    let data = format!("@{}", file.path().display());
    for version in ["--http1.1", "--http2"] {
        for field in ["x-no: thing", "expect: 100-continue", "transfer-encoding: chunked"] {
            let Some(said) =
                stage.curl("https", &[version, "--data-binary", &data, "-H", field], " %{http_code}").await
            else {
                return;
            };
            // By HTTP/2 its framing is another, and the field would not be allowed.
            assert_eq!(said, "blue 200", "{version} {field}");
            assert_eq!(stage.blue.last().body.len(), 3_000_000, "{version} {field}");
        }
        let port = stage.secure;
        let (again, kept) = (format!("https://localhost:{port}/again"), " %{num_connects}");
        let said = stage.curl("https", &[version, &again], kept).await.unwrap();
        assert_eq!(said, "blue 1blue 0", "{version}");
        let head = stage.curl("https", &[version, "--head"], "").await.unwrap();
        assert!(head.contains(" 200") && head.to_lowercase().contains("content-length: 4"), "{head}");
    }
}

#[tokio::test]
async fn openssl_verifies_resumes_and_agrees_on_a_protocol() {
    let stage = stage().await;
    let folder = tempfile::tempdir().unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let session = folder.path().join(version).display().to_string();
        let Some(said) = stage.s_client(&[version, "-sess_out", &session]).await else { return };
        assert!(said.contains("Verify return code: 0 (ok)") && said.contains("New, TLSv1"), "{said}");
        assert!(said.contains("HTTP/1.1 200 OK") && said.contains("No ALPN negotiated"), "{said}");
        let said = stage.s_client(&[version, "-sess_in", &session]).await.unwrap();
        assert!(said.contains("Reused, TLSv1") && said.contains("HTTP/1.1 200 OK"), "{said}");
        for (offered, agreed) in [
            ("h2,http/1.1", "h2"),
            ("http/1.1,h2", "h2"),
            ("http/1.1", "http/1.1"),
            ("odd,http/1.1", "http/1.1"),
        ] {
            let said = stage.s_client(&[version, "-alpn", offered]).await.unwrap();
            assert!(said.contains(&format!("ALPN protocol: {agreed}\n")), "{offered}: {said}");
        }
        let said = stage.s_client(&[version, "-alpn", "odd"]).await.unwrap();
        assert!(said.contains("no application protocol"), "{said}");
    }
    let said = stage.s_client(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]).await.unwrap();
    assert!(said.contains(" alert ") && !said.contains("HTTP/1.1"), "{said}");
}

#[tokio::test]
async fn whoever_speaks_in_the_clear_to_the_door_of_tls_is_told() {
    let stage = stage().await;
    let url = format!("http://127.0.0.1:{}/", stage.secure);
    let arguments = ["-sS", "--max-time", "20", "-w", " %{http_code}", &url];
    if let Some(said) = run("curl", &arguments, b"").await {
        assert!(said.ends_with(" 400") && said.to_lowercase().contains("https"), "{said}");
    }
}
