//! What a Prometheus, or what speaks its query API, answers to an instant query.
//!
//! Exactly one finite sample is a value; none, many, NaN, an error or silence is none, and is said with its cure.

use http::StatusCode;
use serde::Deserialize;
use thiserror::Error;

use super::{Address, HttpError, percent_encoded};

/// How large an answer may be, in bytes.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Where an instant query goes, of the server at `url`.
///
/// # Errors
/// [`HttpError::Address`] if that is no address.
pub fn address(url: &str, query: &str) -> Result<Address, HttpError> {
    let url = url.trim_end_matches('/');
    Address::parse(&format!("{url}/api/v1/query?query={}", percent_encoded(query)))
}

/// Why a query has no value.
#[derive(Debug, Error)]
pub enum NoValue {
    /// The source did not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The source says that the query is wrong, or that it cannot.
    #[error("the source answered {status}: {error}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// Its words.
        error: String,
    },
    /// Something else answers there.
    #[error("what answers is no Prometheus ({status}); look at the source's url")]
    Foreign {
        /// The status.
        status: StatusCode,
    },
    /// An empty vector.
    #[error(
        "the query returns nothing; look at its metric and labels, or add `or vector(0)` if nothing means 0"
    )]
    Nothing,
    /// More than one series.
    #[error("the query returns {0} series; aggregate it to one, for instance with sum(…)")]
    Many(usize),
    /// A range, or a string.
    #[error("the query returns a {0}; it has to return an instant vector or a scalar")]
    Kind(String),
    /// NaN or infinite: mostly 0 requests divided by 0.
    #[error("the query returns {0}; often that is a division by 0 because nobody was there")]
    NotFinite(String),
}

/// The one value in an answer.
///
/// # Errors
/// [`NoValue`] if there is none.
pub fn parse(status: StatusCode, body: &[u8]) -> Result<f64, NoValue> {
    let foreign = || NoValue::Foreign { status };
    let answer: Answer = serde_json::from_slice(body).map_err(|_| foreign())?;
    if answer.status != "success" {
        let error: String = answer.error.unwrap_or_default().chars().take(300).collect();
        return Err(NoValue::Refused { status, error });
    }
    let data = answer.data.ok_or_else(foreign)?;
    let (_, text) = match data.result_type.as_str() {
        "vector" => {
            let serde_json::Value::Array(mut series) = data.result else { return Err(foreign()) };
            match (series.len(), series.pop()) {
                (1, Some(one)) => serde_json::from_value::<Series>(one).map_err(|_| foreign())?.value,
                (0, _) => return Err(NoValue::Nothing),
                (many, _) => return Err(NoValue::Many(many)),
            }
        }
        "scalar" => serde_json::from_value::<(f64, String)>(data.result).map_err(|_| foreign())?,
        other => return Err(NoValue::Kind(other.chars().take(20).collect())),
    };
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(value) => Err(NoValue::NotFinite(value.to_string())),
        Err(_) => Err(foreign()),
    }
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Series {
    value: (f64, String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_finite_sample_is_a_value() {
        #[track_caller]
        fn check(status: u16, body: &str, expected: Result<f64, &str>) {
            let found = parse(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => {
                    assert!(found.to_string().contains(expected), "{found}");
                }
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        }
        let vector = |samples: &str| {
            format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{samples}]}}}}"#)
        };
        let sample = |value: &str| format!(r#"{{"metric":{{"a":"b"}},"value":[1435781451.781,"{value}"]}}"#);
        check(200, &vector(&sample("0.5")), Ok(0.5));
        check(200, &vector(&sample("1e-3")), Ok(0.001));
        check(200, r#"{"status":"success","data":{"resultType":"scalar","result":[1,"3"]}}"#, Ok(3.0));
        check(200, &vector(""), Err("returns nothing; look at its metric and labels"));
        check(
            200,
            &vector(&format!("{},{}", sample("1"), sample("2"))),
            Err("2 series; aggregate it to one"),
        );
        check(200, &vector(&sample("NaN")), Err("NaN; often that is a division by 0"));
        check(200, &vector(&sample("+Inf")), Err("inf"));
        check(200, &vector(r#"{"metric":{}}"#), Err("no Prometheus"));
        check(
            200,
            r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#,
            Err("a matrix; it has"),
        );
        check(200, r#"{"status":"success"}"#, Err("no Prometheus"));
        let wrong = r#"{"status":"error","errorType":"bad_data","error":"parse error: unexpected end"}"#;
        check(400, wrong, Err("400 Bad Request: parse error: unexpected end"));
        check(502, "<html>", Err("no Prometheus (502 Bad Gateway)"));
        check(200, "", Err("no Prometheus"));
    }
}
