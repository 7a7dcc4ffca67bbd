//! Where cases are played: an endpoint, Tidegate with one thread in front of it, and clients.
//!
//! After each case requests with an answer of their own (sentinels) go over every connection that is left: first over the
//! client's, if it is open, then over each that Tidegate has kept to the endpoint, until one comes on a new connection.
//! Each must get its own answer; whatever a case left on a connection shows there. So every case begins without any.

use super::case::{After, Case, Forwarded, Turn, Want};
use super::client::{Client, Way};
use super::endpoint::{Endpoint, Received};
use super::show;
use crate::support::Gate;
use crate::support::gate::{Plan, tidegate};

/// More connections to the endpoint than any case leaves.
const KEPT_MAX: usize = 10;

/// An area's stage.
pub struct Stage {
    runtime: tokio::runtime::Runtime,
    /// What answers.
    pub endpoint: Endpoint,
    gate: Option<Gate>,
    /// How clients come.
    pub way: Way,
    /// How those come that clean up.
    sweeping: Way,
    sentinels: usize,
}

impl Stage {
    /// A Tidegate with these settings and one service.
    pub fn new(settings: impl FnOnce(Plan) -> Plan) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::start();
        let plan = tidegate().set("threads: 1").service_at("shop", &endpoint.url(), &endpoint.other_url());
        // Each case has what it needs, whatever others have used up.
        let plan = plan.with("retries: {budget: 100%, backoff: 1ms}");
        let gate = runtime.block_on(settings(plan).start());
        let way = Way::Plain(gate.address());
        Self { runtime, endpoint, gate: Some(gate), sweeping: way.clone(), way, sentinels: 0 }
    }

    /// One whose clients come in this way.
    pub fn by(mut self, way: impl FnOnce(std::net::SocketAddr) -> Way) -> Self {
        self.way = way(self.way.address());
        self.sweeping = self.way.clone();
        self
    }

    /// One whose cases come in this way, and those that clean up as before.
    pub fn rows_by(mut self, way: impl FnOnce(std::net::SocketAddr) -> Way) -> Self {
        self.way = way(self.way.address());
        self
    }

    /// Plays a case: what went wrong, if anything did.
    pub fn play(&mut self, case: &Case) -> Result<(), String> {
        self.endpoint.plays(&case.replies, case.upgrades);
        let mut client = self.way.connect();
        let played = self.turns(case, &mut client);
        let after = played.and_then(|()| match case.after {
            After::Closed => client.ends().map_err(|why| format!("      then     {why}")),
            After::Ended => client.ends_anyhow().map_err(|why| format!("      then     {why}")),
            After::Open => self.sentinel(&mut client).map_err(|why| format!("      then     {why}")),
        });
        drop(client);
        self.settle(&case.forwarded, after)
    }

    /// Looks at what the endpoint got, and cleans up.
    pub fn settle(&mut self, forwarded: &Forwarded, played: Result<(), String>) -> Result<(), String> {
        let left = self.sweep();
        let received = self.endpoint.received();
        let Some(received) = received else {
            return Err("      the endpoint waits for the end of a connection".to_owned());
        };
        let shown = check_forwarded(forwarded, &received, self.way.is_https());
        let problems: Vec<String> = [played, left, shown].into_iter().filter_map(Result::err).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
    }

    fn turns(&mut self, case: &Case, client: &mut Client) -> Result<(), String> {
        let mut to_head = false;
        for turn in &case.turns {
            match turn {
                Turn::Send(bytes) => {
                    to_head = bytes.starts_with(b"HEAD ");
                    client.send(bytes);
                }
                Turn::Hear(bytes) => {
                    let heard = client.hears(bytes.len()).map_err(|why| format!("      client   {why}"))?;
                    if heard != *bytes {
                        return Err(show::diff(&show::bytes_as_text(bytes), &show::bytes_as_text(&heard)));
                    }
                }
                Turn::HalfClose => client.half_close(),
                Turn::Await(requests) => {
                    if !self.endpoint.awaits(*requests) {
                        return Err("      the endpoint got no request".to_owned());
                    }
                }
                Turn::Get(want) => {
                    let answer = client.answer(to_head);
                    let answer = answer.map_err(|why| format!("      client   {why}"))?;
                    match want {
                        Want::Status(status) if answer.status() == *status => {}
                        Want::Status(status) => {
                            return Err(show::diff(&status.to_string(), &show::answer(&answer)));
                        }
                        Want::Exactly(text) => {
                            let got = show::answer(&answer);
                            if got != *text {
                                return Err(show::diff(text, &got));
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A request with an answer of its own.
    fn sentinel(&mut self, client: &mut Client) -> Result<(), String> {
        self.sentinels += 1;
        let text = format!("sentinel-{}", self.sentinels);
        client.send(format!("GET /{text} HTTP/1.1\r\nhost: shop\r\n\r\n").as_bytes());
        let answer = client.answer(false)?;
        if answer.body == text.as_bytes() && answer.status() == 200 {
            Ok(())
        } else {
            Err(format!("{text} got {}", show::answer(&answer)))
        }
    }

    /// Sends sentinels over every connection that is left.
    pub fn sweep(&mut self) -> Result<(), String> {
        for _ in 0..KEPT_MAX {
            let mut client = self.sweeping.connect();
            self.sentinel(&mut client).map_err(|why| format!("      later    {why}"))?;
            if self.endpoint.was_fresh() {
                return Ok(());
            }
        }
        Err("      Tidegate keeps a connection that the endpoint has ended".to_owned())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        self.gate.take();
    }
}

fn check_forwarded(forwarded: &Forwarded, received: &[Received], is_https: bool) -> Result<(), String> {
    let shown: Vec<String> =
        received.iter().map(|received| show::request(&received.bytes, is_https)).collect();
    for (received, shown) in received.iter().zip(&shown) {
        if let Some(flaw) = &received.flaw {
            return Err(format!("      endpoint got {shown}\n               which is ambiguous: {flaw}"));
        }
    }
    let unexpected = |what: &str| Err(format!("      endpoint {what}: {}", shown.join("\n               ")));
    match forwarded {
        Forwarded::Nothing if shown.is_empty() => Ok(()),
        Forwarded::Nothing => unexpected("got what it must not"),
        Forwarded::Unfinished if shown.len() > 1 || received.iter().any(|received| received.is_whole) => {
            unexpected("got a whole request")
        }
        Forwarded::Unfinished => Ok(()),
        Forwarded::Exactly(requests) => {
            for (number, request) in requests.iter().enumerate() {
                match shown.get(number) {
                    Some(got) if got == request => {}
                    Some(got) => {
                        return Err(format!(
                            "      endpoint, request {}\n{}",
                            number + 1,
                            show::diff(request, got)
                        ));
                    }
                    None => return Err(format!("      endpoint never got {request}")),
                }
            }
            if shown.len() == requests.len() { Ok(()) } else { unexpected("got more") }
        }
    }
}
