//! What a run of the agent spent, and how that is told from what its CLI reports.
//!
//! The CLI's figures are cumulative: over the results of one process, and since some version also
//! over the earlier runs of a session that is resumed. A run that was killed reports nothing, but
//! the messages of its transcript tell of their tokens.

use std::collections::BTreeMap;

use crate::Usd;

/// The last version known to count only the run itself where a session is resumed.
const LAST_WITHOUT_EARLIER_RUNS: [u32; 3] = [2, 1, 197];

/// Tokens by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Read by the model, neither from its cache nor into it.
    pub input: u64,
    /// Written by the model.
    pub output: u64,
    /// Read from the cache.
    pub cache_read: u64,
    /// Read, and put into the cache.
    pub cache_creation: u64,
}

impl Tokens {
    fn each(self, other: Self, combine: fn(u64, u64) -> u64) -> Self {
        Self {
            input: combine(self.input, other.input),
            output: combine(self.output, other.output),
            cache_read: combine(self.cache_read, other.cache_read),
            cache_creation: combine(self.cache_creation, other.cache_creation),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    fn minus(self, other: Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    fn covers(self, other: Self) -> bool {
        self.each(other, u64::max) == self
    }
}

/// What one model has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Its tokens.
    pub tokens: Tokens,
    /// What they cost; `None` where nobody has told.
    pub cost: Option<Usd>,
}

impl Share {
    /// Whether it is nothing at all.
    pub fn is_nothing(self) -> bool {
        self.tokens == Tokens::default() && self.cost.is_none_or(|cost| cost == Usd::ZERO)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.plus(other.tokens),
            cost: together(self.cost, other.cost),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.minus(other.tokens),
            cost: self
                .cost
                .map(|cost| cost.minus(other.cost.unwrap_or_default())),
        }
    }

    fn covers(self, other: Self) -> bool {
        self.tokens.covers(other.tokens) && self.cost >= other.cost
    }
}

fn together(one: Option<Usd>, other: Option<Usd>) -> Option<Usd> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.plus(other)),
        (one, other) => one.or(other),
    }
}

/// What was used, by model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage(pub BTreeMap<String, Share>);

impl Usage {
    /// Adds what a model has used.
    pub fn add(&mut self, model: &str, share: Share) {
        let so_far = self.0.entry(model.to_owned()).or_default();
        *so_far = so_far.plus(share);
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        for (model, share) in other.0 {
            self.add(&model, share);
        }
        self
    }

    /// What all of it cost, as far as that was told.
    pub fn cost(&self) -> Option<Usd> {
        self.0
            .values()
            .fold(None, |sum, share| together(sum, share.cost))
    }

    /// Makes the sum of the costs `total`, which is what counts: what no model accounts for goes to
    /// `model`.
    #[must_use]
    pub fn with_total(mut self, total: Usd, model: &str) -> Self {
        let told = self.cost();
        let rest = total.minus(told.unwrap_or_default());
        if told.is_none() || rest > Usd::ZERO {
            let cost = Some(rest);
            let tokens = Tokens::default();
            self.add(model, Share { tokens, cost });
        }
        self
    }

    fn minus(mut self, known: &Self) -> Self {
        for (model, share) in &mut self.0 {
            *share = share.minus(known.0.get(model).copied().unwrap_or_default());
        }
        self
    }

    fn covers(&self, other: &Self) -> bool {
        let has = |model| self.0.get(model).copied().unwrap_or_default();
        other
            .0
            .iter()
            .all(|(model, share)| has(model).covers(*share))
    }
}

/// What a run has told of what it used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunUsage {
    /// What its results say of this run alone, added up; `None` where there is no result or one
    /// does not say so.
    pub own: Option<Usage>,
    /// What its last result says, which may include earlier runs of its session.
    pub total: Option<Usage>,
    /// What the messages since the last result say. Their output is not counted to the end, so this
    /// is the least that was used.
    pub messages: Usage,
    /// Whether a subscription pays, so that the costs are what it would have cost.
    pub subscription: bool,
}

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The CLI's own account.
    Result,
    /// Added up from messages that no result has accounted for.
    Messages,
}

impl Source {
    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::Messages => "messages",
        }
    }
}

/// One line of what a run is charged with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// The model.
    pub model: String,
    /// What it used.
    pub share: Share,
    /// Who says so.
    pub source: Source,
}

impl RunUsage {
    /// What this run is to be charged with, beside what is `known` of the results of its session's
    /// earlier runs; `cli_version` is the version of the CLI.
    pub fn spent(&self, known: &Usage, cli_version: Option<&str>) -> Vec<Spent> {
        let of_results = match (&self.own, &self.total) {
            (Some(own), _) => own.clone(),
            (None, Some(total)) if includes(total, known, cli_version) => {
                total.clone().minus(known)
            }
            (None, total) => total.clone().unwrap_or_default(),
        };
        let lines = |usage: Usage, source| {
            let shares = usage.0.into_iter().filter(|(_, share)| !share.is_nothing());
            shares.map(move |(model, share)| Spent {
                model,
                share,
                source,
            })
        };
        lines(of_results, Source::Result)
            .chain(lines(self.messages.clone(), Source::Messages))
            .collect()
    }

    /// What this run has cost so far, where its results say so.
    pub fn told(&self) -> Option<Usd> {
        // A version whose results do not tell of the run alone counts no other runs.
        self.own.as_ref().or(self.total.as_ref())?.cost()
    }
}

/// Whether the figures of a run include those of the earlier runs of its session.
fn includes(total: &Usage, known: &Usage, cli_version: Option<&str>) -> bool {
    let version = cli_version.and_then(version);
    !known.0.is_empty()
        && total.covers(known)
        && version.is_none_or(|version| version > LAST_WITHOUT_EARLIER_RUNS)
}

fn version(text: &str) -> Option<[u32; 3]> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}

/// What a model's tokens cost, in billionths of a dollar.
struct ListPrice {
    /// How the model's name begins.
    model: &'static str,
    input: u64,
    output: u64,
    cache_read: u64,
    cache_creation: u64,
}

/// As CLI 2.1.329 counts them; models whose price depends on the length of a prompt are left out.
const LIST_PRICES: &[ListPrice] = &[
    ListPrice {
        model: "claude-opus-5-5",
        input: 4_000,
        output: 20_000,
        cache_read: 200,
        cache_creation: 5_000,
    },
    ListPrice {
        model: "claude-sonnet-5-5",
        input: 2_000,
        output: 10_000,
        cache_read: 100,
        cache_creation: 2_500,
    },
];

/// What these tokens cost at list prices; `None` for a model whose prices are not known.
pub fn list_price(model: &str, tokens: Tokens) -> Option<Usd> {
    let price = LIST_PRICES
        .iter()
        .find(|price| model.starts_with(price.model))?;
    Some(Usd::from_nanos(weighed(
        tokens,
        [
            price.input,
            price.output,
            price.cache_read,
            price.cache_creation,
        ],
    )))
}

/// What these tokens cost at the rate at which `seen` tokens of the same model cost `cost`; `None`
/// where that says nothing. The kinds are weighed against each other as in most price lists.
pub fn seen_price(tokens: Tokens, seen: Tokens, cost: Usd) -> Option<Usd> {
    const WEIGHTS: [u64; 4] = [20, 100, 2, 25];
    let (weight, of) = (weighed(tokens, WEIGHTS), weighed(seen, WEIGHTS));
    let nanos = u128::from(cost.nanos()) * u128::from(weight);
    let nanos = nanos.checked_div(u128::from(of))?;
    u64::try_from(nanos).ok().map(Usd::from_nanos)
}

fn weighed(tokens: Tokens, weights: [u64; 4]) -> u64 {
    let counts = [
        tokens.input,
        tokens.output,
        tokens.cache_read,
        tokens.cache_creation,
    ];
    let products = counts.into_iter().zip(weights);
    products.fold(0, |sum, (count, weight)| {
        sum.saturating_add(count.saturating_mul(weight))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPUS: &str = "claude-opus-5-5";
    const SONNET: &str = "claude-sonnet-5-5";

    fn tokens(input: u64, output: u64) -> Tokens {
        Tokens {
            input,
            output,
            ..Tokens::default()
        }
    }

    fn usage(of: &[(&str, u64, u64, f64)]) -> Usage {
        let mut usage = Usage::default();
        for (model, input, output, cost) in of {
            let share = Share {
                tokens: tokens(*input, *output),
                cost: Usd::from_dollars(*cost),
            };
            usage.add(model, share);
        }
        usage
    }

    /// What `model` is charged with by results.
    fn charged(run: &RunUsage, known: &Usage, version: &str) -> Vec<(String, u64, u64, f64)> {
        let version = Some(version).filter(|version| !version.is_empty());
        let spent = run.spent(known, version).into_iter();
        let line = |line: Spent| {
            let Share { tokens, cost } = line.share;
            let cost = cost.unwrap().dollars();
            (line.model, tokens.input, tokens.output, cost)
        };
        spent.map(line).collect()
    }

    fn told(total: Usage) -> RunUsage {
        RunUsage {
            total: Some(total),
            ..RunUsage::default()
        }
    }

    #[test]
    fn a_session_that_is_resumed_is_charged_with_the_difference_only() {
        // As 2.1.329 reports three runs of one session.
        let totals = [
            usage(&[(OPUS, 10, 5, 0.000_14)]),
            usage(&[(OPUS, 20, 10, 0.000_28)]),
            usage(&[(OPUS, 30, 15, 0.000_42)]),
        ];
        for version in ["2.1.329", ""] {
            let mut known = Usage::default();
            for total in &totals {
                let run = told(total.clone());
                let own = vec![(OPUS.to_owned(), 10, 5, 0.000_14)];
                assert_eq!(charged(&run, &known, version), own);
                for line in run.spent(&known, None) {
                    known.add(&line.model, line.share);
                }
            }
            assert_eq!(known, totals[2], "the sum is the CLI's last figure");
        }
    }

    #[test]
    fn a_version_that_counts_a_run_alone_is_charged_with_all_it_says() {
        let known = usage(&[(OPUS, 10, 5, 0.000_14)]);
        let own = vec![(OPUS.to_owned(), 20, 10, 0.000_28)];
        let run = told(usage(&[(OPUS, 20, 10, 0.000_28)]));
        assert_eq!(charged(&run, &known, "2.1.197"), own);
        // Of an unknown version, where the figures show it.
        let less = told(usage(&[(OPUS, 8, 5, 0.000_14)]));
        let own = vec![(OPUS.to_owned(), 8, 5, 0.000_14)];
        assert_eq!(charged(&less, &known, ""), own);
        assert_eq!(charged(&less, &known, "2.1.329"), own);
    }

    #[test]
    fn a_run_that_was_killed_is_not_in_the_next_ones_total_and_is_not_taken_off_it() {
        // Booked: 0.00014 by a result, and the second run's messages. The third reports 0.00028.
        let known = usage(&[(OPUS, 10, 5, 0.000_14)]);
        let run = told(usage(&[(OPUS, 20, 10, 0.000_28)]));
        let own = vec![(OPUS.to_owned(), 10, 5, 0.000_14)];
        assert_eq!(charged(&run, &known, "2.1.329"), own);
    }

    #[test]
    fn what_results_say_of_the_run_alone_needs_nothing_known() {
        // A fork of a session is a new one to us, and its total includes the old one.
        let total = usage(&[(OPUS, 30, 15, 0.000_42), (SONNET, 20, 10, 0.000_14)]);
        let run = RunUsage {
            own: Some(usage(&[(SONNET, 10, 5, 0.000_07)])),
            ..told(total)
        };
        let own = vec![(SONNET.to_owned(), 10, 5, 0.000_07)];
        assert_eq!(charged(&run, &Usage::default(), "2.1.329"), own);
        assert_eq!(run.told(), Usd::from_dollars(0.000_07));
    }

    #[test]
    fn a_second_model_in_a_resumed_session_is_charged_as_a_whole() {
        let known = usage(&[(OPUS, 30, 15, 0.000_42)]);
        let run = told(usage(&[
            (OPUS, 30, 15, 0.000_42),
            (SONNET, 10, 5, 0.000_07),
        ]));
        let own = vec![(SONNET.to_owned(), 10, 5, 0.000_07)];
        assert_eq!(charged(&run, &known, "2.1.329"), own);
    }

    #[test]
    fn messages_that_no_result_accounts_for_are_charged_beside_it() {
        let mut run = told(usage(&[(OPUS, 10, 5, 0.000_14)]));
        let share = Share {
            tokens: tokens(10, 1),
            cost: None,
        };
        run.messages.add(OPUS, share);
        let spent = run.spent(&Usage::default(), None);
        let sources: Vec<_> = spent.iter().map(|line| line.source).collect();
        assert_eq!(sources, [Source::Result, Source::Messages]);
        assert_eq!(spent[1].share, share);
        assert_eq!(RunUsage::default().spent(&Usage::default(), None), []);
    }

    #[test]
    fn the_total_counts_where_models_do_not_account_for_all_of_it() {
        let all = usage(&[(OPUS, 10, 5, 0.000_14)]);
        let total = Usd::from_dollars(0.25).unwrap();
        assert_eq!(all.clone().with_total(total, SONNET).cost(), Some(total));
        assert_eq!(Usage::default().with_total(total, OPUS).cost(), Some(total));
        let same = Usd::from_dollars(0.000_14).unwrap();
        assert_eq!(all.clone().with_total(same, SONNET), all);
    }

    #[test]
    fn list_prices_are_those_of_the_cli() {
        let price = |model, tokens| list_price(model, tokens).map(Usd::dollars);
        assert_eq!(price(OPUS, tokens(10, 5)), Some(0.000_14));
        assert_eq!(price(SONNET, tokens(10, 5)), Some(0.000_07));
        let cached = Tokens {
            cache_read: 1_000_000,
            cache_creation: 1_000_000,
            ..Tokens::default()
        };
        assert_eq!(price("claude-opus-5-5-20261101", cached), Some(5.2));
        assert_eq!(price(SONNET, cached), Some(2.6));
        assert_eq!(price("claude-haiku-5-5", cached), None);
    }

    #[test]
    fn a_model_without_a_list_price_costs_what_it_was_seen_to_cost() {
        let cost = Usd::from_dollars(1.0).unwrap();
        let seen = tokens(1000, 200);
        assert_eq!(seen_price(seen, seen, cost), Some(cost));
        let half = seen_price(tokens(500, 100), seen, cost);
        assert_eq!(half, Usd::from_dollars(0.5));
        assert_eq!(seen_price(seen, Tokens::default(), cost), None);
    }
}
