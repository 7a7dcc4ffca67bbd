//! The kinds of work, one table each.

use crate::fleet::{Cores, ONE, TWO};
use crate::load::Load;
use crate::product::{ALL, Product};

pub struct Row {
    /// How it is asked for on the command line.
    pub key: &'static str,
    pub title: &'static str,
    pub cores: Cores,
    pub work: Work,
    /// Who cannot do it, and why.
    pub cannot: Vec<(Product, &'static str)>,
}

pub enum Work {
    /// Cost of a request, as many as go. The first contender is who the others are compared with.
    Cost(Vec<Contender>),
    /// Time that is added at a fixed rate; `None` for a product is the origin without a proxy.
    Added(Vec<Contender>),
    /// Memory for each connection that is kept without a word.
    Idle { tls: bool },
}

#[derive(Clone)]
pub struct Contender {
    pub label: String,
    pub product: Option<Product>,
    pub load: Load,
}

const FLOOR_IS_RAW: (Product, &str) = (Product::Floor, "understands nothing, so neither TLS nor HTTP/2");
const POST: &str =
    "wrk.method = 'POST'\nwrk.body = string.rep('x', 1024)\nwrk.headers['content-type'] = 'text/plain'\n";
const POST_MIB: &str =
    "wrk.method = 'POST'\nwrk.body = string.rep('x', 1048576)\nwrk.headers['content-type'] = 'text/plain'\n";

pub fn all() -> Vec<Row> {
    let http1 = wrk(false, 64, "/", None);
    let tls = wrk(true, 64, "/", None);
    let h2 = Load::H2load { connections: 8, streams: 16, path: "/" };
    vec![
        cost("http1", "HTTP/1.1 keep-alive, small GET, 64 connections", ONE, &http1, vec![]),
        cost(
            "post",
            "HTTP/1.1 keep-alive, POST of 1 KiB, 64 connections",
            ONE,
            &wrk(false, 64, "/", Some(POST)),
            vec![],
        ),
        cost("tls", "HTTP/1.1 keep-alive over TLS, small GET, 64 connections", ONE, &tls, vec![FLOOR_IS_RAW]),
        cost(
            "handshakes",
            "Full TLS 1.3 handshakes (X25519, ECDSA P-256), a small GET each, 16 at once",
            ONE,
            &Load::Handshakes { connections: 16 },
            vec![FLOOR_IS_RAW],
        ),
        cost(
            "h2",
            "HTTP/2 over TLS from clients, small GET, 8 connections of 16 streams",
            ONE,
            &h2,
            vec![FLOOR_IS_RAW],
        ),
        cost(
            "h2-endpoint",
            "HTTP/2 to endpoints, small GET by HTTP/1.1, 64 connections",
            ONE,
            &wrk(false, 64, "/h2", None),
            vec![FLOOR_IS_RAW, (Product::Nginx, "speaks HTTP/2 to gRPC endpoints only")],
        ),
        cost("down", "1 MiB down, 8 connections", ONE, &wrk(false, 8, "/mib", None), vec![]),
        cost("up", "1 MiB up, 8 connections", ONE, &wrk(false, 8, "/", Some(POST_MIB)), vec![]),
        Row {
            key: "modes",
            title: "Ways of assigning, HTTP/1.1 keep-alive, small GET, 64 connections",
            cores: ONE,
            work: Work::Cost(modes()),
            cannot: vec![],
        },
        added("latency", "Time added at 7,000 requests a second over 64 connections"),
        Row {
            key: "idle",
            title: "Memory of an idle connection after one request",
            cores: ONE,
            work: Work::Idle { tls: false },
            cannot: vec![(Product::Floor, "keeps nothing but the sockets")],
        },
        Row {
            key: "idle-tls",
            title: "Memory of an idle TLS connection after one request",
            cores: ONE,
            work: Work::Idle { tls: true },
            cannot: vec![FLOOR_IS_RAW],
        },
        cost("http1-2", "Two threads: HTTP/1.1 keep-alive, small GET, 64 connections", TWO, &http1, vec![]),
        cost(
            "tls-2",
            "Two threads: HTTP/1.1 keep-alive over TLS, 64 connections",
            TWO,
            &tls,
            vec![FLOOR_IS_RAW],
        ),
        cost(
            "h2-2",
            "Two threads: HTTP/2 over TLS, 8 connections of 16 streams",
            TWO,
            &h2,
            vec![FLOOR_IS_RAW],
        ),
    ]
}

/// All products under the same load.
fn cost(
    key: &'static str,
    title: &'static str,
    cores: Cores,
    load: &Load,
    cannot: Vec<(Product, &'static str)>,
) -> Row {
    let mut contenders = Vec::new();
    for product in ALL.into_iter().filter(|product| !cannot.iter().any(|(who, _)| who == product)) {
        // It has one thread, whatever the others have.
        if product == Product::Floor && cores != ONE {
            continue;
        }
        contenders.push(Contender {
            label: product.name().to_owned(),
            product: Some(product),
            load: load.clone(),
        });
    }
    Row { key, title, cores, work: Work::Cost(contenders), cannot }
}

fn added(key: &'static str, title: &'static str) -> Row {
    let load = Load::OpenLoop { per_second: 7000, connections: 64, path: "/" };
    let direct = Contender { label: "no proxy".to_owned(), product: None, load: load.clone() };
    let mut contenders = vec![direct];
    contenders.extend(ALL.into_iter().map(|product| Contender {
        label: product.name().to_owned(),
        product: Some(product),
        load: load.clone(),
    }));
    Row { key, title, cores: ONE, work: Work::Added(contenders), cannot: vec![] }
}

/// Tidegate in each way, and what of it the two others have. All get 4,096 different requests in turn.
fn modes() -> Vec<Contender> {
    let contender = |product: Product, how: &str, path: &'static str, lines: &str| {
        let script = format!(
            "local requests, at = {{}}, 0\n\
             for line in io.lines('FOLDER/{lines}') do\n  \
               requests[#requests + 1] = 'GET {path} HTTP/1.1\\r\\nhost: shop\\r\\n' .. line .. '\\r\\n\\r\\n'\n\
             end\n\
             request = function()\n  at = at % #requests + 1\n  return requests[at]\nend\n"
        );
        let load = Load::Wrk { tls: false, connections: 64, path, script: Some(script) };
        Contender { label: format!("{}, {how}", product.name()), product: Some(product), load }
    };
    let (ours, nginx, haproxy) = (Product::Tidegate, Product::Nginx, Product::Haproxy);
    vec![
        contender(ours, "weight by request", "/", "any.txt"),
        contender(ours, "cookie, new visitors", "/cookie", "any.txt"),
        contender(ours, "cookie, returning visitors", "/cookie", "returning.txt"),
        contender(ours, "user hash", "/user", "users.txt"),
        contender(nginx, "weight by request", "/", "any.txt"),
        contender(nginx, "cookie, new visitors", "/cookie", "any.txt"),
        contender(nginx, "cookie, returning visitors", "/cookie", "sides.txt"),
        contender(nginx, "user hash (split_clients)", "/user", "users.txt"),
        contender(haproxy, "weight by request", "/", "any.txt"),
        contender(haproxy, "cookie, new visitors", "/cookie", "any.txt"),
        contender(haproxy, "cookie, returning visitors", "/cookie", "sides.txt"),
        contender(haproxy, "user hash (balance hdr)", "/user", "users.txt"),
    ]
}

fn wrk(tls: bool, connections: u32, path: &'static str, script: Option<&str>) -> Load {
    Load::Wrk { tls, connections, path, script: script.map(str::to_owned) }
}
