//! Whether a query of a Prometheus gives one value, within limits.

use http::Request;
use http_body_util::Full;

use crate::launch::Limit;
use crate::outbound::prometheus::{self, ANSWER_BYTES_MAX, NoValue};
use crate::outbound::{HttpError, Outbound, authorize, causes};

pub(super) async fn ask(url: &str, query: &str, limit: Limit, token: Option<&str>) -> Result<String, String> {
    within(limit, value(url, query, token).await.map_err(|error| causes(&error))?)
}

async fn value(url: &str, query: &str, token: Option<&str>) -> Result<f64, NoValue> {
    let address = prometheus::address(url, query)?;
    let mut request = Request::new(Full::default());
    if let Some(token) = token {
        authorize(&mut request, token)?;
    }
    let answer: Result<_, HttpError> = Outbound::new().exchange(&address, request, ANSWER_BYTES_MAX).await;
    let answer = answer?;
    prometheus::parse(answer.status(), answer.body())
}

fn within(limit: Limit, value: f64) -> Result<String, String> {
    match limit {
        Limit { min: Some(min), .. } if value < min => {
            Err(format!("it is {value}, at least {min} is expected"))
        }
        Limit { max: Some(max), .. } if value > max => {
            Err(format!("it is {value}, at most {max} is expected"))
        }
        Limit { min: None, max: None } => Err("there is no limit to hold the value against".to_owned()),
        Limit { .. } => Ok(format!("it is {value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_belong_to_what_is_allowed() {
        let of = |min, max, value| within(Limit { min, max }, value);
        assert_eq!(of(None, Some(0.02), 0.02).unwrap(), "it is 0.02");
        assert_eq!(of(None, Some(0.02), 0.021).unwrap_err(), "it is 0.021, at most 0.02 is expected");
        assert_eq!(of(Some(1.0), Some(2.0), 0.5).unwrap_err(), "it is 0.5, at least 1 is expected");
        assert!(of(Some(1.0), None, 1.0).is_ok() && of(Some(1.0), Some(2.0), 2.0).is_ok());
        assert!(of(None, None, 1.0).is_err());
    }
}
