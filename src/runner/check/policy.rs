//! Whether somebody's rules speak against the launch.
//!
//! A command gets the launch as JSON on its standard input, a URL gets it as `{"input": …}`, which is the data API of Open Policy Agent. Both
//! may answer in any form that such tools have: a list of reasons, `{"deny": […]}`, `{"allow": …}`, Conftest's results, or true and false.
//! Only what is understood to be a yes is one; nothing, where rules should have answered, is a no.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::launch::{Launch, Outcome, Verdict};
use crate::outbound::{Address, Outbound, causes};

const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// How many reasons are shown.
const REASONS_MAX: usize = 20;

/// What rules that forbid are called: `true` for one of them is a no.
const FORBIDS: [&str; 5] = ["deny", "denied", "violation", "violations", "failures"];

/// What a command is told.
pub(super) fn input(launch: &Launch) -> Result<Vec<u8>, String> {
    serde_json::to_vec(launch).map_err(|error| format!("write the launch as JSON: {error}"))
}

/// What a command's end and output mean.
pub(super) fn ran(outcome: Outcome) -> Outcome {
    let understood = json_in(&outcome.said).map(|value| objections(&value, false));
    let answer = match (outcome.verdict, understood) {
        (Verdict::TimedOut, _) => return outcome,
        (Verdict::Passed, None) if outcome.said.trim().is_empty() => {
            Ok("nothing speaks against it".to_owned())
        }
        (Verdict::Passed, Some(Ok(reasons))) => verdict(reasons),
        (Verdict::Passed, None | Some(Err(_))) => Err(format!(
            "the policy ended well, but what it said is no answer: print nothing, [] or {{\"deny\": […]}}; it said:\n{}",
            outcome.said
        )),
        (Verdict::Failed, Some(Ok(reasons))) if !reasons.is_empty() => verdict(reasons),
        (Verdict::Failed, _) => return outcome,
    };
    let (verdict, said) = match answer {
        Ok(said) => (Verdict::Passed, said),
        Err(said) => (Verdict::Failed, said),
    };
    Outcome { verdict, said, ..outcome }
}

/// Asks a URL.
pub(super) async fn ask(url: &str, launch: &Launch) -> Result<String, String> {
    let address = Address::parse(url).map_err(|error| causes(&error))?;
    let body = serde_json::to_vec(&json!({ "input": launch }));
    let body = body.map_err(|error| format!("write the launch as JSON: {error}"))?;
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(CONTENT_TYPE, json.clone());
    request.headers_mut().insert(ACCEPT, json);
    let answer = Outbound::new().exchange(&address, request, ANSWER_BYTES_MAX).await;
    let answer = answer.map_err(|error| causes(&error))?;
    let rule = address.uri.path().rsplit('/').next().unwrap_or_default();
    let forbids = FORBIDS.contains(&rule);
    answered(answer.status(), answer.body(), forbids).map_err(|why| format!("{}: {why}", address.host))
}

fn answered(status: StatusCode, body: &[u8], forbids: bool) -> Result<String, String> {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    if status != StatusCode::OK {
        let message = value.as_ref().and_then(|value| value.get("message")).and_then(Value::as_str);
        let message = message.map(|message| format!(": {message}")).unwrap_or_default();
        return Err(format!("the policy's server answered {status}{message}"));
    }
    let Some(Value::Object(answer)) = value else {
        return Err("what answers is no policy server: its answer is no JSON object".to_owned());
    };
    match answer.get("result") {
        Some(result) => verdict(objections(result, forbids)?),
        None => Err("the policy is undefined, so nothing allows the launch: look at the URL's path, and give the rule a default".to_owned()),
    }
}

fn verdict(mut reasons: Vec<String>) -> Result<String, String> {
    if reasons.is_empty() {
        return Ok("nothing speaks against it".to_owned());
    }
    let more = reasons.len().saturating_sub(REASONS_MAX);
    reasons.truncate(REASONS_MAX);
    if more > 0 {
        reasons.push(format!("… and {more} more"));
    }
    Err(format!("denied: {}", reasons.join("\ndenied: ")))
}

/// What speaks against it. `forbids`: whether `true` does.
///
/// # Errors
/// That it is no answer.
fn objections(answer: &Value, forbids: bool) -> Result<Vec<String>, String> {
    match answer {
        Value::Bool(word) if *word == forbids => Ok(vec![format!("the policy says {word}")]),
        Value::Bool(_) => Ok(Vec::new()),
        Value::Array(items) => Ok(items.iter().flat_map(reasons).collect()),
        Value::Object(members) => {
            let allow = members.get("allow").or_else(|| members.get("allowed"));
            let denies: Vec<_> = FORBIDS.iter().filter_map(|name| members.get(*name)).collect();
            let mut found = Vec::new();
            for deny in &denies {
                match deny {
                    // A rule of the form deny[reason].
                    Value::Object(reasons) => found.extend(reasons.keys().cloned()),
                    Value::Bool(_) | Value::Array(_) => found.extend(objections(deny, true)?),
                    Value::String(reason) => found.push(reason.clone()),
                    Value::Null | Value::Number(_) => return Err(unknown(answer)),
                }
            }
            match allow {
                Some(Value::Bool(true)) => Ok(found),
                Some(Value::Bool(false)) if !found.is_empty() => Ok(found),
                Some(Value::Bool(false)) => Ok(vec!["the policy does not allow it".to_owned()]),
                None if !denies.is_empty() => Ok(found),
                Some(_) | None => Err(unknown(answer)),
            }
        }
        Value::Null | Value::Number(_) | Value::String(_) => Err(unknown(answer)),
    }
}

/// The reasons in an item of a list: a text, an object with a text in it, or a file's results as of Conftest. What is none of these is shown as
/// it is, for a list of reasons has only reasons in it.
fn reasons(item: &Value) -> Vec<String> {
    let text = |item: &Value| {
        let named = ["msg", "message", "reason"].into_iter().find_map(|name| item.get(name));
        match named.unwrap_or(item) {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    };
    let is_result = item.get("failures").is_some() || item.get("successes").is_some();
    match item.get("failures") {
        Some(Value::Array(failures)) => failures.iter().map(text).collect(),
        None | Some(Value::Null) if is_result => Vec::new(),
        _ => vec![text(item)],
    }
}

fn unknown(answer: &Value) -> String {
    let shown: String = answer.to_string().chars().take(200).collect();
    format!("the policy's answer is neither a yes nor a no: {shown}")
}

/// The JSON value that a text is, or that it ends with, after lines of something else. `None` if anything comes after the first one: it may say no.
fn json_in(said: &str) -> Option<Value> {
    let starts = said.char_indices().filter(|(at, _)| *at == 0 || said.as_bytes()[at - 1] == b'\n');
    starts.filter(|(_, char)| matches!(char, '[' | '{' | 't' | 'f')).find_map(|(at, _)| {
        let mut values = serde_json::Deserializer::from_str(&said[at..]).into_iter::<Value>();
        let first = values.next()?.ok()?;
        Some(values.next().is_none().then_some(first))
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_yes_only_when_it_is_understood_as_one() {
        #[track_caller]
        fn check(forbids: bool, result: &str, expected: Result<(), &str>) {
            let body = format!("{{\"result\": {result}}}");
            match (answered(StatusCode::OK, body.as_bytes(), forbids), expected) {
                (Ok(said), Ok(())) => assert_eq!(said, "nothing speaks against it"),
                (Err(said), Err(expected)) => assert!(said.contains(expected), "{said}"),
                (said, expected) => panic!("{said:?}, not {expected:?}"),
            }
        }
        check(false, "true", Ok(()));
        check(false, "false", Err("denied: the policy says false"));
        check(true, "false", Ok(()));
        check(true, "true", Err("denied: the policy says true"));
        check(true, "[]", Ok(()));
        check(false, "[]", Ok(()));
        check(false, r#"["no window", "no tests"]"#, Err("denied: no window\ndenied: no tests"));
        check(false, r#"[{"msg": "no"}]"#, Err("denied: no"));
        check(false, "[7]", Err("denied: 7"));
        check(false, r#"{"deny": []}"#, Ok(()));
        check(false, r#"{"deny": ["x"], "allow": true}"#, Err("denied: x"));
        check(false, r#"{"deny": {"x": true}}"#, Err("denied: x"));
        check(false, r#"{"deny": true}"#, Err("denied: the policy says true"));
        check(false, r#"{"deny": false}"#, Ok(()));
        check(false, r#"{"deny": null}"#, Err("neither a yes nor a no"));
        check(false, r#"{"violation": [{"msg": "v"}], "deny": []}"#, Err("denied: v"));
        check(false, r#"{"allow": true}"#, Ok(()));
        check(false, r#"{"allow": false}"#, Err("denied: the policy does not allow it"));
        check(false, r#"{"allow": "yes"}"#, Err("neither a yes nor a no"));
        check(false, "{}", Err("neither a yes nor a no"));
        check(false, "null", Err("neither a yes nor a no"));
        check(false, "\"ok\"", Err("neither a yes nor a no"));
        check(false, &format!("{:?}", vec!["r"; 50]), Err("… and 30 more"));
    }

    #[test]
    fn what_is_no_policy_server_is_no_yes() {
        let check = |status: u16, body: &str, expected: &str| {
            let said = answered(StatusCode::from_u16(status).unwrap(), body.as_bytes(), false).unwrap_err();
            assert!(said.contains(expected), "{said}");
        };
        check(200, "{}", "the policy is undefined");
        check(200, "[]", "is no policy server");
        check(200, "<html>", "is no policy server");
        check(404, "", "answered 404");
        check(
            500,
            r#"{"code": "internal_error", "message": "eval_conflict"}"#,
            "500 Internal Server Error: eval_conflict",
        );
    }

    #[test]
    fn commands_may_say_it_in_every_form() {
        use Verdict::{Failed, Passed, TimedOut};
        #[track_caller]
        fn check(verdict: Verdict, said: &str, expected: (Verdict, &str)) {
            let found = ran(Outcome { verdict, said: said.to_owned(), took_ms: 7 });
            assert_eq!(found.verdict, expected.0, "{}", found.said);
            assert!(found.said.contains(expected.1), "{}", found.said);
        }
        let fine = "nothing speaks against it";
        check(Passed, "", (Passed, fine));
        check(Passed, " \n", (Passed, fine));
        check(Passed, "[]", (Passed, fine));
        check(Passed, "{\n  \"deny\": []\n}", (Passed, fine));
        check(Passed, "loading rules\n{\"deny\": []}", (Passed, fine));
        check(Passed, "true", (Passed, fine));
        check(Passed, "false", (Failed, "denied: the policy says false"));
        check(Passed, "{\"deny\": [\"x\"]}", (Failed, "denied: x"));
        check(Passed, "looks good", (Failed, "no answer: print nothing"));
        check(Passed, "{\"deny\": [", (Failed, "no answer: print nothing"));
        check(Passed, "7", (Failed, "no answer"));
        check(Failed, "exit code 2\ncannot read rules", (Failed, "cannot read rules"));
        check(Failed, "[]", (Failed, "[]"));
        check(TimedOut, "[]", (TimedOut, "[]"));
        let conftest = "exit code 1\n[\n\t{\n\t\t\"filename\": \"\",\n\t\t\"namespace\": \"main\",\n\t\t\"successes\": 1,\n\t\t\"failures\": [\n\t\t\t{\"msg\": \"no observation\"}\n\t\t]\n\t}\n]";
        check(Failed, conftest, (Failed, "denied: no observation"));
        let fine_too =
            r#"[{"filename": "", "namespace": "main", "successes": 3, "warnings": [{"msg": "w"}]}]"#;
        check(Passed, fine_too, (Passed, fine));
        check(
            Passed,
            r#"[{"filename": "", "successes": 0, "failures": [{"msg": "no"}]}]"#,
            (Failed, "denied: no"),
        );
    }
}
