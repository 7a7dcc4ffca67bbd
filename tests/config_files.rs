//! The files in `config/` say the truth: they parse, the full one is complete and has the real defaults, and
//! the JSON Schema is that of the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tidegate::config::launch::{PRESETS, preset};
use tidegate::config::{self, Config, Overrides, PlanRequest};

const MINIMAL: &str = include_str!("../config/minimal.yaml");
const FULL: &str = include_str!("../config/full.yaml");
const COMPOSE: &str = include_str!("../config/compose.yaml");
const UNIT: &str = include_str!("../config/tidegate.service");

#[track_caller]
fn parse(text: &str, base: &Path) -> Config {
    let config = config::parse(text, "the file", base, &Overrides::default()).unwrap();
    assert_eq!(config.warnings, []);
    config
}

#[test]
fn the_full_file_spells_out_the_defaults() {
    let nowhere = Path::new("/nowhere");
    let (minimal, full) = (parse(MINIMAL, nowhere), parse(FULL, nowhere));
    assert_eq!(full.proxy, minimal.proxy);
    assert_eq!(full.admin, minimal.admin);
    assert_eq!(full.telemetry, minimal.telemetry);
    assert_eq!(full.control.state, minimal.control.state);
    assert_eq!(full.control.services, minimal.control.services);
}

#[test]
fn the_full_file_has_every_key_and_its_examples_work() {
    let (text, folder) = full_with_examples();
    let config = parse(&text, folder.path());
    assert!(config.cookie.keys.is_some());
    assert_eq!(config.proxy.threads.get(), 2);
    let settings = &config.control.services[0].settings;
    assert!(settings.tester.is_some());
    assert_eq!(settings.limits.body_bytes_max, Some(64 << 20));
    let [_, secured, proxied, plain] = &config.proxy.live.listeners[..] else { panic!("{config:?}") };
    let tls = secured.tls.as_ref().unwrap();
    assert!(tls.certificates.len() == 2 && tls.client_auth.as_ref().is_some_and(|auth| auth.is_required));
    assert_eq!(secured.hsts.as_ref().unwrap(), "max-age=31536000");
    assert_eq!((proxied.proxy_protocol.len(), plain.redirect_https), (1, Some(443)));
    assert_eq!(config.proxy.live.limits.connections_per_address_max, Some(500));

    let schema = config::schema();
    let (mut known, mut written) = (BTreeMap::new(), BTreeSet::new());
    keys_of_schema(&schema, &schema, "", "", &mut known);
    keys_of_value(&as_json(&text), "", &mut written);
    for (_, plan) in plans() {
        keys_of_value(&as_json(&plan), "services.*.rollout", &mut written);
    }
    assert!(known.len() > 120, "{known:?}");
    for (key, places) in known {
        assert!(
            places.iter().any(|place| written.contains(place)),
            "config/full.yaml and config/plans lack {key:?}: {places:?}"
        );
    }
}

#[test]
fn the_unit_lets_a_new_process_take_over_and_systemd_understands_it() {
    let has =
        |line: &str| assert!(UNIT.lines().any(|found| found == line), "config/tidegate.service lacks {line}");
    // The new process speaks before it is the main one, and is not ended with the old one.
    ["Type=notify", "NotifyAccess=all", "KillMode=mixed", "WatchdogSec=30s"].into_iter().for_each(has);
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("tidegate.service");
    // What it starts is not installed here.
    fs::write(&unit, UNIT.replace("/usr/local/bin/tidegate", "/bin/true")).unwrap();
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output();
    let Ok(verified) = verify else { return };
    let said = String::from_utf8_lossy(&verified.stderr);
    let about_it: Vec<_> = said.lines().filter(|line| line.contains("tidegate.service")).collect();
    assert!(about_it.is_empty(), "{about_it:?}");
}

/// The plans beside the configuration, by file name.
fn plans() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/plans");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    let mut plans: Vec<_> = files.map(read).collect();
    plans.sort();
    plans
}

#[test]
fn every_plan_beside_the_full_file_compiles_against_its_names() {
    let (text, folder) = full_with_examples();
    let config = parse(&text, folder.path());
    let plans = plans();
    assert!(plans.len() >= 4, "{plans:?}");
    for (name, text) in plans {
        let request = PlanRequest {
            service: "shop".to_owned(),
            file: Some((name.clone(), text)),
            version: Some("2.1.0".to_owned()),
            ..PlanRequest::default()
        };
        let (plan, _) = config.planner.compile(&request).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(!plan.stages.is_empty(), "{name}");
    }
}

/// The full file with its examples in force, and the folder with the secrets that they name.
fn full_with_examples() -> (String, tempfile::TempDir) {
    let is_example = |line: &str| {
        // Items of a list, and what stands below one, are indented behind their sign; prose is not.
        let is_item = line.starts_with("- ") || line.starts_with("  ");
        let line = if is_item { line.trim_start_matches([' ', '-', '{']) } else { line };
        let key = line.split(':').next().unwrap_or_default();
        line.contains(':') && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    let text = FULL
        .lines()
        .map(|line| match line.split_once('#') {
            Some((indent, rest)) if indent.trim().is_empty() && is_example(rest) => {
                format!("{indent}{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("secrets");
    fs::create_dir(&secrets).unwrap();
    for name in ["cookie-new", "cookie-old", "tester", "hook", "prometheus", "alerts", "slack"] {
        let secret =
            if name == "slack" { "https://hooks.example.com/T1".to_owned() } else { name.repeat(10) };
        fs::write(secrets.join(name), secret).unwrap();
        fs::set_permissions(secrets.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let tls = folder.path().join("tls");
    fs::create_dir(&tls).unwrap();
    for name in ["shop", "any", "clients"] {
        let made = rcgen::generate_simple_self_signed([format!("{name}.example.com")]).unwrap();
        fs::write(tls.join(name).with_extension("pem"), made.cert.pem()).unwrap();
        let key = tls.join(name).with_extension("key");
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let ours = rcgen::generate_simple_self_signed(["tidegate".to_owned()]).unwrap();
    for name in ["ca.pem", "client.pem"] {
        fs::write(secrets.join(name), ours.cert.pem()).unwrap();
    }
    fs::write(secrets.join("client.key"), ours.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(secrets.join("client.key"), fs::Permissions::from_mode(0o600)).unwrap();
    (text, folder)
}

/// Each key of each type of the schema, with the paths at which it can stand: `services.*.split.by`.
fn keys_of_schema<'s>(
    root: &'s Value,
    schema: &'s Value,
    of: &'s str,
    at: &str,
    keys: &mut BTreeMap<(&'s str, &'s str), BTreeSet<String>>,
) {
    if let Some(name) = schema["$ref"].as_str().and_then(|link| link.strip_prefix("#/$defs/")) {
        keys_of_schema(root, &root["$defs"][name], name, at, keys);
    }
    for form in schema["anyOf"].as_array().into_iter().flatten() {
        keys_of_schema(root, form, of, at, keys);
    }
    if schema["items"].is_object() {
        keys_of_schema(root, &schema["items"], of, at, keys);
    }
    if schema["additionalProperties"].is_object() {
        keys_of_schema(root, &schema["additionalProperties"], of, &format!("{at}.*"), keys);
    }
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        keys.entry((of, key)).or_default().insert(path.clone());
        keys_of_schema(root, inner, of, &path, keys);
    }
}

fn keys_of_value(value: &Value, at: &str, keys: &mut BTreeSet<String>) {
    for item in value.as_array().into_iter().flatten() {
        keys_of_value(item, at, keys);
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        let named = ["services", "tiers", "hooks", "sources", "notify"].contains(&at)
            || at.ends_with("gates.metrics");
        let key = if named { "*" } else { key };
        let path = if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
        keys.insert(path.clone());
        keys_of_value(inner, &path, keys);
    }
}

fn as_json(text: &str) -> Value {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).unwrap()
}

#[test]
fn the_schema_in_config_is_the_schema_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tidegate.schema.json");
    let schema = serde_json::to_string_pretty(&config::schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &schema).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == schema,
        "config/tidegate.schema.json is out of date; run UPDATE_SCHEMA=1 cargo test --test config_files"
    );
}

#[test]
fn the_schema_of_launches_in_config_is_the_schema_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/launch.schema.json");
    let schema = serde_json::to_string_pretty(&config::launch::schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &schema).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == schema,
        "config/launch.schema.json is out of date; run UPDATE_SCHEMA=1 cargo test --test config_files"
    );
}

#[test]
fn the_schema_of_launches_takes_the_presets_and_refuses_mistakes() {
    #[track_caller]
    fn check(text: &str, expected: bool) {
        let validator = jsonschema::validator_for(&config::launch::schema()).unwrap();
        let value = as_json(text);
        let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(errors.is_empty(), expected, "{text}\n{errors:?}");
    }
    for name in PRESETS {
        check(&preset(name, "shop", "2.0.2").unwrap(), true);
    }
    let own =
        |phase: &str| format!("{{launch: \"shop-${{TAG}}\", service: shop, phases: [{{id: p, {phase}}}]}}");
    check(&own("do: [./up], undo: none"), true);
    check(&own("do: {sh: ./up}, undo: {sh: ./down}"), true);
    check(
        &own(
            "rollout: canary, check: [{http_status: /up}, {feature_flag_evaluation: {provider: x, flags: a, expect: on}}]",
        ),
        true,
    );
    check(&own("shift: 25%"), true);
    check(&own("shift: 25"), false);
    check(&own("for: 30"), false);
    check(&own("for: 30m, chek: []"), false);
    check(&own("for: 30m, check: [{http_staus: /up}]"), false);
    let older = |phase: &str| {
        format!("{{launch: {{rollback_threshold: {{error_rate: 0.02}}, phases: [{{id: p, {phase}}}]}}}}")
    };
    check(
        &older(
            "timeout_ms: 30000, validators: [{type: http_status, config: {path: /up}}], actions: {execute: a, rollback: b}",
        ),
        true,
    );
    check(&older("validators: [{type: vibes}], actions: {execute: a}"), false);
    check(&older("timeout_ms: 30s, actions: {execute: a}"), false);
}

#[test]
fn the_schema_takes_our_files_and_refuses_mistakes() {
    #[track_caller]
    fn check(text: &str, expected: bool) {
        let validator = jsonschema::validator_for(&config::schema()).unwrap();
        let value = as_json(text);
        let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(errors.is_empty(), expected, "{text}\n{errors:?}");
    }
    for (name, plan) in plans() {
        let config = serde_json::json!({ "services": { "shop": { "blue": "http://a:1", "rollout": as_json(&plan) } } });
        let validator = jsonschema::validator_for(&config::schema()).unwrap();
        assert!(validator.is_valid(&config), "{name}");
    }
    let shop = |lines: &str| format!("services: {{shop: {{blue: http://a:1, {lines}}}}}");
    for text in [MINIMAL, FULL, &full_with_examples().0, &embedded_in_compose()] {
        check(text, true);
    }
    check("{telemetry: off, listen: [:80, {address: :81}], services: {shop: {blue: http://a:1}}}", true);
    check(&shop("split: {initial_weight: 5%}"), true);
    check(&shop("split: {initial_weight: 5}"), false);
    check(&shop("health: {interval: 5}"), false);
    check(&shop("limits: {body: 64KB}"), false);
    check(&shop("retries: off"), true);
    check(&shop("retries: {on: [connect, 503], per_try: none}"), true);
    check(&shop("retries: {on: 200}"), false);
    check(&shop("retries: {attempts: 11}"), false);
    check(&shop("blau: http://a:1"), false);
    check(&shop("green: {endpoints: [{url: http://a:1, wieght: 1}]}"), false);
    check(&shop("green: ftp://a:1"), false);
    check("services: {Shop: {blue: http://a:1}}", false);
    check(&shop("rollout: canary"), true);
    check(&shop("rollout: {stages: [{weight: 5%, hold: 15m}]}"), true);
    check(&shop("rollout: {stages: [{percentage: 5, duration: infinity}]}"), true);
    check(&shop("rollout: {stages: [{weight: 5, hold: 15m}]}"), false);
    check(&shop("rollout: {stages: [{weight: 5%, hold: 15}]}"), false);
    check(&shop("gates: none, slo: 99.9%, guard: off"), true);
    check(&shop("gates: {errors: {limit: none, ratio: 1.2}}"), true);
    check(&shop("gates: {errors: {limit: 0.5}}"), false);
    check(&shop("gates: {erors: none}"), false);
}

#[test]
fn the_configuration_inside_the_compose_file_fits_its_services() {
    let config = parse(&embedded_in_compose(), Path::new("/etc/tidegate"));
    let compose = as_json(COMPOSE);
    for (_, endpoints) in config.control.services[0].endpoints.iter() {
        assert!(!endpoints.is_empty());
        for endpoint in endpoints {
            let authority = endpoint.url.authority();
            let (host, port) = authority.split_once(':').unwrap();
            let app = &compose["services"][host];
            let listens = format!("-listen=:{port}");
            assert!(app["command"].as_array().unwrap().contains(&listens.into()), "{endpoint:?}: {app}");
        }
    }
}

fn embedded_in_compose() -> String {
    as_json(COMPOSE)["configs"]["tidegate"]["content"].as_str().unwrap().to_owned()
}
