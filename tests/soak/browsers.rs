//! A browser, over HTTP/2, on a page of many parts.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;

use crate::ONE;
use crate::support::program::run;
use crate::support::{Authority, Message, Wire, tidegate};

/// Pictures on the page.
const PICTURES: usize = 24;
/// What the script finds out: how each part came, and what two requests of its own came to.
const SCRIPT: &str = r#"
addEventListener("load", async () => {
  const data = await (await fetch("/data")).text();
  const body = new Blob(["x".repeat(200000)]);
  const sent = await (await fetch("/upload", {method: "POST", body})).text();
  const parts = performance.getEntries().filter(entry => entry.nextHopProtocol !== undefined);
  const other = parts.filter(part => part.nextHopProtocol !== "h2").map(part => part.name + part.nextHopProtocol);
  const style = getComputedStyle(document.body).textIndent;
  const pictures = [...document.images].filter(image => image.naturalWidth === 7).length;
  document.title = `${parts.length} parts, not by h2: ${other.length} ${other}; ${pictures} pictures, ${style}, ${data}, ${sent}`;
});
"#;

/// An app with a page; what it was asked for.
async fn app() -> (SocketAddr, Arc<Mutex<Vec<Message>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<_>>>::default());
    let kept = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = kept.clone();
            tokio::spawn(async move {
                let mut wire = Wire::new(stream);
                while let Ok(Some(request)) = wire.request().await {
                    let answer = answer(&request);
                    kept.lock().unwrap().push(request);
                    if wire.write(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, asked)
}

fn answer(request: &Message) -> String {
    let path = request.head.split(' ').nth(1).unwrap_or_default();
    let (kind, body) = match path {
        "/" => {
            let pictures: String =
                (0..PICTURES).map(|number| format!("<img src=/picture-{number}.svg>")).collect();
            let head = "<link rel=stylesheet href=/style.css><link rel=icon href=data:,><script src=/app.js></script>";
            ("text/html", format!("<!doctype html><title>not yet</title>{head}<body>{pictures}"))
        }
        "/style.css" => ("text/css", "body { text-indent: 7px }".to_owned()),
        "/app.js" => ("text/javascript", SCRIPT.to_owned()),
        "/data" => ("text/plain", "data".to_owned()),
        "/upload" => ("text/plain", format!("{} bytes", request.body.len())),
        _ => {
            let svg = "<svg xmlns='http://www.w3.org/2000/svg' width='7' height='7'></svg>";
            ("image/svg+xml", svg.to_owned())
        }
    };
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn a_browser_gets_a_page_of_many_parts_over_http2() {
    let _alone = ONE.lock().await;
    let ((address, asked), (other, _)) = (app().await, app().await);
    let authority = Authority::new();
    authority.renew();
    let (blue, green) = (format!("http://{address}"), format!("http://{other}"));
    let plan = tidegate().set(&authority.listen()).service_at("shop", &blue, &green);
    let gate = plan.start_daemon().await;
    let profile = tempfile::tempdir().unwrap();
    let (profile, page) = (
        format!("--user-data-dir={}", profile.path().display()),
        format!("https://localhost:{}/", gate.address().port()),
    );
    let arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        // Nobody but this story trusts the authority.
        "--ignore-certificate-errors",
        "--virtual-time-budget=20000",
        &profile,
        "--dump-dom",
        &page,
    ];
    let Some(said) = run("chromium", &arguments, b"").await else { return };
    let title = said.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    let title = title.map(|(title, _)| title.to_owned()).unwrap_or_else(|| panic!("no page in {said}"));
    println!("chromium: {title}");
    assert!(title.contains("not by h2: 0 ;"), "{title}");
    assert!(title.contains(&format!("{PICTURES} pictures, 7px, data, 200000 bytes")), "{title}");
    let asked = asked.lock().unwrap().len();
    assert!(asked >= PICTURES + 5, "{asked}");
    assert!(gate.has_ended_when_stopped().await);
}
