//! From what people ask for to a complete plan: schedules by name, plan files, and what the configuration names.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::plan::{
    Draft, Known, Name, PlanFile, Reader, Usual, draft, name_of, scheduled, schedules, unknown,
};
use super::problem::{ConfigError, Findings, Problem};
use super::scalar::Scalar;
use super::yaml;
use crate::clock::Timestamp;
use crate::rollout::Plan;

/// What runs when nobody says otherwise.
pub(super) const DEFAULT_SCHEDULE: &str = "canary";
const PLAN_BYTES_MAX: usize = 1 << 20;

/// A rollout as somebody asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanRequest {
    /// The service.
    pub service: String,
    /// The rollout's name, also its salt; `None`: the plan's own, else the candidate's version, else schedule and time.
    pub name: Option<String>,
    /// A schedule's name.
    pub schedule: Option<String>,
    /// The name of a file, and the plan as YAML that stands in it. Without schedule and plan: what is configured for the
    /// service, else `canary`.
    pub file: Option<(String, String)>,
    /// The candidate's version label.
    pub version: Option<String>,
    /// The moment, for names.
    pub at: Timestamp,
}

/// Knows everything that plans may refer to.
#[derive(Clone, Debug, Default)]
pub struct Planner {
    known: Known,
    services: BTreeMap<Arc<str>, ServicePlans>,
}

/// What is configured for the rollouts of a service.
#[derive(Clone, Debug, Default)]
pub(super) struct ServicePlans {
    pub(super) usual: Usual,
    pub(super) rollout: Option<Draft>,
}

impl Planner {
    pub(super) fn new(known: Known) -> Self {
        Self { known, services: BTreeMap::new() }
    }

    /// For a service that nothing is configured for: knows schedules and the standard gates.
    pub fn standalone(service: &str) -> Self {
        let mut planner = Self::default();
        planner.add(service.into(), ServicePlans::default());
        planner
    }

    pub(super) fn add(&mut self, service: Arc<str>, plans: ServicePlans) {
        self.services.insert(service, plans);
    }

    /// The plan, and what works, but hardly as it was meant.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the request or the plan, each with place, line and cure, as the text that `check` would print.
    pub fn compile(&self, request: &PlanRequest) -> Result<(Arc<Plan>, Vec<Problem>), String> {
        let plans = self.services.get(request.service.as_str()).ok_or_else(|| {
            unknown(&request.service, "service", "services", self.services.keys().map(|name| &**name))
        })?;
        let (mut draft, warnings) = match (&request.file, &request.schedule) {
            (Some(_), Some(schedule)) => {
                return Err(format!(
                    "a plan and a schedule at once; write schedule: {schedule} into the plan"
                ));
            }
            (Some((name, text)), None) => self.of_file(name, text, &plans.usual)?,
            (None, Some(schedule)) => of_schedule(schedule, &plans.usual)?,
            (None, None) => match &plans.rollout {
                Some(draft) => (draft.clone(), Vec::new()),
                None => of_schedule(DEFAULT_SCHEDULE, &plans.usual)?,
            },
        };
        if let Some(name) = &request.name {
            let Name(name) = Name::read(name).map_err(|why| format!("name = {name}: {why}"))?;
            draft.plan.name = name;
        } else if !draft.named {
            let schedule = draft.schedule.as_deref().unwrap_or("rollout");
            draft.plan.name = match &request.version {
                Some(version) => name_of(version),
                None => name_of(&format!("{schedule}-{}", minute(request.at))),
            };
        }
        let mut findings = Findings::default();
        Reader::new(&mut findings, "", 1).check(&draft.plan);
        if findings.problems.is_empty() {
            return Ok((Arc::new(draft.plan), warnings));
        }
        let name = match (&request.file, &request.schedule) {
            (Some((name, _)), _) => name.clone(),
            (None, Some(schedule)) => format!("schedule {schedule}"),
            (None, None) => format!("services.{}.rollout", request.service),
        };
        for problem in &mut findings.problems {
            problem.line = None;
        }
        Err(ConfigError::Problems { name, problems: findings.problems }.to_string())
    }

    fn of_file(&self, name: &str, text: &str, usual: &Usual) -> Result<(Draft, Vec<Problem>), String> {
        if text.len() > PLAN_BYTES_MAX {
            return Err(format!("{name} is larger than 1 MiB; that is no plan"));
        }
        let file: Option<PlanFile> = yaml::read(text, name).map_err(|error| error.to_string())?;
        let mut findings = Findings::default();
        let draft =
            draft(&mut Reader::new(&mut findings, "", 1), file.unwrap_or_default(), &self.known, usual);
        let Findings { mut problems, mut warnings } = findings;
        if problems.is_empty() {
            warnings.sort_by_key(|warning| warning.line);
            return Ok((draft, warnings));
        }
        problems.sort_by_key(|problem| problem.line);
        Err(ConfigError::Problems { name: name.to_owned(), problems }.to_string())
    }
}

/// A plan where no configuration is at hand: whatever names it refers to, and with the standard gates.
pub(super) fn check_plan(name: &str, text: &str) -> Result<Plan, ConfigError> {
    let file: Option<PlanFile> = yaml::read(text, name)?;
    let mut findings = Findings::default();
    let mut reader = Reader::new(&mut findings, "", 1).with_names_elsewhere();
    let draft = draft(&mut reader, file.unwrap_or_default(), &Known::default(), &Usual::default());
    let Findings { mut problems, .. } = findings;
    if problems.is_empty() {
        return Ok(draft.plan);
    }
    problems.sort_by_key(|problem| problem.line);
    Err(ConfigError::Problems { name: name.to_owned(), problems })
}

fn of_schedule(name: &str, usual: &Usual) -> Result<(Draft, Vec<Problem>), String> {
    let draft = scheduled(name, usual).ok_or_else(|| {
        let names = schedules();
        unknown(name, "schedule", "schedule", names.iter().map(|name| &**name))
    })?;
    let mut findings = Findings::default();
    Reader::new(&mut findings, "", 1).doubt_unwatched(&draft.plan);
    for warning in &mut findings.warnings {
        warning.line = None;
    }
    Ok((draft, findings.warnings))
}

/// `20260131-2359`, in UTC.
fn minute(at: Timestamp) -> String {
    let digits: String = at.to_string().chars().take(16).filter(char::is_ascii_digit).collect();
    match digits.split_at_checked(8) {
        Some((day, minute)) => format!("{day}-{minute}"),
        None => digits,
    }
}
