//! gRPC as its own library speaks it, from end to end.

use crate::support::peer::{Peer, python_has};
use crate::support::{Authority, tidegate, until};

#[tokio::test]
async fn every_kind_of_call_passes_and_a_status_that_is_not_ok_is_a_failure() {
    if !python_has("grpc").await {
        return;
    }
    let (mut blue, mut green) = (Peer::start("grpc_peer.py", &[]), Peer::start("grpc_peer.py", &[]));
    let at = |port: String| format!("{{endpoints: [\"http://127.0.0.1:{port}\"], protocol: h2}}");
    let (blue_at, green_at) = (at(blue.says().await), at(green.says().await));
    let authority = Authority::new();
    authority.renew();
    let listeners = format!("listen: [{{address: \"127.0.0.1:0\"}}, {}]", authority.listener());
    let gate = tidegate().set(&listeners).service_at("calls", &blue_at, &green_at).start().await;
    gate.is_ready().await;
    gate.shift("calls", "100%").await;
    let secure = gate.status().await.listen[1].clone();
    let failures = async || gate.metrics().await.count("tidegate_failures_total", &["variant=\"green\""]);
    let (plain, ca) = (gate.address().to_string(), authority.path("ca.pem"));
    for arguments in [vec![plain.as_str()], vec![secure.as_str(), ca.as_str()]] {
        let before = failures().await;
        let mut client = Peer::start("grpc_peer.py", &arguments);
        assert_eq!(client.says().await, "ready");
        assert_eq!(client.asked("unary").await, "unary OK", "{arguments:?}");
        assert_eq!(client.asked("download").await, "download OK");
        assert_eq!(client.asked("upload").await, "upload 2000000");
        assert_eq!(client.asked("chat").await, "chat 100 answers");
        // The app learns of it at once, not after its own 30 s.
        assert_eq!(client.asked("cancel").await, "cancel CANCELLED");
        assert_eq!(green.says().await, "ended");
        assert_eq!(failures().await, before, "whoever gives up is no failure of the app");
        for code in ["INTERNAL", "UNAVAILABLE", "NOT_FOUND"] {
            let said = client.asked(&format!("fail {code}")).await;
            assert_eq!(said, format!("fail {code}: as was asked for"));
        }
        until("they are counted", async || (failures().await == before + 3).then_some(())).await;
        // Here the app may be first to say that time is up, which is its word, and counts.
        assert_eq!(client.asked("deadline").await, "deadline DEADLINE_EXCEEDED");
        assert_eq!(green.says().await, "ended");

        // Calls that are open stay where they are; the next goes where the weight says.
        gate.shift("calls", "0%").await;
        assert_eq!(client.asked("chat").await, "chat 100 answers");
        gate.shift("calls", "100%").await;
    }
    assert!(gate.has_ended_when_stopped().await);
}
