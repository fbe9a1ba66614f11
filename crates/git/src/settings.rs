//! What git is told besides its arguments: which settings count, and which variables it sees.
//!
//! A repository's own settings are ours (`settle.rs`). The operator's count for speaking to remotes; of a
//! command that only works on files they count for nothing, so that the same files make the same commit
//! everywhere, but for the filters of Git LFS, which are needed where `git lfs install` was done.

use std::ffi::OsString;

/// Settings that keep a repository an agent has touched from running anything of its own.
pub(crate) const SETTINGS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.askPass=",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "protocol.ext.allow=never",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
    "advice.addEmbeddedRepo=false",
];

/// Variables that point git at a repository or at settings; they are ours to set.
const OURS: &[&str] = &[
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_GRAFT_FILE",
    "GIT_SHALLOW_FILE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_REPLACE_REF_BASE",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_AUTHOR_DATE",
    "GIT_COMMITTER_DATE",
];

/// What the binary gave, without what is ours to set, and with what makes git fit to be read by
/// a program and never wait for a person.
pub(crate) fn environment(given: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> = given
        .iter()
        .filter(|(name, _)| !OURS.iter().any(|ours| name == ours))
        .filter(|(name, _)| !name.as_encoded_bytes().starts_with(b"LC_"))
        .cloned()
        .collect();
    let has =
        |env: &[(OsString, OsString)], wanted: &str| env.iter().any(|(name, _)| name == wanted);
    if !has(&env, "SSH_ASKPASS") {
        // ssh asks this program instead of a terminal, which would leave it waiting for ever.
        env.push(("SSH_ASKPASS".into(), "false".into()));
        env.push(("SSH_ASKPASS_REQUIRE".into(), "force".into()));
    }
    for (name, value) in [
        ("LC_ALL", "C"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("GIT_NO_REPLACE_OBJECTS", "1"),
        ("GIT_EDITOR", ":"),
    ] {
        env.retain(|(given, _)| given != name);
        env.push((name.into(), value.into()));
    }
    env
}

/// Which of the operator's settings count for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    /// None but the filters of Git LFS.
    FiltersOnly,
    /// All, as they are now.
    Live,
    /// Those for speaking to remotes, as they were at first: an agent that can write to the
    /// operator's files cannot have a command that is given a token do anything else by them.
    AtFirst,
}

/// The operator's settings, as `git config --list -z` prints them.
#[derive(Debug, Clone, Default)]
pub(crate) struct OperatorSettings(Vec<(String, String)>);

impl OperatorSettings {
    /// Reads what git printed; an entry that was cut off at the end is left out.
    pub(crate) fn parse(printed: &[u8]) -> Self {
        let text = String::from_utf8_lossy(printed);
        let whole = text.rsplit_once('\0').map_or("", |(whole, _)| whole);
        let entries = whole.split('\0').filter(|entry| !entry.is_empty());
        // A key without a value stands for true.
        let pair = |entry: &str| {
            let (key, value) = entry.split_once('\n').unwrap_or((entry, "true"));
            (key.to_owned(), value.to_owned())
        };
        Self(entries.map(pair).collect())
    }

    /// Those that count.
    pub(crate) fn counting(&self, which: Operator) -> Vec<(String, String)> {
        let counts = |key: &str| match which {
            Operator::FiltersOnly => key.starts_with("filter.lfs."),
            Operator::Live => false,
            Operator::AtFirst => !["include.", "includeif.", "alias.", "filter."]
                .iter()
                .any(|start| key.starts_with(start)),
        };
        let counting = self.0.iter().filter(|(key, _)| counts(key));
        counting.cloned().collect()
    }
}

/// The variables that make `settings` count, and the operator's files only where they are to.
pub(crate) fn as_variables(
    which: Operator,
    settings: &[(String, String)],
) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> = Vec::new();
    if which != Operator::Live {
        for name in ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"] {
            env.push((name.into(), "/dev/null".into()));
        }
        env.push(("GIT_ATTR_NOSYSTEM".into(), "1".into()));
    }
    env.push(("GIT_CONFIG_COUNT".into(), settings.len().to_string().into()));
    for (at, (key, value)) in settings.iter().enumerate() {
        env.push((format!("GIT_CONFIG_KEY_{at}").into(), key.into()));
        env.push((format!("GIT_CONFIG_VALUE_{at}").into(), value.into()));
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_operators_settings_those_count_that_a_command_needs() {
        let printed =
            b"user.name\nOlga\0http.proxy\nhttp://p\0core.bare\0filter.lfs.clean\ngit-lfs\0\
            filter.x.clean\nevil\0include.path\nx\0http.cut";
        let settings = OperatorSettings::parse(printed);
        let keys = |which| {
            let counting = settings.counting(which);
            counting.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(keys(Operator::FiltersOnly), ["filter.lfs.clean"]);
        assert_eq!(
            keys(Operator::AtFirst),
            ["user.name", "http.proxy", "core.bare"]
        );
        assert!(keys(Operator::Live).is_empty());
        assert_eq!(settings.0[2].1, "true");
    }
}
