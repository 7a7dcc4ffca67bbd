//! What the demo shows, and the keys that move it.

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::path::Path;

use crossterm::terminal;

use super::SERVICE;
use super::apps::Faults;
use crate::admin::api::{
    ArmRequest, BreakRequest, KillRequest, PlanFile, ShiftRequest, StartRequest, Status,
};
use crate::admin::client::{Client, ClientError, Terms};
use crate::cli::watch::{self, Form, Scene};
use crate::cli::{Failure, colored, reply_to_act, reply_to_arm, reply_to_kill, reply_to_shift, status};
use crate::traffic::{Cause, Weight};

/// What the `b` key breaks.
const BROKEN: (&str, u64) = ("20%", 100);

/// The port of a demo that the verbs find by themselves.
const USUAL_PORT: u16 = 8080;

/// The width of a terminal that does not say its own.
const WIDTH: usize = 80;

const KEYS: [&str; 6] =
    ["0 1 5 2 h f: 0…100 %", "r: rollout", "b: break/mend", "k: kill", "a: arm", "q: quit"];

/// What the `r` key starts: stages of seconds, so that there is something to see. Whatever a stage cannot decide in its
/// time is left undecided, because nobody waits for a demo.
const PLAN: &str = "\
warmup: 3s
on_inconclusive: advance
stages:
  - {weight: 5%, hold: 20s, max_hold: 40s}
  - {weight: 25%, hold: 20s, max_hold: 40s}
  - {weight: 50%, hold: 20s, max_hold: 40s}
  - {weight: 100%, hold: 10s, max_hold: 20s}
keep: 1h
";

/// Shows the status until `q`, or until the daemon has ended.
pub fn show(
    client: &Client,
    faults: &Faults,
    port: u16,
    telemetry: u16,
    has_ended: &dyn Fn() -> bool,
) -> Result<(), Failure> {
    let (said, seen) = (RefCell::new(String::new()), RefCell::new(None));
    let mut out = io::stdout();
    let has_keys = watch::can_redraw();
    let hints = Hints { port, telemetry, socket: (port != USUAL_PORT).then(|| client.socket()) };
    if !has_keys {
        writeln!(out, "{}", hints.wrapped(WIDTH))?;
    }
    let scene = Scene {
        look: &mut |form| {
            let status = without_drift(client.status()?);
            let text = match form {
                Form::Screen { width, color } => status::render_briefly(&status, width, color),
                Form::Plain => status::shown(&status, form),
            };
            seen.replace(Some(status));
            Ok(text)
        },
        below: &|| {
            let width = terminal::size().map_or(WIDTH, |(width, _)| width.into());
            let mut text = format!("\n{}", wrapped("keys", &KEYS, width));
            let act = seen.borrow().as_ref().map(|status| Act::of(status, faults.any()));
            if let Some(next) = act.and_then(Act::next) {
                text += &wrapped("next", &words(next), width);
            }
            if faults.any() {
                let green = format!("green is broken on purpose: {}", faults.describe());
                text += &wrapped("", &words(&green), width);
            }
            text += &said.borrow().lines().map(|line| wrapped("", &words(line), width)).collect::<String>();
            // A small screen has room for the play or for what else there is to try.
            if act.is_none_or(|act| act == Act::Calm) { text + &hints.wrapped(width) } else { text }
        },
        press: &|key| {
            if let Some(answer) = obey(client, faults, key) {
                said.replace(answer.unwrap_or_else(|error| format!("{error}")));
            }
        },
        has_ended,
    };
    if has_keys {
        watch::redraw(&mut out, colored(), scene)
    } else {
        watch::print(&mut out, |pause| client.rest(pause), scene)
    }
}

/// Where the play stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Nothing is on trial.
    Calm,
    /// Green has traffic and is well.
    Trial,
    /// Green has traffic and is broken.
    Broken,
    /// Green has all traffic, so there is nothing to compare it with.
    Alone {
        /// Whether green is broken.
        broken: bool,
    },
    /// It shut by itself.
    Shut {
        /// Whether green is still broken.
        broken: bool,
    },
    /// Somebody has killed green.
    Killed,
}

impl Act {
    fn of(status: &Status, broken: bool) -> Self {
        let Some(service) = status.services.first() else { return Self::Calm };
        match service.lock.as_ref().map(|lock| lock.cause) {
            Some(Cause::FailedRollout | Cause::DeadCandidate) => Self::Shut { broken },
            Some(Cause::Kill | Cause::StateLost) => Self::Killed,
            None if service.weight == Weight::ZERO => Self::Calm,
            None if service.weight == Weight::FULL => Self::Alone { broken },
            None if broken => Self::Broken,
            None => Self::Trial,
        }
    }

    /// What to do next.
    fn next(self) -> Option<&'static str> {
        match self {
            Self::Calm => Some("r starts a rollout, 5 sends 5 % by hand; both are guarded"),
            Self::Trial => Some("b breaks green: watch it shut by itself"),
            Self::Broken => None,
            Self::Alone { broken: true } => {
                Some("nobody is left on blue to compare green with, so failures shut nothing; k does")
            }
            Self::Alone { broken: false } => Some("0 takes green out again, k also locks"),
            Self::Shut { broken: true } => {
                Some("it shut by itself, and says why; b mends green, then a arms it")
            }
            Self::Shut { broken: false } => {
                Some("it shut by itself, and says why; a arms it, then r begins anew")
            }
            Self::Killed => Some("a arms it again"),
        }
    }
}

/// A demo has no file that anybody would want to bring in line.
fn without_drift(mut status: Status) -> Status {
    status.drift.clear();
    status.services.iter_mut().for_each(|service| service.drift.clear());
    status
}

/// What there is to try beside the keys.
struct Hints<'s> {
    port: u16,
    telemetry: u16,
    /// To be named in commands.
    socket: Option<&'s Path>,
}

impl Hints<'_> {
    fn wrapped(&self, width: usize) -> String {
        let Self { port, telemetry, socket } = self;
        let to = socket.map(|socket| format!(" --socket {}", socket.display())).unwrap_or_default();
        let tries = [
            format!("curl 127.0.0.1:{port}"),
            format!("tidegate shift 25%{to}"),
            format!("tidegate demo break --errors 5%{to}"),
        ];
        let sights = [
            format!("tidegate status{to}"),
            format!("tidegate events -f{to}"),
            format!("curl 127.0.0.1:{telemetry}/metrics"),
        ];
        wrapped("try", &tries, width) + &wrapped("see", &sights, width)
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}

/// Pieces in lines at most `width` columns wide, after a label, words of a sentence or apart from each other. A
/// piece is broken between its words if it does not fit in a line, and a word only by the terminal.
fn wrapped(label: &str, pieces: &[impl AsRef<str>], width: usize) -> String {
    let indent = if label.is_empty() { 0 } else { 6 };
    // Words of one sentence are as far apart as words are.
    let gap = if pieces.iter().any(|piece| piece.as_ref().contains(' ')) { 2 } else { 1 };
    let mut text = format!("{label:<indent$}");
    let mut column = indent;
    let mut put = |piece: &str, gap: usize| {
        let long = piece.chars().count();
        let is_first = column == indent;
        let gap = if is_first { 0 } else { gap };
        if !is_first && column + gap + long > width {
            text.push_str(&format!("\n{:indent$}", ""));
            column = indent;
        } else {
            text.push_str(&" ".repeat(gap));
            column += gap;
        }
        text.push_str(piece);
        column += long;
    };
    for piece in pieces {
        let piece = piece.as_ref();
        if indent + piece.chars().count() <= width {
            put(piece, gap);
        } else {
            for (index, word) in piece.split(' ').enumerate() {
                // On a line of its own, to be copied as a whole.
                put(word, if index == 0 { width } else { 1 });
            }
        }
    }
    text + "\n"
}

/// What a key does; `None` if it does nothing.
fn obey(client: &Client, faults: &Faults, key: char) -> Option<Result<String, ClientError>> {
    let terms = Terms::default();
    let reason = || Some("pressed a key in the demo".to_owned());
    let shift = |share: &str| {
        let services = [(SERVICE.to_owned(), share.to_owned())].into();
        let request = ShiftRequest { services, take_over: true, reason: reason(), ..ShiftRequest::default() };
        client.shift(&request, &terms).map(|changed| reply_to_shift(&changed))
    };
    let answer = match key {
        '0' => shift("0%"),
        '1' => shift("1%"),
        '5' => shift("5%"),
        '2' => shift("25%"),
        'h' => shift("50%"),
        'f' => shift("100%"),
        'r' => {
            let plan = Some(PlanFile { name: "the demo's plan".to_owned(), text: PLAN.to_owned() });
            let request = StartRequest { plan, take_over: true, reason: reason(), ..StartRequest::default() };
            client.start_rollout(SERVICE, &request, &terms).map(|changed| reply_to_act(&changed))
        }
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
            client.demo_break(&request).map(|()| {
                // While it is broken, the screen says so anyway.
                if faults.any() { String::new() } else { "green is mended\n".to_owned() }
            })
        }
        _ => return None,
    };
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_try_fits_a_small_terminal() {
        let hints = Hints { port: 8080, telemetry: 9900, socket: None };
        let text = wrapped("keys", &KEYS, 80) + &hints.wrapped(80);
        assert_eq!(
            text,
            "keys  0 1 5 2 h f: 0…100 %  r: rollout  b: break/mend  k: kill  a: arm  q: quit\n\
             try   curl 127.0.0.1:8080  tidegate shift 25%  tidegate demo break --errors 5%\n\
             see   tidegate status  tidegate events -f  curl 127.0.0.1:9900/metrics\n"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn the_play_says_what_to_do_next() {
        let mut status: Status = serde_json::from_str(
            r#"{"host":"h","version":"0","pid":1,"started":"2026-01-01T00:00:00Z","generation":1,"saved":true,
            "draining":false,"listen":[],"services":[]}"#,
        )
        .unwrap();
        assert_eq!(Act::of(&status, true), Act::Calm, "before there is anything to see");
        let variant = |role: &str| {
            format!(
                r#"{{"role":"{role}","share":"50%","requests":0,"failures":0,"rate":0.0,"in_flight":0,"spilled":0,
                "endpoints":[]}}"#
            )
        };
        let service = format!(
            r#"{{"name":"demo","routes":[],"stable":"blue","candidate":"green","weight":"5%","by":"cookie","ratchet":false,
            "salt":"s","epoch":1,"changed_at":1,"variants":{{"blue":{},"green":{}}}}}"#,
            variant("stable"),
            variant("candidate")
        );
        status.services.push(serde_json::from_str(&service).unwrap());
        assert_eq!((Act::of(&status, false), Act::of(&status, true)), (Act::Trial, Act::Broken));
        status.services[0].weight = Weight::FULL;
        assert!(Act::of(&status, true).next().unwrap().contains("shut nothing"));
        status.services[0].weight = Weight::ZERO;
        assert_eq!(Act::of(&status, true), Act::Calm);
        let lock = |cause: &str| {
            let text = format!(r#"{{"cause":"{cause}","actor":"tidegate","at":"2026-01-01T00:00:00Z"}}"#);
            Some(serde_json::from_str(&text).unwrap())
        };
        status.services[0].lock = lock("failed-rollout");
        assert!(Act::of(&status, true).next().unwrap().contains("b mends green, then a arms it"));
        assert!(Act::of(&status, false).next().unwrap().contains("a arms it, then r begins anew"));
        status.services[0].lock = lock("kill");
        assert_eq!(Act::of(&status, true).next(), Some("a arms it again"));
    }

    #[test]
    fn another_demo_names_its_socket_and_words_stay_whole() {
        let socket = Some(Path::new("/run/user/1000/tidegate/demo-9090.sock"));
        let text = Hints { port: 9090, telemetry: 10910, socket }.wrapped(40);
        assert!(text.contains("\n      tidegate shift 25% --socket\n      /run/user/1000/"), "{text}");
        assert_eq!(text.matches("demo-9090.sock").count(), 4);
        assert_eq!(wrapped("", &words("one two three"), 8), "one two\nthree\n");
        assert_eq!(wrapped("next", &words("one two three"), 14), "next  one two\n      three\n");
    }
}
