//! Mistakes that people make in launches.

use super::plan::Launch;
use crate::rollout::Mistake;

/// What is allowed in a launch, and hardly ever right; the worst first. What plans of its rollouts say is looked at by whoever can read
/// them.
pub fn lint(_launch: &Launch) -> Vec<Mistake> {
    Vec::new()
}
