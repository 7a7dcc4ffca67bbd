//! TLS as operators live with it: certificates renewed under traffic, broken ones, and what is said about them.

use std::path::Path;

use rcgen::KeyPair;

use crate::support::http::get;
use crate::support::program::run;
use crate::support::{Authority, Origin, origin, tidegate, until};

async fn origins() -> (Origin, Origin) {
    (origin().says("blue").start().await, origin().says("green").start().await)
}

fn hello() -> Vec<u8> {
    get("/", &[("host", "shop.test")])
}

#[tokio::test]
async fn renewed_files_are_shown_to_new_clients_and_disturb_no_old_one() {
    let (blue, green) = origins().await;
    let authority = Authority::new();
    let first = authority.renew();
    let gate = tidegate().set(&authority.listen()).service("shop", &blue, &green).start_daemon().await;
    let (mut old, shown) = authority.meet(gate.address()).await;
    assert_eq!(shown, first);
    assert_eq!(old.ask(&hello()).await.unwrap().text(), "blue");

    let second = authority.renew();
    until("the new certificate is shown", async || {
        (authority.meet(gate.address()).await.1 == second).then_some(())
    })
    .await;
    assert_eq!(old.ask(&hello()).await.unwrap().text(), "blue");

    // Broken files change nothing, and are said.
    std::fs::write(authority.path("shop.pem"), "no certificate").unwrap();
    until("it is said", async || gate.said().contains("the old ones stay").then_some(())).await;
    let (mut new, shown) = authority.meet(gate.address()).await;
    assert_eq!(shown, second);
    assert_eq!(new.ask(&hello()).await.unwrap().text(), "blue");
    let metrics = gate.metrics().await;
    let text = format!("{metrics:?}");
    assert!(text.contains("tidegate_certificate_expiry_timestamp_seconds"), "{text}");

    let third = authority.renew();
    until("it is mended", async || (authority.meet(gate.address()).await.1 == third).then_some(())).await;
    assert_eq!(old.ask(&hello()).await.unwrap().text(), "blue");
}

#[tokio::test]
async fn a_reload_takes_new_certificates_and_refuses_broken_ones() {
    let (blue, green) = origins().await;
    let authority = Authority::new();
    authority.renew();
    let gate = tidegate().set(&authority.listen()).service("shop", &blue, &green).start().await;
    let second = authority.renew();
    let reloaded = gate.reload().await.unwrap();
    assert!(reloaded.drift.is_empty(), "{reloaded:?}");
    let (mut client, shown) = authority.meet(gate.address()).await;
    assert_eq!(shown, second);

    let key = KeyPair::generate().unwrap();
    std::fs::write(authority.path("shop.key"), key.serialize_pem()).unwrap();
    let (status, problem) = gate.reload().await.unwrap_err();
    assert!(status == 400 && problem.error.contains("is not the key of"), "{}", problem.error);
    assert_eq!(client.ask(&hello()).await.unwrap().text(), "blue");
    assert_eq!(authority.meet(gate.address()).await.1, second);
}

#[tokio::test]
async fn a_process_with_broken_certificates_does_not_start() {
    let (blue, green) = origins().await;
    let authority = Authority::new();
    authority.renew();
    std::fs::write(Path::new(&authority.path("shop.key")), "no key").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let yaml = tidegate().set(&authority.listen()).service("shop", &blue, &green).yaml(folder.path());
    let file = folder.path().join("tidegate.yaml");
    std::fs::write(&file, yaml).unwrap();
    let file = file.display().to_string();
    let said = run(env!("CARGO_BIN_EXE_tidegate"), &["run", "--config", &file], b"").await.unwrap();
    assert!(said.contains("holds no private key in PEM"), "{said}");
}
