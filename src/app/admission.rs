//! Whether the configuration has what a launch needs: its service, its rollouts, its hook, its channels, its roles.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::clock::Timestamp;
use crate::config::{PlanRequest, Planner};
use crate::control::Control;
use crate::hooks::HookSettings;
use crate::launch::{Action, ItemKind, Launch, Roles};

/// What is looked at.
pub(super) struct Admission {
    pub(super) control: Control,
    pub(super) planner: Arc<ArcSwap<Planner>>,
    pub(super) hooks: Arc<ArcSwap<HookSettings>>,
    pub(super) roles: Arc<ArcSwap<Roles>>,
}

impl Admission {
    /// What could be better, or all that is missing.
    pub(super) fn look(&self, launch: &Launch, at: Timestamp) -> Result<Vec<String>, Vec<String>> {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        self.rollouts(launch, at, &mut problems, &mut warnings);
        let hooks = self.hooks.load();
        if let Some(flags) = &launch.flags
            && !hooks.hooks.contains_key(&flags.hook)
        {
            let known = hooks.hooks.keys().map(AsRef::as_ref);
            problems.push(format!("flags.hook: there is no hook {}{}", flags.hook, others(known)));
        }
        for channel in launch.comms.channels.iter().filter(|name| !hooks.channels.contains_key(*name)) {
            let known = hooks.channels.keys().map(AsRef::as_ref);
            problems.push(format!("comms.channels: there is no channel {channel}{}", others(known)));
        }
        let told = !launch.comms.before.is_empty() || launch.comms.every.is_some();
        if told && hooks.channels.is_empty() {
            warnings.push("comms: nobody is told; the configuration has no channel under notify".to_owned());
        }
        let roles = self.roles.load();
        let signed = launch.checklist.iter().filter_map(|item| match &item.kind {
            ItemKind::Person { role, .. } => Some((format!("checklist {}", item.id), role)),
            ItemKind::Command { .. } => None,
        });
        let voting = launch.go_nogo.iter().flat_map(|vote| &vote.roles);
        let voting = voting.map(|role| ("go_nogo.roles".to_owned(), role));
        for (place, role) in signed.chain(voting).filter(|(_, role)| !roles.knows(role)) {
            let known = roles.users.keys().map(AsRef::as_ref);
            problems.push(format!("{place}: there is no role {role} in launches.roles{}", others(known)));
        }
        if problems.is_empty() { Ok(warnings) } else { Err(problems) }
    }

    fn rollouts(
        &self,
        launch: &Launch,
        at: Timestamp,
        problems: &mut Vec<String>,
        warnings: &mut Vec<String>,
    ) {
        if self.control.config(&launch.service).is_none() {
            let table = self.control.table();
            let known: Vec<_> = table.services().iter().map(|service| &*service.settings.name).collect();
            problems.push(format!(
                "service: there is no service {}{}",
                launch.service,
                others(known.into_iter())
            ));
            return;
        }
        let planner = self.planner.load();
        for phase in &launch.phases {
            let Action::Rollout(rollout) = &phase.action else { continue };
            let request = PlanRequest {
                service: launch.service.to_string(),
                name: Some(launch.name.to_string()),
                schedule: rollout.schedule.as_ref().map(ToString::to_string),
                file: rollout.plan.as_ref().map(|(name, text)| (name.to_string(), text.to_string())),
                version: launch.version.as_ref().map(ToString::to_string),
                at,
            };
            match planner.compile(&request) {
                Ok((_, found)) => {
                    warnings.extend(found.iter().map(|warning| format!("phase {}: {warning}", phase.id)));
                }
                Err(why) => problems.push(format!("phase {}: {why}", phase.id)),
            }
        }
    }
}

fn others<'n>(known: impl Iterator<Item = &'n str>) -> String {
    const NAMED_MAX: usize = 20;
    let known: Vec<_> = known.take(NAMED_MAX + 1).collect();
    match known.len() {
        0 => String::new(),
        1..=NAMED_MAX => format!("; there is {}", known.join(", ")),
        _ => "; see the configuration for those there are".to_owned(),
    }
}
