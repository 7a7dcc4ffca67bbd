//! Whether feature flags have a value, asked by the OpenFeature Remote Evaluation Protocol (OFREP 0.3, `POST /ofrep/v1/evaluate/flags/KEY`).
//!
//! Every flag is asked, so that one answer names all that are wrong. A provider that leaves the value to the application's default says nothing
//! that could be relied on: that is a no.

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::outbound::{Address, HttpError, Outbound, authorize, causes, percent_encoded};

const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// How much of a value or of the provider's words is shown, in characters.
const SHOWN_MAX: usize = 200;

/// What is asked, with every variable filled in.
pub(super) struct Question {
    pub(super) provider: String,
    pub(super) flags: Vec<String>,
    pub(super) expect: Value,
    pub(super) context: Map<String, Value>,
    pub(super) token: Option<String>,
}

/// A flag's evaluation, or why there is none.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Evaluation {
    value: Option<Value>,
    variant: Option<String>,
    reason: Option<String>,
    error_code: Option<String>,
    error_details: Option<String>,
}

pub(super) async fn ask(question: Question) -> Result<String, String> {
    let outbound = Outbound::new();
    let answers = question.flags.iter().map(async |flag| {
        let answer = evaluate(&outbound, &question, flag).await.map_err(|error| causes(&error));
        answer.and_then(|answer| judged(flag, &question.expect, &answer))
    });
    let answers = join_all(answers).await;
    if answers.iter().all(Result::is_ok) {
        return Ok(answers.into_iter().flatten().collect::<Vec<_>>().join("\n"));
    }
    let wrong = answers.into_iter().filter_map(Result::err);
    // Nobody there is the same for each of them.
    let mut wrong: Vec<_> = wrong.collect();
    wrong.dedup();
    Err(wrong.join("\n"))
}

async fn evaluate(
    outbound: &Outbound,
    question: &Question,
    flag: &str,
) -> Result<Response<Bytes>, HttpError> {
    let provider = question.provider.trim_end_matches('/');
    let address = Address::parse(&format!("{provider}/ofrep/v1/evaluate/flags/{}", percent_encoded(flag)))?;
    let body = json!({ "context": question.context }).to_string();
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(CONTENT_TYPE, json.clone());
    request.headers_mut().insert(ACCEPT, json);
    if let Some(token) = &question.token {
        authorize(&mut request, token)?;
    }
    outbound.exchange(&address, request, ANSWER_BYTES_MAX).await
}

fn judged(flag: &str, expect: &Value, answer: &Response<Bytes>) -> Result<String, String> {
    let said: Option<Evaluation> = serde_json::from_slice(answer.body()).ok();
    let is_understood = said.is_some();
    let said = said.unwrap_or_default();
    let details = said.error_details.as_deref().map(shortened).filter(|details| !details.is_empty());
    let details = details.map(|details| format!(": {details}")).unwrap_or_default();
    let code = said.error_code.as_deref().map(shortened);
    Err(match (answer.status(), code.as_deref()) {
        (StatusCode::OK, None) if is_understood => return has(flag, expect, &said),
        (StatusCode::NOT_FOUND, Some("FLAG_NOT_FOUND")) | (StatusCode::OK, Some("FLAG_NOT_FOUND")) => {
            format!("{flag}: the provider does not know this flag{details}")
        }
        (StatusCode::NOT_FOUND, _) => format!(
            "{flag}: what answers has no evaluation endpoint (404); the provider's address is what comes before /ofrep/v1"
        ),
        (_, Some("TARGETING_KEY_MISSING" | "INVALID_CONTEXT")) => {
            format!("{flag}: the provider needs another `context`{details}")
        }
        (StatusCode::UNAUTHORIZED, _) => {
            format!("{flag}: the provider does not know who asks (401); look at `token`")
        }
        (StatusCode::FORBIDDEN, _) => {
            format!("{flag}: the provider does not let us (403); look at what the `token` may do")
        }
        (StatusCode::TOO_MANY_REQUESTS, _) => {
            let after = answer.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok());
            let after = after.map(|after| format!("; it says to ask again after {}", waiting(after)));
            format!("{flag}: the provider was asked too often (429){}", after.unwrap_or_default())
        }
        (_, Some(code)) => format!("{flag}: the provider cannot evaluate it: {code}{details}"),
        (StatusCode::OK, None) => {
            format!("{flag}: the provider's answer is no evaluation; does it speak OFREP?")
        }
        (status, None) => format!("{flag}: the provider answered {status}{details}"),
    })
}

fn has(flag: &str, expect: &Value, said: &Evaluation) -> Result<String, String> {
    let why: Vec<_> = [said.variant.as_deref().map(|variant| format!("variant {}", shortened(variant)))]
        .into_iter()
        .chain([said.reason.as_deref().map(shortened)])
        .flatten()
        .collect();
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
    match &said.value {
        None | Some(Value::Null) => Err(format!(
            "{flag}: the provider gives no value{why}: the application would use its own default; give the flag a value"
        )),
        Some(value) if agrees(expect, value) => Ok(format!("{flag} is {}{why}", shown(value))),
        Some(value) => Err(format!("{flag} is {}{why}, expected is {}", shown(value), shown(expect))),
    }
}

/// `on` and `off` are `true` and `false`, unless the flag itself is such a word. Numbers are compared as numbers.
fn agrees(expect: &Value, value: &Value) -> bool {
    match (expect, value) {
        (Value::String(word), Value::Bool(value)) => match word.as_str() {
            "on" => *value,
            "off" => !*value,
            _ => false,
        },
        (Value::Number(expect), Value::Number(value)) => expect == value || expect.as_f64() == value.as_f64(),
        _ => expect == value,
    }
}

fn waiting(after: &str) -> String {
    match after.trim().parse::<u64>() {
        Ok(seconds) => format!("{seconds} s"),
        Err(_) => shortened(after),
    }
}

fn shown(value: &Value) -> String {
    shortened(&value.to_string())
}

fn shortened(text: &str) -> String {
    let mut chars = text.chars();
    let mut shortened: String = chars.by_ref().take(SHOWN_MAX).collect();
    if chars.next().is_some() {
        shortened.push('…');
    }
    shortened
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_of_a_provider_is_a_yes_or_a_sentence() {
        #[track_caller]
        fn check(expect: Value, status: u16, body: &str, expected: Result<&str, &str>) {
            let answer = Response::builder().status(status).header("retry-after", "30");
            let answer = answer.body(Bytes::from(body.to_owned())).unwrap();
            match (judged("f", &expect, &answer), expected) {
                (Ok(said), Ok(expected)) => assert_eq!(said, expected),
                (Err(said), Err(expected)) => assert!(said.contains(expected), "{said}"),
                (said, expected) => panic!("{said:?}, not {expected:?}"),
            }
        }
        let on = r#"{"key":"f","value":true,"variant":"on","reason":"TARGETING_MATCH","metadata":{}}"#;
        check(json!(true), 200, on, Ok("f is true (variant on, TARGETING_MATCH)"));
        check(json!("on"), 200, on, Ok("f is true (variant on, TARGETING_MATCH)"));
        check(json!("off"), 200, on, Err("f is true (variant on, TARGETING_MATCH), expected is \"off\""));
        check(json!("off"), 200, r#"{"value":false}"#, Ok("f is false"));
        check(json!("on"), 200, r#"{"value":"on"}"#, Ok("f is \"on\""));
        check(json!("true"), 200, on, Err("expected is \"true\""));
        check(json!(1), 200, r#"{"value":1.0}"#, Ok("f is 1.0"));
        check(json!(1), 200, r#"{"value":"1"}"#, Err("f is \"1\", expected is 1"));
        check(json!({"a": [1]}), 200, r#"{"value":{"a":[1]}}"#, Ok("f is {\"a\":[1]}"));
        check(json!(false), 200, r#"{"key":"f","reason":"DISABLED"}"#, Err("gives no value (DISABLED)"));
        check(json!(false), 200, r#"{"value":null}"#, Err("gives no value"));
        check(json!(true), 200, "true", Err("does it speak OFREP?"));
        check(json!(true), 200, "<html>", Err("does it speak OFREP?"));
        let missing = r#"{"key":"f","errorCode":"FLAG_NOT_FOUND","errorDetails":"no f"}"#;
        check(json!(true), 404, missing, Err("does not know this flag: no f"));
        check(json!(true), 404, "404 page not found", Err("no evaluation endpoint (404)"));
        let key = r#"{"key":"f","errorCode":"TARGETING_KEY_MISSING"}"#;
        check(json!(true), 400, key, Err("needs another `context`"));
        let parse = r#"{"key":"f","errorCode":"PARSE_ERROR","errorDetails":"x"}"#;
        check(json!(true), 400, parse, Err("cannot evaluate it: PARSE_ERROR: x"));
        check(json!(true), 401, "", Err("does not know who asks (401)"));
        check(json!(true), 403, "", Err("does not let us (403)"));
        check(json!(true), 429, "", Err("asked too often (429); it says to ask again after 30 s"));
        check(json!(true), 500, r#"{"errorDetails":"oh"}"#, Err("answered 500 Internal Server Error: oh"));
        check(json!(true), 302, "", Err("answered 302 Found"));
        let long = format!(r#"{{"value":"{}"}}"#, "x".repeat(10_000));
        check(json!("y"), 200, &long, Err("x…, expected is"));
    }
}
