//! Another configuration, without a restart. A reload never moves traffic by itself.
//!
//! The configuration says what exists; where traffic is stays as it is. What recognises visitors changes
//! only while nobody's fate depends on it, at 0 % and 100 %. Services that are gone keep their
//! state, so that one that comes back is where it was, locks included.

use std::sync::Arc;

use thiserror::Error;

use super::acts;
use super::attempt::is_open;
use super::change::Refusal;
use super::commit::{CommitError, Control, REBASES_MAX, StartError, Who, by_us, matcher};
use super::desired::{Changed, Desired, ServiceState};
use super::live::{Live, base, places};
use super::overlay::Overlay;
use super::recovery::first_state;
use super::settings::ServiceConfig;
use crate::clock;
use crate::routing::{Matcher, ServiceSettings};
use crate::store::AuditEntry;
use crate::telemetry::names;
use crate::traffic::{PerVariant, Variant, Weight};
use crate::upstream::EndpointSpec;

/// What a reload did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// What is different now, one sentence each.
    pub changes: Vec<String>,
    /// Where what is in force differs from the file.
    pub drift: Vec<String>,
}

/// What becomes of changes to endpoints that were made at run time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// They stay, but for what the configuration says itself by now.
    #[default]
    All,
    /// They go.
    Nothing,
}

/// Why a reload was not carried out. What was in force is in force.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// The services do not fit together.
    #[error(transparent)]
    Config(#[from] StartError),
    /// The disk.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Control {
    /// What a reload would do.
    pub fn reload_dry_run(
        &self,
        configs: Vec<ServiceConfig>,
        overlay: Keep,
    ) -> Result<Reloaded, ReloadError> {
        let configs: Vec<_> = configs.into_iter().map(Arc::new).collect();
        matcher(&configs)?;
        let live = self.live();
        let desired = self.reloaded_state(&live.desired, &configs, overlay, 0);
        leaves_none(&live, &desired, &configs).map_err(CommitError::from)?;
        let old: Vec<_> = live.configs().cloned().collect();
        let changes = changes(&old, &configs, discarded(&live.desired, &configs, overlay));
        Ok(Reloaded { changes, drift: drift_of(&desired, &configs) })
    }

    /// Takes over another configuration: on disk first, then in force.
    pub async fn reload(
        &self,
        configs: Vec<ServiceConfig>,
        overlay: Keep,
        who: &Who,
    ) -> Result<Reloaded, ReloadError> {
        let configs: Vec<_> = configs.into_iter().map(Arc::new).collect();
        let matcher = matcher(&configs)?;
        let (control, who) = (self.clone(), who.clone());
        // A task of its own, as for every change that waits for the disk.
        match tokio::spawn(async move { control.take_over(&configs, &matcher, overlay, &who).await }).await {
            Ok(reloaded) => reloaded.map_err(ReloadError::from),
            Err(_) => Err(CommitError::Busy.into()),
        }
    }

    async fn take_over(
        &self,
        configs: &[Arc<ServiceConfig>],
        matcher: &Arc<Matcher>,
        overlay: Keep,
        who: &Who,
    ) -> Result<Reloaded, CommitError> {
        let _turn = self.take_turn().await;
        for _ in 0..REBASES_MAX {
            let (proposal, generation) = {
                let live = self.live();
                is_open(&live)?;
                let generation = self.allocate();
                let next = self.reloaded_state(&live.desired, configs, overlay, generation);
                leaves_none(&live, &next, configs)?;
                (self.propose(&live, next), generation)
            };
            let desired = proposal.desired.clone();
            let Some(mut live) = self.saved_first(proposal).await? else { continue };
            let generation = if self.last_allocated() == generation { generation } else { self.allocate() };
            let old: Vec<_> = live.configs().cloned().collect();
            let discarded = discarded(&live.desired, configs, overlay);
            live.configure(configs.to_vec(), matcher.clone(), desired.clone());
            self.publish(&mut live, generation);
            drop(live);
            let reloaded =
                Reloaded { changes: changes(&old, configs, discarded), drift: drift_of(&desired, configs) };
            self.record(AuditEntry {
                actor: who.actor.clone(),
                claimed: who.claimed.clone(),
                to: Some(match reloaded.changes.len() {
                    0 => "no change".to_owned(),
                    1..=20 => reloaded.changes.join("; "),
                    n => format!("{n} changes"),
                }),
                ..by_us("reload", generation)
            });
            metrics::counter!(names::COMMITS.name, "kind" => "reload").increment(1);
            return Ok(reloaded);
        }
        Err(CommitError::Busy)
    }

    /// Where the state in force differs from the configuration in force, for one service.
    pub fn drift(&self, service: &str) -> Vec<String> {
        let live = self.live();
        match (live.config(service), live.desired.service(service)) {
            (Some(config), Some(state)) => drift(state, config),
            _ => Vec::new(),
        }
    }

    fn reloaded_state(
        &self,
        desired: &Desired,
        configs: &[Arc<ServiceConfig>],
        overlay: Keep,
        generation: u64,
    ) -> Desired {
        let mut next = desired.clone();
        let changed =
            || Changed { generation, actor: super::recovery::TIDEGATE.to_owned(), time: clock::wall() };
        next.add(configs.iter().map(|config| first_state(config, changed())));
        for config in configs {
            let Some(state) = next.service(&config.settings.name).cloned() else { continue };
            let left = left_of(&state, config, overlay);
            if left != state.overlay {
                next.replace(ServiceState { overlay: left, ..ServiceState::clone(&state) });
            }
            let Some(state) = next.service(&config.settings.name).cloned() else { continue };
            let recognition = state.recognised(&config.recognition);
            if !state.weight.is_partial() && state.recognition != recognition {
                next.replace(ServiceState { recognition, ..ServiceState::clone(&state) });
            }
            let state = next.service(&config.settings.name).cloned();
            if let Some(state) = state.and_then(|state| acts::guarded(&state, config, &changed())) {
                next.replace(state);
            }
        }
        next
    }
}

/// What is left of the changes to a service's endpoints that were made at run time.
pub(super) fn left_of(state: &ServiceState, config: &ServiceConfig, keep: Keep) -> PerVariant<Overlay> {
    PerVariant::from_fn(|variant| match keep {
        Keep::All => {
            let (own, others) = (base(config, state, variant).0, base(config, state, variant.other()).0);
            state.overlay[variant].folded(own, others)
        }
        Keep::Nothing => Overlay::default(),
    })
}

/// Refuses what leaves users with nobody to answer them although the file names somebody: whoever was taken out at run
/// time may be all that the file still has.
fn leaves_none(live: &Live, next: &Desired, configs: &[Arc<ServiceConfig>]) -> Result<(), Refusal> {
    for config in configs {
        let name = &config.settings.name;
        let (Some(before), Some(had), Some(has)) =
            (live.config(name), live.desired.service(name), next.service(name))
        else {
            continue;
        };
        for variant in Variant::ALL {
            let overlay = &has.overlay[variant];
            let serves = |config: &ServiceConfig, state: &ServiceState| {
                places(config, state, variant).0.iter().any(|placed| !placed.drains)
            };
            let is_stable = variant == has.stable;
            let has_traffic = is_stable || has.weight > Weight::ZERO;
            if has_traffic && !overlay.is_empty() && serves(before, had) && !serves(config, has) {
                return Err(Refusal::OverlayLeavesNone {
                    service: name.clone(),
                    variant,
                    share: (!is_stable).then_some(has.weight),
                    changed: overlay.describe(),
                });
            }
        }
    }
    Ok(())
}

/// The changes to endpoints that are let go of, one sentence each.
fn discarded(desired: &Desired, configs: &[Arc<ServiceConfig>], keep: Keep) -> Vec<String> {
    if keep == Keep::All {
        return Vec::new();
    }
    let known = configs.iter().filter_map(|config| desired.service(&config.settings.name));
    let all =
        known.flat_map(|state| state.overlay.iter().map(move |(variant, overlay)| (state, variant, overlay)));
    all.filter(|(_, _, overlay)| !overlay.is_empty())
        .map(|(state, variant, overlay)| {
            format!("{}: {variant} no longer changed at run time: {}", state.name, overlay.describe())
        })
        .collect()
}

fn changes(old: &[Arc<ServiceConfig>], new: &[Arc<ServiceConfig>], discarded: Vec<String>) -> Vec<String> {
    let find = |list: &[Arc<ServiceConfig>]| -> std::collections::HashMap<Arc<str>, Arc<ServiceConfig>> {
        list.iter().map(|config| (config.settings.name.clone(), config.clone())).collect()
    };
    let (had, has) = (find(old), find(new));
    let mut sentences = Vec::new();
    for config in old.iter().filter(|config| !has.contains_key(&config.settings.name)) {
        sentences.push(format!("{}: removed; its state is kept", config.settings.name));
    }
    for config in new {
        let name = &config.settings.name;
        let Some(before) = had.get(name) else {
            sentences.push(format!("{name}: added"));
            continue;
        };
        for variant in Variant::ALL {
            let (from, to) = (&before.endpoints[variant], &config.endpoints[variant]);
            if from != to {
                sentences.push(format!("{name}: {variant} from {} to {}", list(from), list(to)));
            }
            let (from, to) = (&before.version[variant], &config.version[variant]);
            if from != to {
                let label = |version: &Option<Arc<str>>| version.as_deref().unwrap_or("none").to_owned();
                sentences.push(format!("{name}: {variant} version from {} to {}", label(from), label(to)));
            }
        }
        let settings = changed_settings(&before.settings, &config.settings);
        if !settings.is_empty() {
            sentences.push(format!("{name}: settings of {}", settings.join(", ")));
        }
        if before.recognition != config.recognition {
            sentences.push(format!("{name}: split settings"));
        }
    }
    sentences.extend(discarded);
    sentences
}

/// The keys whose meaning is another one now, as they are called in the file.
fn changed_settings(old: &ServiceSettings, new: &ServiceSettings) -> Vec<&'static str> {
    // Taken apart, so that nothing is added without being told.
    let ServiceSettings {
        name: _,
        routes,
        health,
        balance,
        ejection,
        when_unhealthy,
        tester,
        tell,
        timeouts,
        retries,
        limits,
        upgrades,
        mirror,
    } = old;
    let compared = [
        ("host and path", *routes != new.routes),
        ("health", *health != new.health),
        ("balance", *balance != new.balance),
        ("ejection", *ejection != new.ejection),
        ("when_unhealthy", *when_unhealthy != new.when_unhealthy),
        ("override", *tester != new.tester),
        ("tell", *tell != new.tell),
        ("timeouts", *timeouts != new.timeouts),
        ("retries", *retries != new.retries),
        ("limits", *limits != new.limits),
        ("upgrades", *upgrades != new.upgrades),
        ("mirror", *mirror != new.mirror),
    ];
    compared.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

fn drift_of(desired: &Desired, configs: &[Arc<ServiceConfig>]) -> Vec<String> {
    configs
        .iter()
        .filter_map(|config| Some((desired.service(&config.settings.name)?, config)))
        .flat_map(|(state, config)| {
            drift(state, config).into_iter().map(|sentence| format!("{}: {sentence}", state.name))
        })
        .collect()
}

fn drift(state: &ServiceState, config: &ServiceConfig) -> Vec<String> {
    let mut sentences = Vec::new();
    let candidate = state.candidate();
    if state.stable != config.stable {
        sentences.push(format!("stable is {}, the file says {}", state.stable, config.stable));
    }
    if state.weight != config.initial_weight {
        sentences.push(format!(
            "{candidate} is at {}, the file starts it at {}",
            state.weight, config.initial_weight
        ));
    }
    if state.mirror != config.initial_mirror {
        sentences.push(format!(
            "{} of stable is mirrored to {candidate}, the file starts it at {}",
            state.mirror, config.initial_mirror
        ));
    }
    for variant in Variant::ALL {
        let overlay = &state.overlay[variant];
        if !overlay.is_empty() {
            sentences.push(format!("{variant} was changed at run time: {}", overlay.describe()));
        }
        if state.deployed[variant].is_none() {
            continue;
        }
        let (specs, _) = base(config, state, variant);
        if specs != config.endpoints[variant].as_slice() {
            sentences.push(format!(
                "{variant} was deployed to {}, the file says {}",
                list(specs),
                list(&config.endpoints[variant])
            ));
        }
    }
    if state.recognition != state.recognised(&config.recognition) {
        sentences.push("the split settings of the file wait until the weight is 0% or 100%".to_owned());
    }
    sentences
}

fn list(endpoints: &[EndpointSpec]) -> String {
    if endpoints.is_empty() {
        return "no endpoint".to_owned();
    }
    let texts: Vec<_> = endpoints
        .iter()
        .map(|endpoint| match endpoint.weight {
            1 => endpoint.url.to_string(),
            weight => format!("{} (weight {weight})", endpoint.url),
        })
        .collect();
    texts.join(", ")
}
