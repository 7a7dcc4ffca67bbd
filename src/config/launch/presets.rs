//! Launch files to begin with.

/// The names of all presets.
pub const PRESETS: [&str; 5] =
    ["payment-canary", "internal-blue-green", "web-progressive", "schema-first", "expand-contract"];

/// A launch file to begin with, for a service and the version that it is to get; `None`: there is no preset of that name.
pub fn preset(name: &str, service: &str, version: &str) -> Option<String> {
    let template = match name {
        "payment-canary" => include_str!("presets/payment-canary.yaml"),
        "internal-blue-green" => include_str!("presets/internal-blue-green.yaml"),
        "web-progressive" => include_str!("presets/web-progressive.yaml"),
        "schema-first" => include_str!("presets/schema-first.yaml"),
        "expand-contract" => include_str!("presets/expand-contract.yaml"),
        _ => return None,
    };
    Some(template.replace("{{service}}", service).replace("{{version}}", version))
}
