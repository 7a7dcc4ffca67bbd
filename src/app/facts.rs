//! What the metrics page says besides counts.

use crate::control::{Control, RolloutFigures, Verdicts};
use crate::routing::{Service, Standing};
use crate::telemetry::{
    CertificateFacts, EndpointFacts, Facts, LaunchFacts, RolloutFacts, ServiceFacts, ServiceSlot,
    VariantFacts,
};
use crate::traffic::PerVariant;

/// Everything in force, for the page.
pub fn facts(control: &Control, access_log_dropped: u64, certificates: Vec<CertificateFacts>) -> Facts {
    let (table, desired) = (control.table(), control.desired());
    let predecessors = control.predecessors().all();
    let rollout = |service: &Service| control.rollout_figures(&desired, &service.settings.name);
    Facts {
        generation: table.generation(),
        state_unsaved: !control.is_saved(),
        predecessors: predecessors.len() as u64,
        predecessor_tunnels: predecessors.iter().map(|old| old.holds.tunnels).sum(),
        predecessor_requests: predecessors.iter().map(|old| old.holds.requests).sum(),
        access_log_dropped,
        services: table
            .services()
            .iter()
            .map(|service| describe(control, service, rollout(service)))
            .collect(),
        certificates,
    }
}

fn describe(control: &Control, service: &Service, rollout: Option<RolloutFigures>) -> ServiceFacts {
    let split = &service.split;
    ServiceFacts {
        name: service.settings.name.to_string(),
        slot: ServiceSlot(service.slot),
        mirror: service.mirror,
        locked: split.lock,
        rollout: rollout.map(told),
        launch: control.running_launch(&service.settings.name).map(|ledger| LaunchFacts {
            unattended: ledger.is_unattended(),
            stopped: ledger.run.stopped.is_some(),
        }),
        variants: PerVariant::from_fn(|variant| {
            let group = &service.groups[variant];
            VariantFacts {
                version: group.version().map(|version| version.to_string()).unwrap_or_default(),
                role: split.role(variant),
                weight: split.share(variant),
                endpoints: group
                    .members()
                    .iter()
                    .zip(control.endpoint_figures(service, variant))
                    .map(|(member, figures)| EndpointFacts {
                        address: member.endpoint.label().to_string(),
                        healthy: member.health.is_usable(),
                        ejected: member.standing == Standing::Ejected,
                        ejections: figures.ejections,
                        requests: figures.seen.attempts,
                        failures: figures.seen.failures,
                        in_flight: figures.seen.in_flight,
                    })
                    .collect(),
            }
        }),
    }
}

fn told(figures: RolloutFigures) -> RolloutFacts {
    let Verdicts { pass, wait, fail } = figures.verdicts;
    RolloutFacts {
        stage: u32::try_from(figures.stage).unwrap_or(u32::MAX),
        evidence: figures.evidence,
        verdicts: vec![("pass", pass), ("wait", wait), ("fail", fail)],
        excess_failures: figures.excess_failures,
    }
}
