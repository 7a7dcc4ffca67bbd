//! What nobody should write, and commands that do not behave: refused, or bounded and ended; nothing half-done without a record.

use tidegate::launch::State;

use super::{RELEASE, shop};
use crate::support::gate::has_gone;
use crate::support::{Book, until};

#[tokio::test]
async fn what_is_no_launch_is_refused_with_the_place_before_anything_is_done() {
    let (_blue, _green, gate, site) = shop().await;
    for (from, to, said) in [
        ("id: deploy,", "id: expand,", "expand"),
        ("id: expand,", "id: expand, needs: [after],", "after"),
        ("id: expand,", "id: expand, needs: [nobody],", "nobody"),
        ("http_status:", "http_statuss:", "http_statuss"),
        ("undo: [./act, deploy-undo], ", "", "undo"),
        ("[./act, deploy]", "[./act, \"${NOT_SET_ANYWHERE}\"]", "NOT_SET_ANYWHERE"),
        ("comms: none", "window: {from: \"2020-01-01 00:00 UTC\", for: 1h}", "window"),
        ("comms: none", "go_nogo: {roles: [astrologer]}", "astrologer"),
        ("service: SERVICE", "service: shopp", "shopp"),
        ("plan: plan.yaml", "plan: nowhere.yaml", "nowhere.yaml"),
        ("error_rate: 20%", "error_rate: 0", "error_rate"),
        ("phases:", "phasis:", "phasis"),
    ] {
        let text = RELEASE.replacen(from, to, 1);
        assert_ne!(text, RELEASE, "{from}");
        site.file("launch.yaml", &text);
        let ended = site.tidegate(&["launch", "start", "-f", "launch.yaml"]).await;
        assert!(matches!(ended.code, Some(1..=3)), "{to}: {:?} {}", ended.code, ended.said);
        assert!(ended.said.contains(said), "{to}: {}", ended.said);
        assert!(site.calls().is_empty(), "{to}: {:?}", site.calls());
    }
    let list = site.tidegate(&["launch", "list", "--json"]).await.with(0);
    assert_eq!(list.trim(), "[]", "nothing is on the book");
    assert_eq!(gate.weight("shop").await.to_string(), "0%");
}

#[tokio::test]
async fn a_locked_service_is_not_launched() {
    let (_blue, _green, gate, site) = shop().await;
    gate.kill("shop").await;
    let refused = site.tidegate(&["launch", "start", "-f", "launch.yaml"]).await.with(3);
    assert!(refused.contains("lock") && refused.contains("tidegate arm"), "{refused}");
    assert!(site.calls().is_empty());
    gate.arm("shop").await;
    site.tidegate(&["launch", "start", "-f", "launch.yaml"]).await.with(0);
}

#[tokio::test]
async fn a_command_that_says_a_gibibyte_is_heard_to_its_end_and_cut_short() {
    let (_blue, _green, gate, site) = shop().await;
    site.order(
        "deploy",
        "echo first; head -c 1073741824 /dev/zero | tr '\\0' x; echo; echo last words; exit 9",
    );
    site.file("launch.yaml", &RELEASE.replace("timeout: 30s", "timeout: 80s"));
    let running = site.begin(&["launch", "start", "-f", "launch.yaml"]);
    let pid = running.pid();
    let ended = running.ends();
    let peak = async {
        let mut peak = 0;
        while let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let Some(kib) = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()) else {
                break;
            };
            peak = peak.max(kib);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        peak
    };
    let (ended, peak_kib) = tokio::join!(ended, peak);
    let said = ended.with(6);
    assert!(said.contains("last words"), "{}", &said[..said.len().min(4096)]);
    assert!(said.len() < 64 << 10, "{} bytes were said", said.len());
    assert!(peak_kib < 256 << 10, "{peak_kib} KiB in memory");
    let ledger = Book::of(&gate).view("shop-2").await.ledger;
    let (_, outcome) = ledger.run.phases[1].last.as_ref().unwrap();
    assert!(outcome.said.len() <= 4096, "{}", outcome.said.len());
}

#[tokio::test]
async fn a_command_that_forks_and_stays_is_ended_with_its_phase() {
    let (_blue, _green, gate, site) = shop().await;
    // One that holds the output open, and one that does not listen.
    site.order("expand", "sleep 1000 & echo $! >stays");
    site.order("deploy", "(trap '' TERM; echo $$ >deaf; sleep 1000; sleep 1000) & until [ -s deaf ]; do sleep 0.01; done; exec sleep 1000");
    site.file("launch.yaml", &RELEASE.replace("timeout: 30s", "timeout: 3s"));
    let said = site.tidegate(&["launch", "start", "-f", "launch.yaml"]).await.with(6);
    for name in ["stays", "deaf"] {
        let pid = until("it says who it is", async || {
            std::fs::read_to_string(site.path(name)).ok()?.trim().parse::<u32>().ok()
        })
        .await;
        has_gone(pid).await;
    }
    assert_eq!(site.calls().last().map(String::as_str), Some("deploy-undo"), "{said}");
    assert_eq!(Book::of(&gate).state("shop-2").await, State::RolledBack);
}

#[tokio::test]
async fn secrets_are_neither_recorded_nor_said() {
    let (_blue, _green, gate, site) = shop().await;
    let site = site.environment("SHOP_TOKEN", "hunter2hunter2");
    site.order("deploy", "echo \"the token is $SHOP_TOKEN and $2\"; exit 1");
    site.file("launch.yaml", &RELEASE.replace("[./act, deploy]", "[./act, deploy, \"${SHOP_TOKEN}\"]"));
    let said = site.tidegate(&["launch", "start", "-f", "launch.yaml"]).await.with(6);
    assert!(said.contains("the token is") && !said.contains("hunter2"), "{said}");
    for line in [
        &["launch", "log", "shop-2", "--json"][..],
        &["launch", "report", "shop-2"],
        &["launch", "status", "shop-2", "--json"],
    ] {
        let said = site.tidegate(line).await.with(0);
        assert!(!said.contains("hunter2"), "{said}");
    }
    let folder = gate.folder().join("state");
    let found = std::process::Command::new("grep").args(["-r", "hunter2"]).arg(folder).output().unwrap();
    assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
}
