//! What pays for runs: the credentials a server has, how they stand, and which one a job runs on.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Reason, RepoSlug, RepoSlugError, Timestamp};

/// Longest name of a credential.
const NAME_MAX: usize = 64;
/// In the ledger, what a job pays with that brings a key of its own.
const JOBS_OWN: &str = "job";

/// Names a credential in settings, ledger and API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialName(Arc<str>);

impl CredentialName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The one credential of a server that was told of none: what its own environment pays with.
    pub fn default_one() -> Self {
        Self("default".into())
    }
}

impl fmt::Display for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that cannot name a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be 1 to 64 of a-z, 0-9, '-' and '_', begin with a letter or digit, and not be \"job\""
)]
pub struct CredentialNameError;

impl FromStr for CredentialName {
    type Err = CredentialNameError;

    fn from_str(text: &str) -> Result<Self, CredentialNameError> {
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = (1..=NAME_MAX).contains(&text.len())
            && text.bytes().all(|byte| word(byte) || b"-_".contains(&byte))
            && text.bytes().next().is_some_and(word)
            && text != JOBS_OWN;
        fits.then(|| Self(text.into())).ok_or(CredentialNameError)
    }
}

/// What a credential is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// Whatever the server's own environment and the machine's login pay with.
    Environment,
    /// A subscription, which has usage limits.
    Subscription,
    /// An API key, which is paid for by use.
    ApiKey,
}

impl CredentialKind {
    /// The public spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Subscription => "subscription",
            Self::ApiKey => "api_key",
        }
    }
}

/// A credential as the operator has set it up, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its name, no other's.
    pub name: CredentialName,
    /// What it is.
    pub kind: CredentialKind,
    /// How many runs may use it at once; `None`: as many as there are slots.
    pub max_sessions: Option<u32>,
    /// The repositories whose jobs may use it; `None`: all.
    pub clients: Option<Vec<RepoPattern>>,
    /// Changes with its secret and tells nothing of it. A changed secret is another login.
    pub fingerprint: Option<String>,
}

impl Credential {
    /// What a server has that was told of none.
    pub fn environment() -> Self {
        Self {
            name: CredentialName::default_one(),
            kind: CredentialKind::Environment,
            max_sessions: None,
            clients: None,
            fingerprint: None,
        }
    }

    /// Whether jobs of that repository may run on it.
    pub fn is_for(&self, repo: &RepoSlug) -> bool {
        let clients = self.clients.as_deref();
        clients.is_none_or(|clients| clients.iter().any(|pattern| pattern.fits(repo)))
    }
}

/// A repository, or all of an organisation: `org/repo` or `org/*`, whatever the case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoPattern {
    org: String,
    repo: Option<String>,
}

impl RepoPattern {
    fn fits(&self, repo: &RepoSlug) -> bool {
        let own = self.repo.as_deref();
        self.org.eq_ignore_ascii_case(repo.org())
            && own.is_none_or(|own| own.eq_ignore_ascii_case(repo.repo()))
    }
}

impl fmt::Display for RepoPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.org, self.repo.as_deref().unwrap_or("*"))
    }
}

impl FromStr for RepoPattern {
    type Err = RepoSlugError;

    fn from_str(text: &str) -> Result<Self, RepoSlugError> {
        let (org, repo) = text.split_once('/').ok_or(RepoSlugError)?;
        RepoSlug::check_part(org)?;
        let repo = Some(repo).filter(|repo| *repo != "*");
        repo.map_or(Ok(()), RepoSlug::check_part)?;
        Ok(Self {
            org: org.to_owned(),
            repo: repo.map(ToOwned::to_owned),
        })
    }
}

/// A window of a subscription's limit, as the API last told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitWindow {
    /// The API's name for it: `five_hour`, `seven_day`, ...
    pub kind: String,
    /// How much of it is used, from 0 to 1.
    pub used: f64,
    /// When it begins anew.
    pub resets_at: Timestamp,
}

/// A limit that has been reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// The family of models that it holds for, `opus`; `None`: all.
    pub family: Option<String>,
    /// Nothing it holds for is started before.
    pub until: Timestamp,
}

impl Limited {
    /// The family of models that a limit of this kind holds for, by the API's name for it.
    pub fn family_of(kind: Option<&str>) -> Option<String> {
        let family = kind?.strip_prefix("seven_day_")?;
        ["opus", "sonnet", "haiku"]
            .contains(&family)
            .then(|| family.to_owned())
    }

    /// Whether a run that asks for `model` comes under it. One that leaves the choice to the CLI
    /// could get any.
    fn holds_for(&self, model: Option<&str>) -> bool {
        match (&self.family, model) {
            (Some(family), Some(model)) => model.to_ascii_lowercase().contains(family.as_str()),
            (None, _) | (_, None) => true,
        }
    }
}

/// That nothing is started on a credential until somebody has seen to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// When.
    pub at: Timestamp,
    /// [`Reason::Auth`] or [`Reason::Billing`].
    pub reason: Reason,
    /// What was said, for people.
    pub error: String,
}

/// How a credential stands.
#[derive(Debug, Clone, PartialEq)]
pub struct CredentialState {
    /// Which.
    pub name: CredentialName,
    /// Grows whenever somebody has seen to it: what a run says that began before does not count.
    pub epoch: u64,
    /// The limits that are reached, past ones too.
    pub limits: Vec<Limited>,
    /// Whether it is out of use.
    pub stopped: Option<Stopped>,
    /// As last told.
    pub windows: Vec<LimitWindow>,
    /// Runs that use it now.
    pub running: u32,
}

impl CredentialState {
    /// One of which nothing is known.
    pub const fn new(name: CredentialName) -> Self {
        Self {
            name,
            epoch: 0,
            limits: Vec::new(),
            stopped: None,
            windows: Vec::new(),
            running: 0,
        }
    }

    /// When everything that a run with `model` comes under has reset, if that is still to come.
    pub fn limited_until(&self, model: Option<&str>, now: Timestamp) -> Option<Timestamp> {
        let limits = self.limits.iter().filter(|limit| limit.holds_for(model));
        limits.map(|limit| limit.until).filter(|at| *at > now).max()
    }

    /// How much of its fullest window is free, in tenths; all where nothing is known.
    fn headroom(&self, now: Timestamp) -> usize {
        let open = self.windows.iter().filter(|window| window.resets_at > now);
        let most = open.map(|window| window.used).fold(0.0, f64::max);
        let tenths = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
        tenths.iter().filter(|tenth| most <= **tenth).count()
    }
}

/// What a run was started on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidBy {
    /// The credential.
    pub name: CredentialName,
    /// Its [`CredentialState::epoch`] then.
    pub epoch: u64,
}

/// What a run has told about the credential it used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CredentialNews {
    /// A limit that it has run into.
    pub limited: Option<Limited>,
    /// Why the credential was refused: the reason, and what was said.
    pub refused: Option<(Reason, String)>,
    /// The windows that it has told of.
    pub windows: Vec<LimitWindow>,
}

impl CredentialNews {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is to be said of a job that is to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// It runs on this one.
    Use(PaidBy),
    /// Those that it may use have as many runs as they may.
    Busy,
    /// Nothing before the first of them resets.
    Limited(Timestamp),
    /// Nothing before somebody has seen to them.
    Stopped(Reason),
    /// There is none that it may use.
    None,
}

/// Why a job cannot begin that runs on a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// All are limited, until then.
    Until(Timestamp),
    /// All are stopped, for this reason.
    Login(Reason),
    /// There will not be any.
    ForGood {
        /// Stable code.
        reason: Reason,
        /// A sentence for people.
        error: String,
    },
}

/// Chooses the credential that a job of `repo` runs on which asks for `model`: of those it may use that
/// are neither limited, stopped nor full the one with most headroom, a subscription before an API key.
pub fn choose(
    credentials: &[Credential],
    states: &[CredentialState],
    repo: &RepoSlug,
    model: Option<&str>,
    now: Timestamp,
) -> Choice {
    let mut best: Option<(_, PaidBy)> = None;
    let mut otherwise = Choice::None;
    for credential in credentials.iter().filter(|one| one.is_for(repo)) {
        let unknown = CredentialState::new(credential.name.clone());
        let state = states.iter().find(|state| state.name == credential.name);
        let state = state.unwrap_or(&unknown);
        if let Some(why) = blocked(credential, state, model, now) {
            otherwise = sooner(otherwise, why);
            continue;
        }
        let costs = credential.kind == CredentialKind::ApiKey;
        let rank = (costs, Reverse(state.headroom(now)), state.running);
        if best.as_ref().is_none_or(|(least, _)| rank < *least) {
            let (name, epoch) = (state.name.clone(), state.epoch);
            best = Some((rank, PaidBy { name, epoch }));
        }
    }
    best.map_or(otherwise, |(_, paid_by)| Choice::Use(paid_by))
}

/// Why nothing can begin on a credential now, where that is so.
fn blocked(
    credential: &Credential,
    state: &CredentialState,
    model: Option<&str>,
    now: Timestamp,
) -> Option<Choice> {
    if let Some(stopped) = &state.stopped {
        return Some(Choice::Stopped(stopped.reason));
    }
    if let Some(until) = state.limited_until(model, now) {
        return Some(Choice::Limited(until));
    }
    let is_full = credential
        .max_sessions
        .is_some_and(|most| state.running >= most);
    is_full.then_some(Choice::Busy)
}

/// Of two things to wait for, the one that can be over first.
fn sooner(one: Choice, other: Choice) -> Choice {
    match (one, other) {
        (Choice::Busy, _) | (_, Choice::Busy) => Choice::Busy,
        (Choice::Limited(one), Choice::Limited(other)) => Choice::Limited(one.min(other)),
        (limited @ Choice::Limited(_), _) | (_, limited @ Choice::Limited(_)) => limited,
        (Choice::None, other) => other,
        (one, _) => one,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn repo() -> RepoSlug {
        RepoSlug::new("acme", "site").unwrap()
    }

    fn named(name: &str) -> Credential {
        Credential {
            name: name.parse().unwrap(),
            kind: CredentialKind::Subscription,
            ..Credential::environment()
        }
    }

    fn used(name: &str, used: f64) -> CredentialState {
        let window = LimitWindow {
            kind: "five_hour".into(),
            used,
            resets_at: at(100),
        };
        CredentialState {
            windows: vec![window],
            ..CredentialState::new(name.parse().unwrap())
        }
    }

    fn limited(name: &str, family: Option<&str>, until: i64) -> CredentialState {
        let limit = Limited {
            family: family.map(Into::into),
            until: at(until),
        };
        CredentialState {
            limits: vec![limit],
            ..CredentialState::new(name.parse().unwrap())
        }
    }

    fn stopped(name: &str) -> CredentialState {
        let stopped = Stopped {
            at: at(0),
            reason: Reason::Auth,
            error: "401".into(),
        };
        CredentialState {
            stopped: Some(stopped),
            ..CredentialState::new(name.parse().unwrap())
        }
    }

    fn chosen(credentials: &[Credential], states: &[CredentialState]) -> String {
        match choose(
            credentials,
            states,
            &repo(),
            Some("claude-sonnet-5-5"),
            at(10),
        ) {
            Choice::Use(paid_by) => paid_by.name.to_string(),
            other @ (Choice::Busy | Choice::Limited(_) | Choice::Stopped(_) | Choice::None) => {
                format!("{other:?}")
            }
        }
    }

    #[test]
    fn names_are_short_words_and_not_that_of_a_jobs_own_key() {
        for good in ["default", "a", "team-1", "0-x_y"] {
            assert_eq!(good.parse::<CredentialName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "job",
            "A",
            "-a",
            "a b",
            "a.b",
            "\u{e9}",
            &"x".repeat(65),
        ] {
            assert!(bad.parse::<CredentialName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn most_headroom_comes_first_then_fewest_runs_then_the_order_of_the_settings() {
        let all = ["a", "b", "c"].map(named);
        assert_eq!(chosen(&all, &[]), "a");
        assert_eq!(
            chosen(&all, &[used("a", 0.5), used("b", 0.2), used("c", 0.3)]),
            "b"
        );
        let mut states = [used("a", 0.41), used("b", 0.49), used("c", 0.6)];
        states[0].running = 2;
        assert_eq!(chosen(&all, &states), "b");
        states[1].running = 2;
        assert_eq!(chosen(&all, &states), "a");
    }

    #[test]
    fn a_window_that_has_begun_anew_says_nothing() {
        let mut states = [used("a", 0.9), used("b", 0.2)];
        assert_eq!(chosen(&["a", "b"].map(named), &states), "b");
        states[0].windows[0].resets_at = at(10);
        assert_eq!(chosen(&["a", "b"].map(named), &states), "a");
    }

    #[test]
    fn an_api_key_is_used_when_no_subscription_can_be() {
        let mut all = ["a", "b"].map(named);
        all[0].kind = CredentialKind::ApiKey;
        assert_eq!(chosen(&all, &[used("b", 1.0)]), "b");
        assert_eq!(chosen(&all, &[limited("b", None, 11)]), "a");
    }

    #[test]
    fn nothing_begins_before_a_limit_resets_and_the_first_to_reset_counts() {
        let all = ["a", "b"].map(named);
        let states = [limited("a", None, 60), limited("b", None, 40)];
        assert_eq!(
            chosen(&all, &states),
            format!("{:?}", Choice::Limited(at(40)))
        );
        assert_eq!(chosen(&all, &[limited("a", None, 10), stopped("b")]), "a");
        let states = [limited("a", None, 60), stopped("b")];
        assert_eq!(
            chosen(&all, &states),
            format!("{:?}", Choice::Limited(at(60)))
        );
    }

    #[test]
    fn a_limit_of_one_family_of_models_stops_only_what_could_use_it() {
        let all = ["a"].map(named);
        let states = [limited("a", Some("opus"), 60)];
        let choice = |model| choose(&all, &states, &repo(), model, at(10));
        assert!(matches!(choice(Some("claude-sonnet-5-5")), Choice::Use(_)));
        assert_eq!(choice(Some("Opus")), Choice::Limited(at(60)));
        assert_eq!(choice(None), Choice::Limited(at(60)));
        assert_eq!(Limited::family_of(Some("seven_day_opus")).unwrap(), "opus");
        assert_eq!(Limited::family_of(Some("seven_day")), None);
        assert_eq!(Limited::family_of(Some("seven_day_overage_included")), None);
        assert_eq!(Limited::family_of(None), None);
    }

    #[test]
    fn a_full_or_stopped_credential_and_one_for_others_is_left_out() {
        let mut all = ["a", "b"].map(named);
        all[0].max_sessions = Some(1);
        let mut states = [used("a", 0.0), used("b", 0.9)];
        assert_eq!(chosen(&all, &states), "a");
        states[0].running = 1;
        assert_eq!(chosen(&all, &states), "b");
        let busy = format!("{:?}", Choice::Busy);
        assert_eq!(chosen(&all, &[states[0].clone(), stopped("b")]), busy);
        all[1].clients = Some(vec![
            "other/*".parse().unwrap(),
            "acme/blog".parse().unwrap(),
        ]);
        assert_eq!(chosen(&all, &states), busy);
        let none = format!("{:?}", Choice::None);
        assert_eq!(chosen(&all[1..], &states), none);
        all[1].clients = Some(vec!["ACME/Site".parse().unwrap()]);
        assert_eq!(chosen(&all, &states), "b");
        all[1].clients = Some(vec!["acme/*".parse().unwrap()]);
        assert_eq!(chosen(&all, &states), "b");
        let stop = format!("{:?}", Choice::Stopped(Reason::Auth));
        assert_eq!(chosen(&all[1..], &[stopped("b")]), stop);
    }

    #[test]
    fn headroom_is_counted_in_tenths_and_odd_figures_do_no_harm() {
        for (figure, tenths) in [
            (0.0, 10),
            (0.05, 9),
            (0.5, 5),
            (1.0, 0),
            (7.0, 0),
            (-1.0, 10),
        ] {
            assert_eq!(used("a", figure).headroom(at(10)), tenths, "{figure}");
        }
        assert_eq!(used("a", f64::NAN).headroom(at(10)), 10);
    }
}
