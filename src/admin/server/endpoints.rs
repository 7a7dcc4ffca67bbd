//! Endpoints that come and go at run time.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};

use super::answer::{json, problem, with_causes};
use super::routes::{Answer, Asked, Peer, Tied, Ties, find};
use super::status;
use crate::admin::api::{
    Changed, EndpointShare, EndpointStatus, EndpointsChange, EndpointsRequest, Problem, ProblemKind,
};
use crate::clock;
use crate::control::{Change, EndpointAct, EndpointChange, EndpointsChanged};
use crate::traffic::{PerVariant, Variant};
use crate::upstream::{EndpointSpec, EndpointTls, EndpointUrl};

/// The largest share of an endpoint among its peers, as in the configuration.
const WEIGHT_MAX: u16 = 1000;

pub(super) fn routes() -> Router<Arc<Ties>> {
    Router::new()
        .route("/v1/services/{service}/endpoints", get(show))
        .route("/v1/services/{service}/endpoints/{verb}", post(change))
}

async fn show(State(ties): Tied, Path(name): Path<String>) -> Answer<PerVariant<Vec<EndpointStatus>>> {
    let service = find(&ties, &name)?;
    let moment = (clock::now(), clock::wall());
    Ok(Json(PerVariant::from_fn(|variant| status::endpoints(&ties.control, &service, variant, moment))))
}

async fn change(
    State(ties): Tied,
    Path((name, verb)): Path<(String, String)>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer<Changed> {
    let asked = Asked::read(request).await?;
    let EndpointsRequest { variant, endpoints, weight, force, reason, claimed } = json(&asked.body)?;
    let act = match verb.as_str() {
        "add" => EndpointAct::Add,
        "remove" => EndpointAct::Remove,
        "drain" => EndpointAct::Drain,
        "undrain" => EndpointAct::Undrain,
        _ => {
            let error =
                format!("endpoints cannot be told to {verb:?}; there is add, remove, drain and undrain");
            return Err(problem(ProblemKind::NotFound, error));
        }
    };
    if weight.is_some() && verb != "add" {
        return Err(problem(ProblemKind::Invalid, "a weight is given with add only"));
    }
    let weight = weight.unwrap_or(1);
    if !(1..=WEIGHT_MAX).contains(&weight) {
        let error =
            format!("an endpoint's weight is 1 to {WEIGHT_MAX}; it counts beside the variant's others");
        return Err(problem(ProblemKind::Invalid, error));
    }
    let specs = specs(&name, &endpoints, weight)?;
    if verb == "add" {
        can_be_reached(&ties, &name, variant, &specs).await?;
    }
    let change = Change::Endpoints(EndpointChange {
        service: name.into(),
        variant,
        act: act(specs),
        force,
        if_generation: asked.if_match()?,
    });
    asked.commit(&ties, &change, &peer.who(claimed, reason)?).await
}

/// URLs as they were sent.
pub(super) fn specs(service: &str, urls: &[String], weight: u16) -> Result<Vec<EndpointSpec>, Problem> {
    let invalid = |error| problem(ProblemKind::Invalid, format!("{service}: {error}"));
    let parse = |url: &String| match url.parse::<EndpointUrl>() {
        Ok(url) => Ok(EndpointSpec { url, weight }),
        Err(error) => Err(invalid(error)),
    };
    urls.iter().map(parse).collect()
}

/// Whether this process can speak TLS to endpoints that want it.
pub(super) async fn can_be_reached(
    ties: &Ties,
    service: &str,
    variant: Variant,
    specs: &[EndpointSpec],
) -> Result<(), Problem> {
    let Some(spec) = specs.iter().find(|spec| spec.url.is_tls()) else { return Ok(()) };
    // Reading whom the system trusts takes a moment, which the commit must not.
    let usual = tokio::task::spawn_blocking(EndpointTls::usual).await;
    let has_own = ties.control.config(service).is_none_or(|config| config.reach[variant].tls.is_some());
    match usual {
        Ok(Err(error)) if !has_own => {
            let (url, why) = (&spec.url, with_causes(&error));
            let error = format!(
                "{service}: nothing says whom to trust at {url} ({why}); name its ca under \
                 services.{service}.{variant}.tls, reload, and add it again"
            );
            Err(problem(ProblemKind::Conflict, error))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// What became of endpoints, for the one who asked.
pub(super) fn told(changed: EndpointsChanged) -> EndpointsChange {
    let shares = changed.act.specs().iter();
    EndpointsChange {
        variant: changed.variant,
        act: changed.act.verb().to_owned(),
        endpoints: shares
            .map(|spec| EndpointShare { url: spec.url.to_string(), weight: spec.weight })
            .collect(),
        forced: changed.forced,
    }
}

/// The command that takes a change back.
pub(super) fn undo(service: &str, changed: &EndpointsChanged) -> Option<String> {
    // Nobody knows any more what weight there was before.
    if matches!((&changed.act, &changed.forced), (EndpointAct::Add(_), Some(_))) {
        return None;
    }
    let specs = changed.act.specs();
    let weight = specs.first().map_or(1, |spec| spec.weight);
    let (verb, flag) = match changed.act {
        EndpointAct::Add(_) => ("remove", String::new()),
        EndpointAct::Remove(_) if specs.iter().any(|spec| spec.weight != weight) => return None,
        EndpointAct::Remove(_) if weight == 1 => ("add", String::new()),
        EndpointAct::Remove(_) => ("add", format!(" --weight {weight}")),
        EndpointAct::Drain(_) => ("undrain", String::new()),
        EndpointAct::Undrain(_) => ("drain", String::new()),
    };
    let urls: Vec<_> = specs.iter().map(|spec| spec.url.to_string()).collect();
    Some(format!("tidegate endpoint {verb} {service} {} {}{flag}", changed.variant, urls.join(" ")))
}
