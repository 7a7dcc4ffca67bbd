//! What a user of Pingora would write for 90/10: a draw per request, pools and threads by the framework, no logs.
//!
//! `pingora-rival THREADS PLAIN TLS CERTIFICATE KEY BLUE GREEN BLUE_H2 GREEN_H2`: the first two addresses are listened on,
//! the last four are endpoints. Paths that begin with /h2 go to the endpoints that speak HTTP/2.

use std::process::ExitCode;

use async_trait::async_trait;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::prelude::{HttpPeer, Result, Server};
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct Split {
    blue: String,
    green: String,
    blue_h2: String,
    green_h2: String,
}

#[async_trait]
impl ProxyHttp for Split {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, session: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        let is_green = fastrand::u8(..100) < 10;
        if session.req_header().uri.path().starts_with("/h2") {
            let address = if is_green { &self.green_h2 } else { &self.blue_h2 };
            let mut peer = HttpPeer::new(address, false, String::new());
            peer.options.set_http_version(2, 2);
            return Ok(Box::new(peer));
        }
        let address = if is_green { &self.green } else { &self.blue };
        Ok(Box::new(HttpPeer::new(address, false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut pingora_http::RequestHeader,
        (): &mut (),
    ) -> Result<()> {
        if let Some(client) = session.client_addr().and_then(|address| address.as_inet()) {
            request.insert_header("x-forwarded-for", client.ip().to_string())?;
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pingora-rival: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [threads, plain, tls, certificate, key, blue, green, blue_h2, green_h2] =
        <[String; 9]>::try_from(arguments).map_err(|_| "nine arguments, see the head of main.rs")?;
    let conf = ServerConf { threads: threads.parse()?, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Split { blue, green, blue_h2, green_h2 });
    service.add_tcp(&plain);
    let mut settings = TlsSettings::intermediate(&certificate, &key)?;
    settings.enable_h2();
    service.add_tls_with_settings(&tls, None, settings);
    server.add_service(service);
    server.run_forever()
}
