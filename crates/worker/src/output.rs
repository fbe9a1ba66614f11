//! The agent's answer as JSON, where a job has asked for it in a certain form.

use agent_domain::{Ending, JsonText, Reason, RunSummary, limits};
use serde_json::Value;

/// Longest account of what is wrong with an answer, in characters.
const PROBLEM_CHARS: usize = 500;

/// Takes the answer out of a run that has ended well, or says how the attempt ends without one.
///
/// The CLI reports success also where the model never gave an answer of the form, so it is looked
/// at here, whatever the result says.
pub(crate) fn take(schema: &JsonText, summary: &RunSummary) -> Result<JsonText, Ending> {
    let result = summary.result.as_ref();
    let given = result.and_then(|result| result.structured_output.as_deref());
    checked(schema, given).map_err(|problem| Ending::Failed {
        reason: Reason::OutputSchema,
        error: problem.chars().take(PROBLEM_CHARS).collect(),
    })
}

fn checked(schema: &JsonText, given: Option<&str>) -> Result<JsonText, String> {
    let Some(given) = given else {
        return Err("the agent gave no answer of the form that was asked for".to_owned());
    };
    if given.len() > limits::OUTPUT_BYTES {
        let most = limits::OUTPUT_BYTES;
        return Err(format!("the agent's answer has more than {most} bytes"));
    }
    let read = |json: &str| serde_json::from_str::<Value>(json).map_err(|error| error.to_string());
    let answer = read(given).map_err(|error| format!("the agent's answer is no JSON: {error}"))?;
    // It was checked when the job was taken in; nothing is fetched for it.
    let validator = jsonschema::validator_for(&read(schema.as_str())?)
        .map_err(|error| format!("the schema cannot be used: {error}"))?;
    match validator.validate(&answer) {
        Ok(()) => Ok(JsonText::new(given)),
        Err(error) => {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "/" } else { &place };
            Err(format!(
                "the agent's answer has not the form that was asked for: at {place}: {error}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_domain::ResultSummary;

    use super::*;

    const SCHEMA: &str = r#"{
        "type": "object", "required": ["title"], "additionalProperties": false,
        "properties": {"title": {"type": "string", "maxLength": 5}}
    }"#;

    fn taken(given: Option<&str>) -> Result<String, String> {
        let result = ResultSummary {
            structured_output: given.map(str::to_owned),
            ..ResultSummary::default()
        };
        let summary = RunSummary {
            result: Some(result),
            ..RunSummary::default()
        };
        match take(&JsonText::new(SCHEMA), &summary) {
            Ok(output) => Ok(output.to_string()),
            Err(Ending::Failed { reason, error }) => {
                assert_eq!(reason, Reason::OutputSchema);
                Err(error)
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_of_the_form_is_taken_as_it_is() {
        let answer = r#"{ "title" : "short" }"#;
        assert_eq!(taken(Some(answer)).as_deref(), Ok(answer));
    }

    #[test]
    fn an_answer_that_is_missing_or_of_another_form_is_a_failure() {
        let long = format!(r#"{{"title":"{}"}}"#, "x".repeat(limits::OUTPUT_BYTES));
        for (given, told) in [
            (None, "gave no answer"),
            (Some("{}"), "at /: "),
            (Some("null"), "at /: "),
            (Some(r#"{"title":7}"#), "at /title: "),
            (Some(r#"{"title":"too long"}"#), "at /title: "),
            (Some(r#"{"title":"a","more":1}"#), "at /: "),
            (Some(r#"{"title":"#), "is no JSON"),
            (Some(&*long), "has more than"),
        ] {
            let error = taken(given).unwrap_err();
            assert!(error.contains(told), "{given:?}: {error}");
            assert!(error.chars().count() <= PROBLEM_CHARS);
        }
        let summary = RunSummary::default();
        assert!(take(&JsonText::new(SCHEMA), &summary).is_err());
    }

    #[test]
    fn a_schema_that_refers_to_itself_without_end_brings_nobody_down() {
        for schema in [
            r##"{"$ref":"#"}"##,
            r##"{"allOf":[{"$ref":"#"}]}"##,
            r##"{"anyOf":[{"$ref":"#"},{"$ref":"#"}]}"##,
            r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##,
            r##"{"not":{"$ref":"#"}}"##,
            r##"{"if":{"$ref":"#"},"then":false}"##,
            r##"{"$dynamicRef":"#a","$dynamicAnchor":"a"}"##,
            r##"{"patternProperties":{"^(a+)+$":{"$ref":"#"}}}"##,
        ] {
            // Whatever comes of it, it comes to an end.
            let answer = format!(r#"{{"{}!":{{}}}}"#, "a".repeat(40));
            checked(&JsonText::new(schema), Some(&answer)).ok();
        }
    }
}
