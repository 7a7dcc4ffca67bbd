//! WebSockets as a common library speaks them, through everything that happens to a service.

use crate::support::peer::{Peer, python_has};
use crate::support::{tidegate, until};

#[tokio::test]
async fn a_real_websocket_outlives_weight_changes_and_ends_after_a_kill() {
    if !python_has("websockets.sync.server").await {
        return;
    }
    let (mut blue, mut green) =
        (Peer::start("websocket_peer.py", &[]), Peer::start("websocket_peer.py", &[]));
    let (blue, green) = (
        (format!("http://127.0.0.1:{}", blue.says().await), blue),
        (format!("http://127.0.0.1:{}", green.says().await), green),
    );
    let gate = tidegate().set("timeouts: {grace: 100ms}").service_at("shop", &blue.0, &green.0).start().await;
    gate.shift("shop", "100%").await;
    let url = format!("ws://{}/chat", gate.address());
    let mut talker = Peer::start("websocket_peer.py", &[&url]);
    assert_eq!(talker.says().await, "open chat");
    assert_eq!(talker.asked("echo").await, "echoed");
    for share in ["50%", "1%", "0%", "20%"] {
        gate.shift("shop", share).await;
        assert_eq!(talker.asked("echo").await, "echoed", "at {share}");
    }
    let open = async |variant: &str| {
        gate.metrics().await.count("tidegate_tunnels", &[&format!("variant=\"{variant}\"")])
    };
    assert_eq!(open("green").await, 1);
    gate.kill("shop").await;
    assert_eq!(talker.asked("wait").await, "closed 1006");
    until("no tunnel leads to green", async || (open("green").await == 0).then_some(())).await;

    let mut talker = Peer::start("websocket_peer.py", &[&url]);
    assert_eq!(talker.says().await, "open chat");
    assert_eq!(talker.asked("echo").await, "echoed");
    assert_eq!(open("blue").await, 1);
    assert_eq!(talker.asked("close").await, "closed 1000");
    until("it is over", async || (open("blue").await == 0).then_some(())).await;
    assert!(gate.has_ended_when_stopped().await);
}
