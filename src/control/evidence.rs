//! What the data plane counted by place, as the gates want it by role.

use crate::rollout::{Count, Evidence, PerRole, Stratum, StratumEvidence};
use crate::telemetry::{StratumLook, TrialLook, Units};
use crate::traffic::{By, Otherwise, PerVariant, Split, Variant};

/// The counts of a tick. What comes from elsewhere is left out: signals, metrics, hooks.
pub(super) fn counted(look: &TrialLook, split: &Split) -> Evidence {
    let candidate = split.candidate;
    let mut evidence = Evidence {
        requests: PerRole::of(look.requests, candidate),
        failures: PerRole::of(look.failures, candidate),
        drawn: Some(split.weight.ratio()),
        failed_visitors: knows_visitors(split).then_some(look.failed_visitors),
        ..Evidence::default()
    };
    // Both in the order user, cookie, draw.
    for (stratum, look) in Stratum::ALL.into_iter().zip(&look.strata) {
        evidence.strata[stratum as usize] = stratum_of(look, candidate);
    }
    evidence
}

/// Whether anything happened at all.
pub(super) fn is_empty(look: &TrialLook) -> bool {
    let still = |units: &PerVariant<Units>| units.blue.events == 0 && units.green.events == 0;
    look.requests == PerVariant::default()
        && look.failures == PerVariant::default()
        && look.strata.iter().all(|stratum| {
            still(&stratum.errors) && still(&stratum.client_errors) && stratum.slow.iter().all(still)
        })
}

fn stratum_of(look: &StratumLook, candidate: Variant) -> StratumEvidence {
    let by_role = |units: PerVariant<Units>| {
        let count = |_, Units { units, events }| Count { units, events };
        PerRole::of(units, candidate).map(count)
    };
    StratumEvidence {
        errors: by_role(look.errors),
        client_errors: by_role(look.client_errors),
        slow: look.slow.map(by_role),
        business: by_role(look.business),
        stable_half: by_role(look.half).stable,
    }
}

/// Whether failures can be told apart by visitor: not where each request is drawn anew.
fn knows_visitors(split: &Split) -> bool {
    match split.by {
        By::Request => false,
        By::Cookie => true,
        By::User => split.otherwise != Otherwise::Request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Weight;

    #[test]
    fn counts_by_place_become_counts_by_role() {
        let units = |blue, green| PerVariant {
            blue: Units { units: blue, events: 1 },
            green: Units { units: green, events: 2 },
        };
        let mut look = TrialLook { failed_visitors: 3, ..TrialLook::default() };
        look.requests = PerVariant { blue: 10, green: 20 };
        look.strata[1].errors = units(10, 20);
        look.strata[2].half = units(5, 6);
        for candidate in Variant::ALL {
            let split = Split {
                candidate,
                weight: Weight::ZERO,
                by: By::Cookie,
                otherwise: Otherwise::Cookie,
                ratchet: false,
                epoch: 1,
                salt: "s".into(),
                lock: None,
            };
            let evidence = counted(&look, &split);
            let (stable, tried) = if candidate == Variant::Green { (10, 20) } else { (20, 10) };
            assert_eq!(evidence.requests, PerRole { stable, candidate: tried });
            let cookie = evidence.strata[Stratum::Cookie as usize];
            assert_eq!((cookie.errors.stable.units, cookie.errors.candidate.units), (stable, tried));
            let half = if candidate == Variant::Green { 5 } else { 6 };
            assert_eq!(evidence.strata[Stratum::Draw as usize].stable_half.units, half);
            assert_eq!(evidence.failed_visitors, Some(3));
            assert_eq!(counted(&look, &Split { by: By::Request, ..split }).failed_visitors, None);
        }
        assert!(!is_empty(&look) && is_empty(&TrialLook::default()));
    }
}
