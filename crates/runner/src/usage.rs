//! What a run uses, read from its transcript.

use std::collections::HashMap;

use agent_domain::{RunUsage, Share, Tokens, Usage, Usd};

use crate::event::Object;
use crate::mask::Masker;

/// The model that the CLI names where it speaks in the model's place.
const SYNTHETIC: &str = "<synthetic>";
/// In place of a model that is not named.
const UNNAMED: &str = "unknown";

/// Adds up what a run uses.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    usage: RunUsage,
    has_result: bool,
    /// Since the last result, by the id of the message: each of its parts tells of all of it so far.
    messages: HashMap<String, (String, Tokens)>,
}

impl Meter {
    /// Takes in an init event.
    pub(crate) fn init(&mut self, event: &Object<'_>) {
        if let Some(source) = event.text("apiKeySource") {
            self.usage.subscription = source == "none";
        }
    }

    /// Takes in a message, of the agent or of a subagent.
    pub(crate) fn message(&mut self, event: &Object<'_>, masker: &Masker) {
        let Some(message) = event.object("message") else {
            return;
        };
        let (Some(id), Some(model)) = (message.text("id"), message.text("model")) else {
            return;
        };
        if let Some(usage) = message.object("usage").filter(|_| model != SYNTHETIC) {
            let kinds = [
                "input_tokens",
                "output_tokens",
                "cache_read_input_tokens",
                "cache_creation_input_tokens",
            ];
            let model = masker.text(&model).into_owned();
            self.messages.insert(id, (model, tokens(&usage, kinds)));
        }
    }

    /// Takes in a result of a run of `model`. One without figures accounts for nothing.
    pub(crate) fn result(&mut self, event: &Object<'_>, model: &str, masker: &Masker) {
        let model = if model.is_empty() { UNNAMED } else { model };
        let total = event.number("total_cost_usd").and_then(Usd::from_dollars);
        let by_model = by_model(event, "modelUsage", masker);
        if total.is_none() && by_model.is_none() {
            return;
        }
        let by_model = by_model.unwrap_or_default();
        self.usage.total = Some(match total {
            Some(total) => by_model.with_total(total, model),
            None => by_model,
        });
        let since = self::by_model(event, "model_usage_since_last_result", masker);
        self.usage.own = match (self.usage.own.take(), since) {
            (None, since) if !self.has_result => since,
            (own, since) => own.zip(since).map(|(own, since)| own.plus(since)),
        };
        self.has_result = true;
        self.messages.clear();
    }

    /// What the results so far say that the run has cost.
    pub(crate) fn cost(&self) -> Option<Usd> {
        self.usage.told()
    }

    /// What the run has used.
    pub(crate) fn into_usage(self) -> RunUsage {
        let mut usage = self.usage;
        for (model, tokens) in self.messages.into_values() {
            let cost = None;
            usage.messages.add(&model, Share { tokens, cost });
        }
        usage
    }
}

fn by_model(event: &Object<'_>, key: &str, masker: &Masker) -> Option<Usage> {
    const KINDS: [&str; 4] = [
        "inputTokens",
        "outputTokens",
        "cacheReadInputTokens",
        "cacheCreationInputTokens",
    ];
    let mut usage = Usage::default();
    for (model, told) in event.named_objects(key)? {
        let share = Share {
            tokens: tokens(&told, KINDS),
            cost: told.number("costUSD").and_then(Usd::from_dollars),
        };
        usage.add(&masker.text(&model), share);
    }
    Some(usage)
}

fn tokens(from: &Object<'_>, kinds: [&str; 4]) -> Tokens {
    let count = |kind| u64::try_from(from.integer(kind).unwrap_or_default()).unwrap_or_default();
    let [input, output, cache_read, cache_creation] = kinds.map(count);
    Tokens {
        input,
        output,
        cache_read,
        cache_creation,
    }
}

pub(crate) mod form {
    //! How what a run used is written into its exit record.

    use agent_domain::{RunUsage, Share, Tokens, Usage, Usd};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Default, Serialize, Deserialize)]
    struct Form {
        own: Option<Vec<Line>>,
        total: Option<Vec<Line>>,
        messages: Vec<Line>,
        subscription: bool,
    }

    #[derive(Serialize, Deserialize)]
    struct Line {
        model: String,
        /// Input, output, read from the cache, put into it.
        tokens: [u64; 4],
        nanos: Option<u64>,
    }

    pub(crate) fn serialize<S: Serializer>(
        usage: &RunUsage,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let form = Form {
            own: usage.own.as_ref().map(lines),
            total: usage.total.as_ref().map(lines),
            messages: lines(&usage.messages),
            subscription: usage.subscription,
        };
        form.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<RunUsage, D::Error> {
        let form = Form::deserialize(deserializer)?;
        Ok(RunUsage {
            own: form.own.map(usage),
            total: form.total.map(usage),
            messages: usage(form.messages),
            subscription: form.subscription,
        })
    }

    fn lines(usage: &Usage) -> Vec<Line> {
        let line = |(model, share): (&String, &Share)| {
            let of = share.tokens;
            Line {
                model: model.clone(),
                tokens: [of.input, of.output, of.cache_read, of.cache_creation],
                nanos: share.cost.map(Usd::nanos),
            }
        };
        usage.0.iter().map(line).collect()
    }

    fn usage(lines: Vec<Line>) -> Usage {
        let mut usage = Usage::default();
        for line in lines {
            let [input, output, cache_read, cache_creation] = line.tokens;
            let tokens = Tokens {
                input,
                output,
                cache_read,
                cache_creation,
            };
            let cost = line.nanos.map(Usd::from_nanos);
            usage.add(&line.model, Share { tokens, cost });
        }
        usage
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::RunObserver;

    fn used(lines: &[&str]) -> RunUsage {
        let mut observer = RunObserver::default();
        for line in lines {
            observer.line(line.as_bytes());
        }
        observer.into_summary().usage
    }

    /// With something in every field.
    pub(crate) fn full() -> RunUsage {
        let mut usage = used(&[FIRST, MESSAGE]);
        usage.subscription = true;
        usage
    }

    fn cost(usage: Option<&Usage>) -> Option<f64> {
        usage.and_then(Usage::cost).map(Usd::dollars)
    }

    // As 2.1.329 wrote them, cut.
    const INIT: &str = r#"{"type":"system","subtype":"init","model":"claude-opus-5-5","apiKeySource":"ANTHROPIC_API_KEY"}"#;
    const MESSAGE: &str = r#"{"type":"assistant","message":{"id":"msg_1","role":"assistant","model":"claude-opus-5-5","content":[],"usage":{"input_tokens":10,"cache_read_input_tokens":3,"cache_creation_input_tokens":4,"output_tokens":1}},"parent_tool_use_id":null}"#;
    const FIRST: &str = r#"{"total_cost_usd":0.00014000000000000001,"modelUsage":{"claude-opus-5-5":{"inputTokens":10,"outputTokens":5,"cacheReadInputTokens":0,"cacheCreationInputTokens":0,"costUSD":0.00014000000000000001}},"model_usage_since_last_result":{"claude-opus-5-5":{"inputTokens":10,"outputTokens":5,"costUSD":0.00014000000000000001}},"type":"result","subtype":"success","is_error":false}"#;
    const SECOND: &str = r#"{"total_cost_usd":0.00028000000000000003,"modelUsage":{"claude-opus-5-5":{"inputTokens":20,"outputTokens":10,"costUSD":0.00028000000000000003}},"model_usage_since_last_result":{"claude-opus-5-5":{"inputTokens":10,"outputTokens":5,"costUSD":0.00014000000000000001}},"type":"result","subtype":"success","is_error":false}"#;

    #[test]
    fn the_last_result_of_a_process_counts_and_shares_are_added_up() {
        let usage = used(&[INIT, MESSAGE, FIRST, INIT, MESSAGE, SECOND]);
        assert_eq!(cost(usage.total.as_ref()), Some(0.000_28));
        assert_eq!(usage.own, usage.total);
        assert_eq!(usage.messages, Usage::default(), "the results tell of them");
        assert!(!usage.subscription);
        // A resumed session's only result.
        let usage = used(&[INIT, SECOND]);
        let figures = [&usage.total, &usage.own].map(|usage| cost(usage.as_ref()));
        assert_eq!(figures, [Some(0.000_28), Some(0.000_14)]);
        assert_eq!(usage.told(), Usd::from_dollars(0.000_14));
    }

    #[test]
    fn one_result_that_does_not_tell_of_the_run_alone_leaves_the_total() {
        let old = r#"{"type":"result","total_cost_usd":0.5,"modelUsage":{"m":{"costUSD":0.5}}}"#;
        for lines in [[FIRST, old], [old, FIRST]] {
            assert_eq!(used(&lines).own, None);
        }
        assert_eq!(used(&[old, old]).told(), Usd::from_dollars(0.5));
    }

    #[test]
    fn a_killed_run_is_known_by_the_last_usage_of_each_message() {
        let later = MESSAGE.replace(r#""output_tokens":1"#, r#""output_tokens":5"#);
        let sub = later
            .replace("msg_1", "msg_2")
            .replace("opus", "haiku")
            .replace("null", r#""toolu_1""#);
        let synthetic = later
            .replace("msg_1", "msg_3")
            .replace("claude-opus-5-5", "<synthetic>");
        let usage = used(&[INIT, MESSAGE, &later, &sub, &synthetic]);
        let of = |model: &str| usage.messages.0[model].tokens;
        let tokens = Tokens {
            input: 10,
            output: 5,
            cache_read: 3,
            cache_creation: 4,
        };
        let each = ["claude-opus-5-5", "claude-haiku-5-5"].map(of);
        assert_eq!(each, [tokens, tokens]);
        assert_eq!(usage.messages.0.len(), 2);
        assert_eq!((usage.own, usage.total), (None, None));
    }

    #[test]
    fn what_comes_after_a_result_is_counted_beside_it() {
        let usage = used(&[FIRST, MESSAGE]);
        assert_eq!(cost(usage.total.as_ref()), Some(0.000_14));
        assert_eq!(usage.messages.0["claude-opus-5-5"].tokens.output, 1);
        // A result without figures accounts for nothing.
        let bare = r#"{"type":"result","subtype":"success","is_error":false}"#;
        let usage = used(&[MESSAGE, bare]);
        assert_eq!((usage.messages.0.len(), usage.total), (1, None));
    }

    #[test]
    fn who_pays_is_told_by_the_init_event() {
        let oauth = INIT.replace("ANTHROPIC_API_KEY", "none");
        assert!(used(&[&oauth]).subscription);
        assert!(!used(&[]).subscription);
    }

    #[test]
    fn a_total_that_no_model_accounts_for_is_the_runs_own_models() {
        let result = r#"{"type":"result","total_cost_usd":0.5}"#;
        let total = |lines: &[&str]| used(lines).total.unwrap().0;
        assert!(total(&[INIT, result]).contains_key("claude-opus-5-5"));
        assert!(total(&[result]).contains_key(UNNAMED));
    }

    #[test]
    fn figures_of_an_unexpected_kind_are_nothing() {
        let odd = r#"{"type":"result","total_cost_usd":"much","modelUsage":{"m":7,"n":{"inputTokens":-1,"costUSD":-5}}}"#;
        let usage = used(&[odd]);
        assert_eq!(usage.total.unwrap().0["n"], Share::default());
        let message = r#"{"type":"assistant","message":{"id":3,"model":"m","usage":{}}}"#;
        assert_eq!(used(&[message]), RunUsage::default());
    }
}
