//! Whether somebody accepts connections.
//!
//! As any client would find out: of a name's addresses one that answers is enough. All are tried side by side, so that one that swallows
//! packets does not use up the time of the others.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpStream, lookup_host};
use tokio_stream::StreamExt;

/// Connects to `HOST:PORT`.
pub(super) async fn ask(address: &str) -> Result<String, String> {
    let form = || format!("{address:?} is no HOST:PORT");
    let (host, port) = address.rsplit_once(':').ok_or_else(form)?;
    let port: u16 = port.parse().map_err(|_| form())?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let found = lookup_host((host, port)).await.map_err(|error| format!("look up {host}: {error}"))?;
    let found: BTreeSet<SocketAddr> = found.collect();
    if found.is_empty() {
        return Err(format!("look up {host}: it has no address"));
    }
    let mut attempts: FuturesUnordered<_> =
        found.into_iter().map(async |address| (address, TcpStream::connect(address).await)).collect();
    let mut failures = Vec::new();
    while let Some((to, attempt)) = attempts.next().await {
        match attempt {
            Ok(_) => return Ok(format!("{address} accepts connections, on {to}")),
            Err(error) => failures.push(format!("connect to {to}: {error}")),
        }
    }
    Err(failures.join("\n"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::ask;

    #[tokio::test]
    async fn one_address_that_accepts_is_enough_and_all_that_refuse_are_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost", "[127.0.0.1]"] {
            let said = ask(&format!("{host}:{port}")).await.unwrap();
            assert!(said.contains(&format!("on 127.0.0.1:{port}")), "{said}");
        }
        drop(listener);
        let said = ask(&format!("127.0.0.1:{port}")).await.unwrap_err();
        assert!(said.starts_with(&format!("connect to 127.0.0.1:{port}: ")), "{said}");
        for wrong in ["shop", "shop:", "shop:70000", ":x"] {
            assert!(ask(wrong).await.unwrap_err().contains("is no HOST:PORT"), "{wrong}");
        }
    }
}
