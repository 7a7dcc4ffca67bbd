//! The configuration: what is taken, what is refused and in which words.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use tidegate::config::{self, Config, ConfigError, Overrides};
use tidegate::routing::{EndpointLimits, Retries, RetryMethods, RetryOn};
use tidegate::telemetry::{AccessLogTarget, AccessLogWrite};
use tidegate::traffic::{By, Variant, Weight};

const MINIMAL: &str = include_str!("../config/minimal.yaml");
const FULL: &str = include_str!("../config/full.yaml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    config::parse(text, "tidegate.yaml", Path::new("/nowhere"), &Overrides::default())
}

/// A file with the service `shop`, whose lines begin in line 3.
fn shop(lines: &str) -> String {
    let mut text = "services:\n  shop:\n".to_owned();
    for line in lines.lines() {
        text.push_str(&format!("    {line}\n"));
    }
    text
}

/// The one problem: everything after the headline, in single spaces.
#[track_caller]
fn problem(text: &str) -> String {
    match parse(text) {
        Err(error @ ConfigError::Problems { .. }) => {
            let text = error.to_string();
            let (headline, problem) = text.split_once('\n').expect("a headline");
            assert_eq!(headline, "tidegate.yaml has 1 problem", "{text}");
            problem.split_whitespace().collect::<Vec<_>>().join(" ")
        }
        other => panic!("instead of one problem: {other:?}"),
    }
}

#[test]
fn a_minimal_file_has_the_documented_defaults() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.proxy.listen, ["[::]:8080".parse().unwrap()]);
    assert_eq!(config.proxy.drain, Duration::from_secs(30));
    assert_eq!(config.proxy.handover, Duration::from_secs(12 * 3600));
    let listeners = vec![tidegate::proxy::ListenerSettings::plain()];
    assert_eq!(config.proxy.live, tidegate::proxy::LiveSettings { listeners, ..Default::default() });
    assert_eq!(config.admin.socket, PathBuf::from("/run/tidegate/admin.sock"));
    assert_eq!(config.telemetry.address, "127.0.0.1:9900".parse().ok());
    assert_eq!(config.telemetry.access_log.write, AccessLogWrite::Off);
    assert_eq!(config.control.state, PathBuf::from("/var/lib/tidegate"));
    assert!(config.cookie.keys.is_none() && config.warnings.is_empty());

    let [service] = &config.control.services[..] else { panic!("{:?}", config.control.services) };
    assert_eq!((&*service.settings.name, service.stable), ("shop", Variant::Blue));
    assert_eq!(service.initial_weight, Weight::ZERO);
    assert_eq!((service.recognition.by, &*service.recognition.salt), (By::Cookie, "shop"));
    assert_eq!(service.endpoints.green[0].url.to_string(), "http://127.0.0.1:3002");
    assert_eq!(service.settings.routes[0].host.to_string(), "*");
    assert!(service.settings.tell.endpoint_variant && !service.settings.tell.client_variant);
}

#[test]
fn every_form_of_a_value_is_taken() {
    let text = "
listen: [127.0.0.1:80, {address: :8080}]
telemetry: off
access_log: {write: sampled, share: 5%, file: access.log, query: true}
trusted_proxies: {from: 10.0.0.0/8, header: forwarded}
state: state
timeouts: {grace: 0s}
services:
  one: {blue: [http://a:1, {url: http://b:1, weight: 3}]}
  two:
    host: [Shop.example.com, '*.example.com']
    path: /two/
    stable: green
    blue: {version: 2.10}
    green: {endpoints: http://c:1, version: 2.0}
    split: {by: user, user: header:x-user-id, otherwise: stable, ratchet: true, salt: 7}
    tell: {endpoint: [], client: variant}
  three: {host: three, green: {endpoints: [http://d:1]}, blue: http://e:1, split: {initial_weight: 0.1%}}
";
    let config = parse(text).unwrap();
    assert_eq!(config.warnings, []);
    assert_eq!(config.telemetry.address, None);
    let share = Weight::from_percent(5).unwrap();
    assert_eq!(config.telemetry.access_log.write, AccessLogWrite::Sampled { share });
    assert_eq!(config.telemetry.access_log.target, AccessLogTarget::File("/nowhere/access.log".into()));
    assert_eq!(config.control.state, PathBuf::from("/nowhere/state"));
    assert_eq!(config.proxy.listen.len(), 2);
    assert!(config.proxy.live.trusted_proxies.trusts("10.1.2.3".parse().unwrap()));
    let names: Vec<_> = config.control.services.iter().map(|service| &*service.settings.name).collect();
    assert_eq!(names, ["one", "three", "two"], "sorted by name");
    let [one, three, two] = &config.control.services[..] else { panic!() };
    assert_eq!(one.endpoints.blue[1].weight, 3);
    assert_eq!(three.initial_weight.to_string(), "0.1%");
    assert_eq!(two.stable, Variant::Green);
    assert_eq!(two.version.blue.as_deref(), Some("2.10"));
    assert_eq!(two.version.green.as_deref(), Some("2.0"));
    assert_eq!(two.settings.routes.len(), 2);
    assert_eq!(&*two.recognition.salt, "7");
    assert!(!two.settings.tell.endpoint_variant && two.settings.tell.client_variant);
}

#[test]
fn what_a_variant_says_of_its_checks_wins_over_the_service() {
    use tidegate::upstream::{Expected, MaxEjected, Policy, Probe};
    let one = |lines: &str| parse(&shop(lines)).unwrap().control.services.remove(0).settings;
    let of = |path: &str, expect| Probe::Get { path: path.into(), expect };
    let settings = one("blue: http://a:1
green: {endpoints: http://b:1, health: {expect: [204, 3xx], interval: 5s}}
health: {path: /up, expect: 200, timeout: 500ms}
balance: {slow_start: 30s}");
    let (blue, green) = (&settings.health.blue, &settings.health.green);
    assert_eq!(blue.probe, of("/up", Expected::new(vec![200..=200])));
    assert_eq!(green.probe, of("/up", Expected::new(vec![204..=204, 300..=399])));
    assert_eq!((blue.interval, green.interval), (Duration::from_secs(2), Duration::from_secs(5)));
    assert_eq!(green.timeout, Duration::from_millis(500));
    assert_eq!(
        (settings.balance.policy, settings.balance.slow_start),
        (Policy::LeastRequests, Duration::from_secs(30))
    );
    assert_eq!(settings.ejection, Some(tidegate::upstream::EjectionSettings::default()));

    let settings = one("blue: {endpoints: http://a:1, health: {path: /b}}
green: {endpoints: http://b:1, protocol: h2, health: {grpc: shop.v1.Cart}}
health: {path: /up, expect: 204}
balance: round_robin
ejection: {max_ejected: all, success_rate: off}");
    assert_eq!(settings.health.blue.probe, of("/b", Expected::new(vec![204..=204])));
    assert_eq!(settings.health.green.probe, Probe::Grpc { service: "shop.v1.Cart".into() });
    assert_eq!(settings.balance.policy, Policy::RoundRobin);
    let ejection = settings.ejection.clone().unwrap();
    assert_eq!((ejection.max_ejected, ejection.success_rate), (MaxEjected::All, None));
    assert_eq!(one("blue: http://a:1\nejection: off").ejection, None);
}

#[test]
fn settings_that_never_do_anything_are_warned_about() {
    let warnings = |line: &str| {
        let warnings =
            parse(&shop(&format!("blue: [http://a:1, http://b:1, http://c:1]\n{line}"))).unwrap().warnings;
        warnings.iter().map(|warning| warning.why.clone()).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(
        warnings("ejection: {max_ejected: 30%}"),
        "less than one of 3 endpoints: none is ever ejected"
    );
    assert_eq!(warnings("ejection: {max_ejected: 34%}"), "");
    assert_eq!(
        warnings("ejection: {success_rate: {deviations: 2, endpoints: 5}}"),
        "one of 5 endpoints is never 2.0 deviations off or more; write less, or raise endpoints"
    );
}

#[test]
fn all_problems_are_told_at_once_in_columns() {
    let text = "services:
  shop:
    blue: http://127.0.0.1:3001
    green: http://127.0.0.1:3002
    split:
      initial_weight: 5
  cart:
    path: /cart
    blue: {endpoints: [http://127.0.0.1:3003]}
    green:
      endpoints: []
timeouts: {drain: 30}
";
    assert_eq!(
        parse(text).unwrap_err().to_string(),
        "tidegate.yaml has 3 problems
  services.shop.split.initial_weight = 5    line 6: a share needs its unit; did you mean 5%?
  services.cart.green.endpoints = []        line 11: green has no endpoint; add one or remove green
  timeouts.drain = 30                       line 12: a time needs its unit; did you mean 30s?"
    );
}

#[test]
fn an_old_process_may_not_hold_on_for_ever() {
    let with = |time: &str| {
        let services = "services: {a: {blue: http://a:1, green: http://b:1}}";
        parse(&format!("timeouts: {{handover: {time}}}\n{services}"))
    };
    assert_eq!(with("168h").unwrap().proxy.handover, Duration::from_secs(7 * 24 * 3600));
    let why = with("169h").unwrap_err().to_string();
    assert!(why.contains("timeouts.handover = 169h") && why.contains("at most"), "{why}");
}

#[test]
fn what_is_no_yaml_or_no_known_key_has_line_and_column() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = parse(text).unwrap_err().to_string();
        assert_eq!(got.strip_prefix("tidegate.yaml "), Some(expected), "{got}");
    }
    check("listne: :80\n", "line 1, column 1: unknown key \"listne\"; did you mean listen?");
    check(
        &shop("blue: {endpionts: [http://a:1]}"),
        "line 3, column 12: unknown key \"endpionts\"; did you mean endpoints?",
    );
    check(
        &shop("blue: {endpoints: [{url: http://a:1, share: 1}]}"),
        "line 3, column 42: unknown key \"share\"; known here: url, weight",
    );
    check(&shop("path: [/]"), "line 3, column 11: a single value is expected here");
    check("services: shop\n", "line 1, column 11: a mapping (key: value) is expected here");
    check(&shop("override: {header: x}"), "line 3, column 16: the key secret is missing");
    check("state: a\nstate: b\n", "line 2, column 1: the key \"state\" stands here twice; leave one out");
    check(
        "services:\n  a: {blue: http://a:1}\n  a: {blue: http://b:1}\n",
        "line 3, column 3: the key \"a\" stands here twice; leave one out",
    );
    check(
        &shop("host: *.example.com"),
        "line 3, column 11: a value that begins with * is an alias in YAML; put it in quotes",
    );
    check(
        "services: {a: &a {blue: http://a:1}, b: *a}",
        "line 1, column 18: anchors and aliases (& and *) are not taken; write it out, or put it in quotes",
    );
    check("services: {<<: {}}", "line 1, column 12: merge keys (<<) are not taken; write it out");
    check("state: a\n---\nstate: b\n", "line 3, column 1: a second YAML document begins here; one is taken");
}

const LINE: &str = "blue: http://a:1";

#[test]
fn each_problem_of_the_process_names_its_place_and_its_cure() {
    #[track_caller]
    fn check(line: &str, expected: &str) {
        assert_eq!(problem(&format!("{line}\n{}", shop(LINE))), expected);
    }
    check(
        "listen: [:80, 0.0.0.0:80]",
        "listen[1] = 0.0.0.0:80 line 1: is listened on already (line 1, [::]:80); leave one out",
    );
    check(
        "listen: [127.0.0.1:80, '[::1]:80', 0.0.0.0:80]",
        "listen[2] = 0.0.0.0:80 line 1: is listened on already (line 1, 127.0.0.1:80); leave one out",
    );
    check(
        "telemetry: '[::1]:8080'",
        "telemetry = [::1]:8080 line 1: clients connect to [::1]:8080; telemetry needs an address of its own",
    );
    check("listen: 8080", "listen = 8080 line 1: a port alone; did you mean :8080?");
    check("listen: []", "listen = [] line 1: there is no address to listen on; add one or remove listen");
    check("listen: [[]]", "listen[0] = [] line 1: a single address is expected here");
    check(
        "listen: [{address: :443, tls: [{cert: a, key: b}]}]",
        "listen[0].tls[0].cert = a line 1: read /nowhere/a: No such file or directory (os error 2)",
    );
    check(
        "listen: 127.0.0.1:9900",
        "telemetry = 127.0.0.1:9900 clients connect to 127.0.0.1:9900; telemetry needs an address of its own",
    );
    check("threads: 0", "threads = 0 line 1: must be at least 1");
    check(
        "threads: 2000",
        "threads = 2000 line 1: more than 1024 threads only get in each other's way; one per core is best",
    );
    check(
        "trusted_proxies: {from: [10.0.0.0/99]}",
        "trusted_proxies.from[0] = 10.0.0.0/99 line 1: \"10.0.0.0/99\" is no network; write one such as \
         10.0.0.0/8 or 192.0.2.7",
    );
    check(
        "access_log: {write: sampled, share: 1}",
        "access_log.share = 1 line 1: a share needs its unit; did you mean 1%?",
    );
    check("access_log: {write: al}", "access_log.write = al line 1: did you mean all?");
    check("timeouts: {head: 5}", "timeouts.head = 5 line 1: a time needs its unit; did you mean 5s?");
    check(
        "timeouts: {head: 0s}",
        "timeouts.head = 0s line 1: no time at all; write at least 1ms, or leave it out for 10s",
    );
    check("limits: {head: 4KiB}", "limits.head = 4KiB line 1: must be 8KiB to 16MiB");
    check("limits: {head: 64KB}", "limits.head = 64KB line 1: KB is not a unit of size; did you mean 64KiB?");
    check(
        "limits: {uri: 40KiB}",
        "limits.uri = 40KiB line 1: a request's head (32KiB at most) holds its path and query (40KiB at \
         most); raise head or lower uri",
    );
    check(
        "cookie: {keys: [hunter2]}",
        "cookie.keys[0] = (hidden) line 1: a secret does not stand in the configuration; write file:PATH or env:NAME",
    );
    check(
        "cookie: {keys: [file:gone]}",
        "cookie.keys[0] = file:gone line 1: /nowhere/gone does not exist; create it or correct the path",
    );
    check(
        "cookie: {keys: env:TIDEGATE_NO_SUCH}",
        "cookie.keys[0] = env:TIDEGATE_NO_SUCH line 1: the environment has no TIDEGATE_NO_SUCH; set it",
    );
}

#[test]
fn each_problem_of_the_services_names_its_place_and_its_cure() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(problem(text), expected);
    }
    let none = "services line 1: there is no service; add one, such as shop: {blue: http://127.0.0.1:3001}";
    check("", none);
    check("services: {}", none);
    check(
        "services: {Shop: {blue: http://a:1}}",
        "services.Shop line 1: a service's name has lower-case letters, digits and -, at most 63, and does \
         not begin with -",
    );
    check(
        "services:\n  b: {blue: http://a:1}\n  a:\n    path: /\n    blue: http://a:1\n",
        "services.a = */ line 4: services.b is for it already (line 2); give one of them another host or path",
    );
    check(
        "services: {shop: }",
        "services.shop.blue line 1: blue is stable and has no endpoint; add one, such as http://127.0.0.1:3001",
    );
}

#[test]
fn each_problem_within_a_service_names_its_place_and_its_cure() {
    #[track_caller]
    fn check(lines: &str, expected: &str) {
        assert_eq!(problem(&shop(lines)).strip_prefix("services.shop."), Some(expected));
    }
    #[track_caller]
    fn check_with_blue(line: &str, expected: &str) {
        check(&format!("{LINE}\n{line}"), expected);
    }
    check("blue: []", "blue = [] line 3: blue is stable and has no endpoint; add one");
    check(
        "blue: 127.0.0.1:80",
        "blue = 127.0.0.1:80 line 3: \"127.0.0.1:80\" lacks its scheme; did you mean http://127.0.0.1:80?",
    );
    check(
        "blue: [http://a:1, http://A:1/]",
        "blue = http://A:1/ line 3: stands here twice (line 3); leave one out, or give it a weight",
    );
    check(
        "blue: {endpoints: [{url: http://a:1, weight: 1001}]}",
        "blue.endpoints.weight = 1001 line 3: must be 1 to 1000; it counts beside the variant's others",
    );
    check("blue: [[]]", "blue = [] line 3: a single endpoint is expected here");

    check_with_blue("green: []", "green = [] line 4: green has no endpoint; add one or remove green");
    check_with_blue(
        "stable: green",
        "green line 2: green is stable and has no endpoint; add one, such as http://127.0.0.1:3001",
    );
    check_with_blue(
        "green: http://a:1",
        "green = http://a:1 line 4: blue has it, too (line 3); blue and green are the same place then",
    );
    check_with_blue(
        "green: {version: ''}",
        "green.version = line 4: is empty; write something or leave the key out",
    );
    check_with_blue(
        "host: a:80",
        "host = a:80 line 4: \"a:80\": routes compare hosts without their port; leave it out",
    );
    check_with_blue("host: []", "host = [] line 4: no host is left; add one, or remove host for any");
    check_with_blue("path: shop", "path = shop line 4: the path does not begin with /");
    check_with_blue("stable: red", "stable = red line 4: is none of blue, green");
    check_with_blue(
        "timeouts: {first_byte: 60s, total: 30s}",
        "timeouts.total = 30s line 4: all is over after 30s, but the first byte may take 1m; lower first_byte or raise total",
    );
    check_with_blue(
        "timeouts: {first_byte: 2s, stream: 1s}",
        "timeouts.stream = 1s line 4: all is over after 1s, but the first byte may take 2s; lower first_byte or raise stream",
    );
    check_with_blue(
        "timeouts: {total: 0s}",
        "timeouts.total = 0s line 4: no time at all; write at least 1ms, or leave it out for no limit",
    );
    check_with_blue(
        "split: {by: user}",
        "split.by = user line 4: where does the user's key stand? Add user: [header:NAME], cookie:NAME, \
         query:NAME or client_addr",
    );
    check_with_blue(
        "split: {initial_weight: 101%}",
        "split.initial_weight = 101% line 4: 101% is outside 0% to 100%",
    );
    check_with_blue(
        "split: {expires: 0s}",
        "split.expires = 0s line 4: no split could stand at all; write for instance 24h, or leave it out for no limit",
    );
    check_with_blue("split: {ratchet: yes}", "split.ratchet = yes line 4: is none of true, false");
    check_with_blue(
        "split: {initial_weight: 5%}",
        "split.initial_weight = 5% line 4: green has no endpoint that 5% could go to; add one or start at 0%",
    );
    check_with_blue(
        "health: {timeout: 3s}",
        "health.timeout = 3s line 4: a check may take 3s, but the next begins after 2s; make timeout at most \
         interval",
    );
    check_with_blue(
        "health: {interval: 500ms}",
        "health.interval = 500ms line 4: a check may take 1s, but the next begins after 500ms; make timeout \
         at most interval",
    );
    check_with_blue("health: {up: 0}", "health.up = 0 line 4: must be at least 1");
    check_with_blue(
        "health: {path: up}",
        "health.path = up line 4: a path begins with a slash; did you mean /up?",
    );
    check_with_blue(
        "health: {expect: 200-299}",
        "health.expect line 4: no answer is asked for that could have a status; add a path, such as /up",
    );
    check_with_blue(
        "health: {path: /up, expect: [204, 1xx]}",
        "health.expect = 1xx line 4: can never pass: an answer ends with a status from 200 on",
    );
    check_with_blue(
        "health: {path: /up, expect: []}",
        "health.expect = [] line 4: can never pass: no status is left; write 200-399",
    );
    check_with_blue(
        "health: {path: /up, expect: ok}",
        "health.expect = ok line 4: \"ok\" is no status; write 200-299, 2xx or 201",
    );
    check_with_blue("health: {down: 1001}", "health.down = 1001 line 4: must be 1 to 1000; 3 is usual");
    check(
        "blue: {endpoints: http://a:1, protocol: h2}\nhealth: {path: /up, grpc: a.B}\ngreen: {protocol: h2}",
        "health.grpc = a.B line 4: a check asks by gRPC or for a path, not both; leave one out",
    );
    check(
        "blue: {endpoints: http://a:1, protocol: h2}\nhealth: {grpc: ''}",
        "health.grpc = line 4: can never pass: green speaks HTTP/1.1, gRPC takes HTTP/2; add protocol: h2 there",
    );
    check_with_blue(
        "green: {endpoints: http://g:1, health: {grpc: a.B}}",
        "green.health.grpc = a.B line 4: can never pass: green speaks HTTP/1.1, gRPC takes HTTP/2; add protocol: \
         h2 there",
    );
    check_with_blue(
        "green: {endpoints: http://g:1, health: {timeout: 3s}}",
        "green.health.timeout = 3s line 4: a check may take 3s, but the next begins after 2s; make timeout at \
         most interval",
    );
    check_with_blue("balance: fair", "balance = fair line 4: is none of least_requests, round_robin");
    check_with_blue("balance: []", "balance line 4: a policy's name or all about it is expected here");
    check_with_blue(
        "balance: {slow_start: 2h}",
        "balance.slow_start = 2h line 4: far longer than is of use; write at most 1h",
    );
    check_with_blue(
        "ejection: {pause_max: 30d}",
        "ejection.pause_max = 30d line 4: far longer than is of use; write at most 24h",
    );
    check_with_blue(
        "ejection: never",
        "ejection = never line 4: write off, or {key: value, …} for what differs",
    );
    check_with_blue("ejection: {failures: 0}", "ejection.failures = 0 line 4: must be at least 1");
    check_with_blue(
        "ejection: {max_ejected: 100%}",
        "ejection.max_ejected = 100% line 4: would let ejections take out the whole variant; write less, or all \
         if that is meant",
    );
    check_with_blue(
        "ejection: {max_ejected: 0%}",
        "ejection.max_ejected = 0% line 4: nothing could be ejected; write ejection: off if that is meant",
    );
    check_with_blue(
        "ejection: {pause: 1m, pause_max: 30s}",
        "ejection.pause_max = 30s line 4: the first pause is 1m already; make pause_max at least that",
    );
    check_with_blue(
        "ejection: {success_rate: {endpoints: 2}}",
        "ejection.success_rate.endpoints = 2 line 4: of two nobody can tell who stands out; write at least 3",
    );
    check_with_blue(
        "tell: {client: [visitor]}",
        "tell.client = visitor line 4: a client is told variant or nothing; the visitor id is for endpoints",
    );
    check_with_blue(
        "mirror: {share: 10}",
        "mirror.share = 10 line 4: a share needs its unit; did you mean 10%?",
    );
    check_with_blue(
        "mirror: {share: 10%}",
        "mirror.share = 10% line 4: green has no endpoint that copies could go to; add one or start at 0%",
    );
    check_with_blue("mirror: {methods: post}", "mirror.methods = post line 4: did you mean POST?");
    check_with_blue(
        "mirror: {methods: [CONNECT]}",
        "mirror.methods = CONNECT line 4: is never mirrored; neither is what asks for another protocol",
    );
    check_with_blue(
        "mirror: {methods: [GET, all]}",
        "mirror.methods = all line 4: stands alone or not at all; list methods, or write safe or all",
    );
    check_with_blue(
        "mirror: {methods: []}",
        "mirror.methods = [] line 4: no method is left; write safe, or share: 0% to mirror nothing",
    );
    check_with_blue(
        "mirror: {body: 1GiB}",
        "mirror.body = 1GiB line 4: must be at most 16MiB; each copy under way holds its body in memory",
    );
    check_with_blue(
        "mirror: {max_in_flight: 20000}",
        "mirror.max_in_flight = 20000 line 4: must be 1 to 10000; what does not fit is dropped, and no user waits",
    );
    check_with_blue(
        "mirror: {compare: [status, bodyy]}",
        "mirror.compare = bodyy line 4: did you mean body?",
    );
    check_with_blue(
        "mirror: {timeout: 0s}",
        "mirror.timeout = 0s line 4: no time at all; write at least 1ms, or leave it out for 10s",
    );
    check_with_blue(
        "upgrades: [websocket, h2c]",
        "upgrades = h2c line 4: would carry requests past Tidegate unseen; HTTP/2 needs no upgrade here",
    );
    check_with_blue(
        "upgrades: web socket",
        "upgrades = web socket line 4: \"web socket\" is no protocol; write its name, such as websocket, or NAME/VERSION",
    );
    check_with_blue(
        "timeouts: {connect: 2w}",
        "timeouts.connect = 2w line 4: \"w\" is not a unit of time; use ms, s, m, h or d",
    );
}

#[test]
fn retries_and_places_that_make_no_sense_are_refused() {
    #[track_caller]
    fn check(line: &str, expected: &str) {
        let expected = format!("services.shop.{expected}");
        assert_eq!(problem(&shop(&format!("{LINE}\n{line}"))), expected, "{line}");
    }
    check(
        "retries: {attempts: 0}",
        "retries.attempts = 0 line 4: counts those after the first; for none write retries: off",
    );
    check(
        "retries: {attempts: 11}",
        "retries.attempts = 11 line 4: must be 1 to 10: attempts after the first one",
    );
    check(
        "retries: {on: [connect, 200]}",
        "retries.on = 200 line 4: 200 is no failure; statuses from 500 to 599 may be tried again",
    );
    check(
        "retries: {on: 429}",
        "retries.on = 429 line 4: 429 says that the request is wrong, and so it would be again; write 500 to 599",
    );
    check(
        "retries: {on: conect}",
        "retries.on = conect line 4: did you mean connect?; or a status from 500 to 599",
    );
    check("retries: {on: []}", "retries.on = [] line 4: nothing is tried again; write retries: off");
    check("retries: {budget: 120%}", "retries.budget = 120% line 4: 120% is outside 0% to 100%");
    check("retries: {budget: 20}", "retries.budget = 20 line 4: a share needs its unit; did you mean 20%?");
    check(
        "retries: {budget_floor: 20000}",
        "retries.budget_floor = 20000 line 4: so many a second are no floor; write at most 10000, or raise budget",
    );
    check(
        "retries: {body: 2MiB}",
        "retries.body = 2MiB line 4: it is kept in memory for each request; write at most 1MiB",
    );
    check(
        "retries: {backoff: 1m}",
        "retries.backoff = 1m line 4: nobody waits so long before the first retry; write at most 10s",
    );
    check(
        "retries: {per_try: 60s}",
        "retries.per_try = 60s line 4: the request is given up after 1m (timeouts.first_byte); make per_try \
         shorter than that",
    );
    check(
        "retries: {per_try: 0s}",
        "retries.per_try = 0s line 4: no time at all; write at least 1ms, or none",
    );
    check("retries: 3", "retries = 3 line 4: did you mean {attempts: 3}? They count after the first one");
    check(
        "retries: {methods: all}",
        "retries.methods = all line 4: what is neither safe nor idempotent, such as POST, might be done twice; \
         write idempotent",
    );
    check("mirror: 10", "mirror = 10 line 4: a share needs its unit; did you mean 10%?");
    check(
        "mirror: 10%",
        "mirror = 10% line 4: green has no endpoint that copies could go to; add one or start at 0%",
    );
    check("balance: leastconn", "balance = leastconn line 4: did you mean least_requests?");
    check("retries: twice", "retries = twice line 4: write off, or {key: value, …} for what differs");
    check(
        "limits: {queue: 5}",
        "limits.queue = 5 line 4: no endpoint is ever full without max_in_flight; add it, or leave queue out",
    );
    check(
        "limits: {max_in_flight: 5, queue: 5, queue_timeout: 0s}",
        "limits.queue_timeout = 0s line 4: no time at all; write at least 1ms, or leave it out for 5s",
    );
    check(
        "limits: {max_in_flight: 5, queue_timeout: 1s}",
        "limits.queue_timeout = 1s line 4: nobody waits without queue; add it, or leave queue_timeout out",
    );
    check("limits: {max_in_flight: 0}", "limits.max_in_flight = 0 line 4: must be at least 1");
}

#[test]
fn retries_and_places_are_as_they_are_written() {
    let settings = |lines: &str| {
        let config = parse(&shop(&format!("{LINE}\n{lines}"))).unwrap();
        assert_eq!(config.warnings, []);
        config.control.services[0].settings.clone()
    };
    assert_eq!(settings("").retries, Some(Retries::default()));
    assert_eq!((settings("retries: off").retries.clone(), settings("").limits.endpoint), (None, None));
    let written = settings(
        "retries: {attempts: 3, on: [reset, 503, grpc-unavailable], methods: safe, body: 0B, budget: 5%, \
         budget_floor: 0, backoff: 0s, per_try: 250ms}\n\
         limits: {max_in_flight: 5, queue: 2, queue_timeout: 1s}",
    );
    let on = RetryOn { connect: false, reset: true, grpc_unavailable: true, statuses: vec![503] };
    let expected = Retries {
        attempts: 3,
        on,
        methods: RetryMethods::Safe,
        body_bytes_max: 0,
        budget: "5%".parse().unwrap(),
        budget_floor: 0,
        backoff: Duration::ZERO,
        per_try: Some(Duration::from_millis(250)),
    };
    assert_eq!(written.retries, Some(expected));
    let places = EndpointLimits { in_flight_max: 5, queue_max: 2, queue_timeout: Duration::from_secs(1) };
    assert_eq!(written.limits.endpoint, Some(places));
}

#[test]
fn doubtful_settings_are_warned_about() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let warnings = parse(text).unwrap().warnings;
        assert_eq!(warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    }
    check(
        &shop("blue: http://a:1\nsplit: {by: cookie, user: header:x}"),
        "services.shop.split.user = header:x    line 4: counts only with by: user",
    );
    check(
        &shop("blue: http://a:1\nmirror: {methods: all}"),
        "services.shop.mirror.methods = all    line 4: what changes something happens twice, unless the candidate's side \
         effects go nowhere",
    );
    check(
        &shop("blue: http://a:1\nmirror: {methods: [GET, POST]}"),
        "services.shop.mirror.methods = POST    line 4: may change something, which happens twice then, unless the \
         candidate's side effects go nowhere",
    );
    check(
        &shop("blue: http://a:1\nmirror: {compare: body}"),
        "services.shop.mirror.compare    line 4: statuses are always compared; list status, too",
    );
    check(
        &format!("trusted_proxies: {{from: 0.0.0.0/0}}\n{}", shop(LINE)),
        "trusted_proxies.from[0] = 0.0.0.0/0    line 1: everybody may now say whatever address they come from",
    );
}

fn private_file(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn secrets_are_read_from_beside_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidegate.yaml");
    fs::write(&file, shop("blue: http://a:1\noverride: {secret: file:tester}")).unwrap();
    let load = || config::load(&file, &Overrides::default());
    let secret = folder.path().join("tester");

    private_file(&secret, b"0123456789abcde\n");
    let error = load().unwrap_err().to_string();
    assert!(error.contains("line 4: a secret of 15 bytes can be guessed; it needs at least 16"), "{error}");
    assert!(!error.contains("0123456789"), "{error}");

    private_file(&secret, b"0123456789abcdef\r\n");
    let config = load().unwrap();
    let tester = config.control.services[0].settings.tester.as_ref().unwrap();
    assert!(tester.secret.matches(b"0123456789abcdef"));
    assert_eq!(tester.header, "x-tidegate-override");
    assert_eq!(config.warnings, []);

    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = load().unwrap().warnings;
    let warning = warnings[0].to_string();
    assert!(warning.contains("every user of this machine can read it; chmod o-r"), "{warning}");

    fs::remove_file(&secret).unwrap();
    fs::create_dir(&secret).unwrap();
    assert!(load().unwrap_err().to_string().contains("not a file"));
}

#[test]
fn a_file_that_is_missing_giant_or_no_text_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidegate.yaml");
    let load = || config::load(&file, &Overrides::default()).unwrap_err();
    assert!(matches!(load(), ConfigError::Read { .. }));
    fs::write(&file, b"services:\n  \xff\n").unwrap();
    assert!(matches!(load(), ConfigError::NotText { line: 2, .. }));
    fs::write(&file, vec![b'#'; (16 << 20) + 1]).unwrap();
    assert!(matches!(load(), ConfigError::TooLarge { .. }));
}

#[test]
fn a_small_file_cannot_become_a_large_one() {
    let laughs = "a: &a [x, x]\nb: &b [*a, *a]\nservices: *b\n".to_owned();
    let deep = format!("services: {{a: {}{}}}", "{blue: ".repeat(100_000), "}".repeat(100_000));
    let flow = format!("services: {}", "[".repeat(1_000_000));
    let tls = format!("listen: [{{address: :1, tls: {}{}}}]", "[".repeat(1000), "]".repeat(1000));
    let block = (0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    for text in [laughs, deep, flow, tls, block] {
        assert!(matches!(parse(&text), Err(ConfigError::Yaml { .. })));
    }
}

#[test]
fn ten_thousand_services_are_taken() {
    let mut text = "services:\n".to_owned();
    for at in 0..10_000 {
        text.push_str(&format!(
            "  s{at}: {{host: s{at}.example.com, blue: http://b{at}:1, green: {{endpoints: [http://g{at}:1]}}}}\n"
        ));
    }
    assert_eq!(parse(&text).unwrap().control.services.len(), 10_000);
}

#[test]
fn flags_win_over_the_file() {
    let flags = Overrides {
        listen: vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()],
        threads: std::num::NonZeroUsize::new(3),
        state: Some("state".into()),
        socket: Some("a.sock".into()),
        group: Some("web".to_owned()),
        telemetry: Some("off".to_owned()),
        access_log: Some("all".to_owned()),
    };
    let config = config::parse(FULL, "full.yaml", Path::new("/etc"), &flags).unwrap();
    assert_eq!(config.proxy.listen, ["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()]);
    assert_eq!(config.proxy.threads.get(), 3);
    assert_eq!(config.control.state, PathBuf::from("state"));
    assert_eq!(config.admin.socket, PathBuf::from("a.sock"));
    assert_eq!(config.admin.group.as_deref(), Some("web"));
    assert_eq!(config.telemetry.address, None);
    assert_eq!(config.telemetry.access_log.write, AccessLogWrite::All);

    let flags = Overrides {
        listen: vec!["80".to_owned()],
        telemetry: Some("no".to_owned()),
        access_log: Some("yes".to_owned()),
        ..Overrides::default()
    };
    assert_eq!(
        config::parse(MINIMAL, "a.yaml", Path::new(""), &flags).unwrap_err().to_string(),
        "a.yaml has 3 problems
  --listen = 80         a port alone; did you mean :80?
  --telemetry = no      \"no\" is not an address; write :PORT, or IP:PORT
  --access-log = yes    is none of off, sampled, all"
    );
}

/// A folder with `NAME.pem` and `NAME.key` for two names.
fn with_certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        let made = rcgen::generate_simple_self_signed([format!("{name}.test")]).unwrap();
        let (cert, key) =
            (folder.path().join(format!("{name}.pem")), folder.path().join(format!("{name}.key")));
        fs::write(cert, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    }
    folder
}

#[test]
fn listeners_are_read_in_every_form() {
    let folder = with_certificates();
    let text = "
listen:
  - :80
  - {address: :443, tls: [{cert: a.pem, key: a.key}], hsts: 730d}
  - address: :444
    tls: {certificates: [{cert: a.pem, key: a.key}, {cert: b.pem, key: b.key}], client_ca: a.pem, client_auth: optional, min_version: 1.3}
    proxy_protocol: {from: 10.0.0.0/8}
    hsts: {max_age: 365d, include_subdomains: true, preload: true}
  - {address: :81, redirect_https: 444}
  - {address: :82, redirect_https: false}
services: {shop: {blue: http://a:1}}
";
    let config = config::parse(text, "a.yaml", folder.path(), &Overrides::default()).unwrap();
    assert_eq!(config.warnings, []);
    let [plain, short, long, moved, stays] = &config.proxy.live.listeners[..] else { panic!("{config:?}") };
    assert_eq!(plain, &tidegate::proxy::ListenerSettings::plain());
    assert_eq!(short.tls.as_ref().unwrap().certificates[0].name(), "a.test");
    assert_eq!(short.hsts.as_ref().unwrap(), "max-age=63072000");
    let tls = long.tls.as_ref().unwrap();
    assert_eq!((tls.certificates.len(), tls.min_version), (2, tidegate::proxy::TlsVersion::Tls13));
    assert!(tls.client_auth.as_ref().is_some_and(|auth| !auth.is_required));
    assert_eq!(long.hsts.as_ref().unwrap(), "max-age=31536000; includeSubDomains; preload");
    assert_eq!(long.proxy_protocol, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!((moved.redirect_https, stays.redirect_https), (Some(444), None));
}

#[test]
fn what_is_wrong_with_a_listener_is_told_before_anybody_is_served() {
    let folder = with_certificates();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(folder.path().join("empty"), "").unwrap();
    let check = |listener: &str, expected: &[&str]| {
        let text =
            format!("listen: [{{address: :443, {listener}}}]\nservices: {{shop: {{blue: http://a:1}}}}");
        let error = config::parse(&text, "a.yaml", folder.path(), &Overrides::default()).unwrap_err();
        let shown = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        for part in expected {
            assert!(shown.contains(part), "{listener}\n{part}\n{shown}");
        }
        assert!(shown.contains("has 1 problem "), "{shown}");
    };
    let pair = "tls: [{cert: a.pem, key: a.key}]";
    let both = format!("{} is not the key of {}", path("b.key"), path("a.pem"));
    check("tls: [{cert: a.pem, key: b.key}]", &["listen[0].tls[0].cert = a.pem line 1:", &both]);
    check("tls: [{cert: a.key, key: a.pem}]", &["listen[0].tls[0].cert = a.key", "may be swapped"]);
    check("tls: [{cert: a.pem, key: none}]", &["listen[0].tls[0].key = none", "No such file"]);
    check("tls: [{cert: empty, key: a.key}]", &["holds no certificate in PEM"]);
    check("tls: []", &["listen[0].tls", "there is no certificate to show"]);
    check("tls: {min_version: 1.3}", &["listen[0].tls.certificates", "there is no certificate to show"]);
    check("tls: a.pem", &["write a list of certificates"]);
    check("tls: {certificates: [{cert: a.pem, key: a.key}], min_version: 1.1}", &["RFC 8996"]);
    check("tls: {certificates: [{cert: a.pem, key: a.key}], client_auth: required}", &["add client_ca"]);
    check("tls: {certificates: [{cert: a.pem, key: a.key}], client_ca: a.key}", &["tls.client_ca = a.key"]);
    check("redirect_https: 0", &["neither true nor a port"]);
    check(&format!("redirect_https: true, {pair}"), &["redirect_https = true", "speaks https already"]);
    check("hsts: 365d", &["listen[0].hsts = 365d", "RFC 6797"]);
    check(&format!("hsts: 11y, {pair}"), &["is not a unit of time"]);
    check(
        &format!("hsts: {{max_age: 30d, include_subdomains: true, preload: true}}, {pair}"),
        &["hsts.preload"],
    );
    check("proxy_protocol: {}", &["proxy_protocol.from", "nobody may send the header"]);
    check("proxy_protocol: {from: [10.1.0.0/8]}", &["did you mean 10.0.0.0/8"]);
    let text = format!("{MINIMAL}\nlimits: {{connections: 5, connections_per_address: 6}}");
    assert!(problem(&text).contains("limits.connections_per_address = 6"));
    let text = "limits: {requests: 5}\nservices: {shop: {blue: http://a:1, limits: {requests: 6}}}";
    assert_eq!(
        problem(text),
        "services.shop.limits.requests = 6 line 2: one service cannot have more than all together (5); lower it, or leave \
         it out"
    );
    let text = "services: {shop: {blue: http://a:1, timeouts: {total: 30s}, limits: {requests: 6}}}";
    let config = parse(text).unwrap();
    let settings = &config.control.services[0].settings;
    assert_eq!(settings.timeouts.first_byte, Duration::from_secs(30), "not longer than all of it");
    assert_eq!(settings.timeouts.total, Some(Duration::from_secs(30)));
    assert_eq!((settings.limits.requests_max, settings.timeouts.stream), (Some(6), None));
    let text = format!("{MINIMAL}\nlimits: {{h2_streams: 10001}}");
    assert!(problem(&text).contains("limits.h2_streams = 10001"));

    fs::set_permissions(folder.path().join("a.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let text = format!("listen: [{{address: :443, {pair}}}]\nservices: {{shop: {{blue: http://a:1}}}}");
    let config = config::parse(&text, "a.yaml", folder.path(), &Overrides::default()).unwrap();
    assert!(config.warnings[0].to_string().contains("every user of this machine may read it"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_change_to_a_file_makes_it_panic(
        edits in proptest::collection::vec(
            (any::<prop::sample::Index>(), 0usize..12, "[ -~\\n]{0,3}|[\\[\\]{}:*&!%,#'\"-]{1,4}|\\PC{1,2}"),
            1..6,
        ),
    ) {
        let lines = FULL.lines().filter(|line| !line.trim().starts_with("# "));
        let mut chars: Vec<char> = lines.flat_map(|line| line.chars().chain(['\n'])).collect();
        for (at, removed, added) in edits {
            let at = at.index(chars.len());
            let end = (at + removed).min(chars.len());
            chars.splice(at..end, added.chars());
        }
        let text: String = chars.into_iter().collect();
        if let Err(error) = parse(&text) {
            let shown = error.to_string();
            prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }
}

#[test]
fn what_endpoints_are_spoken_to_with_is_read_once_and_told_when_it_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let made = || rcgen::generate_simple_self_signed(["tidegate".to_owned()]).unwrap();
    let (ours, other) = (made(), made());
    write("ca.pem", &ours.cert.pem(), 0o644);
    write("key.pem", &ours.signing_key.serialize_pem(), 0o600);
    write("public.pem", &ours.signing_key.serialize_pem(), 0o644);
    write("other.pem", &other.signing_key.serialize_pem(), 0o600);
    write("empty.pem", "", 0o600);
    let read = |tls: &str| {
        let text = shop(&format!("blue: {{endpoints: [\"https://10.0.0.1:8443\"], tls: {{{tls}}}}}"));
        config::parse(&text, "tidegate.yaml", folder.path(), &Overrides::default())
    };
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let wrong = |tls: &str, expected: &str| {
        let error = one_line(&read(tls).unwrap_err().to_string());
        assert!(error.contains("has 1 problem") && error.contains(expected), "{error}");
    };
    wrong("ca: none.pem", "services.shop.blue.tls.ca = none.pem line 3:");
    wrong("ca: none.pem", "none.pem does not exist; create it or correct the path");
    wrong("ca: empty.pem", "tls.ca = empty.pem line 3: no certificate is in it");
    wrong("ca: ca.pem, cert: ca.pem", "tls.cert = ca.pem line 3: a certificate needs its key; add key: FILE");
    wrong(
        "ca: ca.pem, key: key.pem",
        "tls.key = key.pem line 3: a key needs its certificate; add cert: FILE",
    );
    wrong("ca: ca.pem, cert: ca.pem, key: ca.pem", "tls.key = ca.pem line 3: no private key is in it");
    wrong("ca: ca.pem, cert: ca.pem, key: other.pem", "certificate and key cannot be used together");
    wrong(
        "ca: ca.pem, server_name: a b",
        "tls.server_name = a b line 3: no certificate can be for this name",
    );

    let warnings =
        |tls: &str| read(tls).unwrap().warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(warnings("ca: ca.pem, cert: ca.pem, key: key.pem, server_name: shop.internal").is_empty());
    let [told] = &warnings("ca: ca.pem, cert: ca.pem, key: public.pem")[..] else { panic!() };
    assert!(told.contains("every user of this machine can read it"), "{told}");
    let [told] = &warnings("verify: false")[..] else { panic!() };
    assert!(told.contains("services.shop.blue.tls.verify") && told.contains("not verified"), "{told}");
    assert_eq!(warnings("ca: ca.pem, verify: false").len(), 2);

    // The same files again are no change, others are.
    let reach = |tls: &str| read(tls).unwrap().control.services[0].reach.blue.clone();
    assert_eq!(reach("ca: ca.pem"), reach("ca: ca.pem"));
    assert_ne!(reach("ca: ca.pem"), reach("ca: ca.pem, verify: false"));
}
