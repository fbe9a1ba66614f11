//! What a run is told of the limits of the subscription that it uses.

use agent_domain::{LimitWindow, RunSummary, Timestamp};

use crate::event::Object;

/// So many windows of a subscription are remembered; the CLI knows of six.
const WINDOWS_MAX: usize = 8;
/// Longest name of a window, in bytes.
const KIND_MAX: usize = 40;

/// Takes in a `rate_limit_event`. Of each window it keeps what was told last.
pub(crate) fn rate_limit(summary: &mut RunSummary, event: &Object<'_>) {
    let Some(info) = event.object("rate_limit_info") else {
        return;
    };
    let kind = info.text("rateLimitType").filter(|kind| is_kind(kind));
    let status = info.text("status");
    let is_rejected = status.as_deref() == Some("rejected");
    match status.as_deref() {
        Some("rejected") => {
            summary.limit_resets_at = info.integer("resetsAt");
            summary.limit_kind.clone_from(&kind);
        }
        Some("allowed" | "allowed_warning") => {
            summary.limit_resets_at = None;
            summary.limit_kind = None;
        }
        _ => {}
    }
    let all = info.named_objects("unifiedWindows").unwrap_or_default();
    let all = all.into_iter().filter(|(kind, _)| is_kind(kind));
    for (kind, told) in all {
        keep(summary, window(kind, &told, None));
    }
    if let Some(kind) = kind {
        // Of one that is used up the CLI does not say how much of it is used.
        keep(summary, window(kind, &info, is_rejected.then_some(1.0)));
    }
}

/// A word of the API's.
fn is_kind(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=KIND_MAX).contains(&text.len()) && text.bytes().all(word)
}

fn window(kind: String, told: &Object<'_>, otherwise: Option<f64>) -> Option<LimitWindow> {
    let used = told.number("utilization").or(otherwise)?;
    Some(LimitWindow {
        kind,
        // More than all is used where requests that had begun were let through.
        used: Some(used).filter(|used| *used >= 0.0)?.min(1.0),
        resets_at: Timestamp::from_second(told.integer("resetsAt")?).ok()?,
    })
}

fn keep(summary: &mut RunSummary, told: Option<LimitWindow>) {
    let Some(told) = told else {
        return;
    };
    let known = &mut summary.windows;
    if let Some(known) = known.iter_mut().find(|known| known.kind == told.kind) {
        *known = told;
    } else if known.len() < WINDOWS_MAX {
        known.push(told);
    }
}

/// The written form: name, what is used, and when it begins anew in seconds since 1970.
pub(crate) mod form {
    use agent_domain::{LimitWindow, Timestamp};
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        windows: &[LimitWindow],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let form = |one: &LimitWindow| (one.kind.clone(), one.used, one.resets_at.as_second());
        serializer.collect_seq(windows.iter().map(form))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<LimitWindow>, D::Error> {
        let windows = Vec::<(String, f64, i64)>::deserialize(deserializer)?;
        let read = |(kind, used, resets_at)| {
            let resets_at = Timestamp::from_second(resets_at).ok()?;
            Some(LimitWindow {
                kind,
                used,
                resets_at,
            })
        };
        Ok(windows.into_iter().filter_map(read).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(infos: &[&str]) -> RunSummary {
        let mut summary = RunSummary::default();
        for info in infos {
            let event = format!(r#"{{"rate_limit_info":{info},"type":"rate_limit_event"}}"#);
            rate_limit(&mut summary, &Object::parse(&event).unwrap());
        }
        summary
            .windows
            .sort_by(|one, other| one.kind.cmp(&other.kind));
        summary
    }

    fn brief(summary: &RunSummary) -> Vec<(&str, f64, i64)> {
        let brief = |one: &'_ LimitWindow| (one.used, one.resets_at.as_second());
        let named = summary
            .windows
            .iter()
            .map(|one| (one.kind.as_str(), brief(one)));
        named.map(|(kind, (used, at))| (kind, used, at)).collect()
    }

    #[test]
    fn a_warning_tells_of_its_window_and_a_list_of_each() {
        let warning = r#"{"status":"allowed_warning","resetsAt":1999999998,"rateLimitType":"seven_day","utilization":0.81,"isUsingOverage":false,"surpassedThreshold":0.75}"#;
        let all = r#"{"status":"allowed","resetsAt":9,"rateLimitType":"five_hour","unifiedWindows":{
            "seven_day":{"utilization":0.82,"resetsAt":1999999998,"status":"allowed"},
            "five_hour":{"resetsAt":1999999999,"utilization":0.25,"surpassedThreshold":null}}}"#;
        let first = told(&[warning]);
        assert_eq!(brief(&first), [("seven_day", 0.81, 1_999_999_998)]);
        assert_eq!((first.limit_kind, first.limit_resets_at), (None, None));
        let both = told(&[warning, all]);
        let expected = [
            ("five_hour", 0.25, 1_999_999_999),
            ("seven_day", 0.82, 1_999_999_998),
        ];
        assert_eq!(brief(&both), expected, "last told wins");
        assert_eq!(brief(&told(&[all, warning]))[1].1.to_string(), "0.81");
    }

    #[test]
    fn a_limit_that_is_reached_has_a_name_until_requests_are_allowed_again() {
        let rejected = r#"{"status":"rejected","resetsAt":1999999999,"rateLimitType":"five_hour","isUsingOverage":false}"#;
        let reached = told(&[rejected]);
        assert_eq!(reached.limit_kind.as_deref(), Some("five_hour"));
        assert_eq!(reached.limit_resets_at, Some(1_999_999_999));
        assert_eq!(brief(&reached), [("five_hour", 1.0, 1_999_999_999)]);
        let again = told(&[rejected, r#"{"status":"allowed"}"#]);
        assert_eq!((again.limit_kind, again.limit_resets_at), (None, None));
        let unnamed = told(&[rejected, r#"{"status":"rejected","resetsAt":5}"#]);
        assert_eq!(
            (unnamed.limit_kind, unnamed.limit_resets_at),
            (None, Some(5))
        );
    }

    #[test]
    fn figures_are_between_none_and_all() {
        let used = |figure: &str| {
            let info =
                format!(r#"{{"rateLimitType":"overage","resetsAt":5,"utilization":{figure}}}"#);
            told(&[&info]).windows.first().map(|one| one.used)
        };
        assert_eq!(used("0"), Some(0.0));
        assert_eq!(used("1.04"), Some(1.0));
        for odd in ["-0.1", "null", "\"0.5\"", "{}"] {
            assert_eq!(used(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_is_odd_or_too_much_is_left_out() {
        for odd in [
            "[]",
            "{}",
            r#"{"status":7,"rateLimitType":[]}"#,
            r#"{"rateLimitType":"five_hour","utilization":0.5}"#,
            r#"{"rateLimitType":"five_hour","utilization":0.5,"resetsAt":1e300}"#,
            r#"{"rateLimitType":"Five Hours","utilization":0.5,"resetsAt":5}"#,
            r#"{"unifiedWindows":[1]}"#,
            r#"{"unifiedWindows":{"five_hour":1,"":{"utilization":0.5,"resetsAt":5}}}"#,
        ] {
            let event = format!(r#"{{"rate_limit_info":{odd}}}"#);
            let mut summary = RunSummary::default();
            rate_limit(&mut summary, &Object::parse(&event).unwrap());
            assert_eq!(summary, RunSummary::default(), "{odd}");
        }
        let one = |n: usize| format!(r#""w{n}":{{"utilization":0.5,"resetsAt":5}}"#);
        let many: Vec<_> = (0..50).map(one).collect();
        let many = format!(r#"{{"unifiedWindows":{{{}}}}}"#, many.join(","));
        assert_eq!(told(&[&many]).windows.len(), WINDOWS_MAX);
    }
}
