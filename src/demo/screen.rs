//! What the demo shows, and the keys that move it.

use std::cell::RefCell;
use std::io;

use super::SERVICE;
use super::apps::Faults;
use crate::admin::api::{ArmRequest, BreakRequest, KillRequest, ShiftRequest};
use crate::admin::client::{Client, ClientError, Terms};
use crate::cli::watch::{self, Scene};
use crate::cli::{Failure, colored, reply_to_arm, reply_to_kill, reply_to_shift};

/// What the `b` key breaks.
const BROKEN: (&str, u64) = ("20%", 100);

/// Shows the status until `q`, or until the daemon has ended.
pub fn show(
    client: &Client,
    faults: &Faults,
    port: u16,
    telemetry: u16,
    has_ended: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let said = RefCell::new(String::new());
    let mut out = io::stdout();
    println!("{}", what_to_try(port, telemetry));
    let scene = Scene {
        look: &mut || client.status().map_err(Failure::from),
        below: &|| {
            let green = if faults.any() {
                format!("green is broken on purpose: {}\n", faults.describe())
            } else {
                String::new()
            };
            format!("\n{}{green}{}\n", what_to_try(port, telemetry), said.borrow())
        },
        press: &|key| {
            if let Some(answer) = obey(client, faults, key) {
                said.replace(answer.unwrap_or_else(|error| format!("{error}")));
            }
        },
        has_ended,
    };
    if watch::can_redraw() {
        watch::redraw(&mut out, colored(), scene)
    } else {
        watch::print(&mut out, |pause| client.rest(pause), scene)
    }
}

fn what_to_try(port: u16, telemetry: u16) -> String {
    format!(
        "try    curl http://127.0.0.1:{port}/      tidegate shift 25%      tidegate demo break --errors 5% --latency 200ms\n\
         see    tidegate status · explain --visitor … · events -f      curl http://127.0.0.1:{telemetry}/metrics\n\
         keys   0 1 5 2 h f  shift to 0 % 1 % 5 % 25 % 50 % 100 %   b break or mend green   k kill   a arm   q quit\n"
    )
}

/// What a key does; `None` if it does nothing.
fn obey(client: &Client, faults: &Faults, key: char) -> Option<Result<String, ClientError>> {
    let terms = Terms::default();
    let reason = || Some("pressed a key in the demo".to_owned());
    let shift = |share: &str| {
        let services = [(SERVICE.to_owned(), share.to_owned())].into();
        let request = ShiftRequest { services, reason: reason(), claimed: None };
        client.shift(&request, &terms).map(|changed| reply_to_shift(&changed))
    };
    let answer = match key {
        '0' => shift("0%"),
        '1' => shift("1%"),
        '5' => shift("5%"),
        '2' => shift("25%"),
        'h' => shift("50%"),
        'f' => shift("100%"),
        'k' => {
            let services = vec![SERVICE.to_owned()];
            let request = KillRequest { services, reason: reason(), ..KillRequest::default() };
            client.kill(&request, &terms).map(|changed| reply_to_kill(&changed))
        }
        'a' => {
            let (services, note) = (vec![SERVICE.to_owned()], "armed by a key in the demo".to_owned());
            let request = ArmRequest { services, note, ..ArmRequest::default() };
            client.arm(&request, &terms).map(|changed| reply_to_arm(&changed))
        }
        'b' => {
            let (errors, latency) = if faults.any() { ("0%", 0) } else { BROKEN };
            let request = BreakRequest { errors: Some(errors.to_owned()), latency_ms: Some(latency) };
            client.demo_break(&request).map(|()| format!("green: {}\n", faults.describe()))
        }
        _ => return None,
    };
    Some(answer)
}
