//! What of a repository's own set-up for the CLI counts in a run.
//!
//! Unattended the CLI asks nobody before it runs a repository's hooks or starts its MCP servers, on
//! our machine and with our credentials. So without someone's word for the repository they are
//! left out, and only what it says to the agent, its root `CLAUDE.md`, is passed on as text.

/// Longest `CLAUDE.md` that is passed on, in bytes: with its frame, and with what a job adds to the
/// system prompt, it must fit into one argument of a program, which Linux limits to 128 KiB
/// (`MAX_ARG_STRLEN`).
pub const CLAUDE_MD_MAX: usize = 100 * 1024;

/// What of a repository's own set-up for the CLI counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Project {
    /// All of it: settings, hooks, MCP servers, `CLAUDE.md`, read by the CLI itself.
    Trusted,
    /// Nothing but what its `CLAUDE.md` says, if there is one.
    Untrusted(Option<Conventions>),
}

/// What a repository's `CLAUDE.md` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conventions {
    text: String,
    length: u64,
    is_cut: bool,
}

impl Conventions {
    /// From the beginning of the file and its whole length in bytes. Bytes that are no text are
    /// replaced, and what exceeds [`CLAUDE_MD_MAX`] is cut off.
    pub fn new(beginning: &[u8], length: u64) -> Self {
        // An argument cannot hold the byte 0.
        let mut text = String::from_utf8_lossy(beginning).replace('\0', "\u{fffd}");
        let whole = u64::try_from(beginning.len()).is_ok_and(|given| given == length);
        let is_cut = !whole || text.len() > CLAUDE_MD_MAX;
        if is_cut {
            // A character that the end of the piece has cut in two.
            let sound = text.trim_end_matches('\u{fffd}').len();
            text.truncate(text.floor_char_boundary(CLAUDE_MD_MAX.min(sound)));
        }
        Self {
            text,
            length,
            is_cut,
        }
    }

    /// Whether some of the file is missing.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// What the agent is told.
    fn told(&self) -> String {
        let (given, length) = (self.text.len(), self.length);
        let end = if self.is_cut {
            format!("[CLAUDE.md is cut here: it has {length} bytes, of which these are {given}.]\n")
        } else {
            String::new()
        };
        format!(
            "# CLAUDE.md of this repository\n\nThe repository you work in has these instructions \
             for you in its CLAUDE.md. Keep to them.\n\n{}\n{end}",
            self.text
        )
    }
}

impl Project {
    /// The CLI's arguments for it.
    pub(crate) fn arguments(&self) -> &'static [&'static str] {
        match self {
            Self::Trusted => &[],
            // The operator's own settings and CLAUDE.md still count, and no MCP server but those
            // that a command line names.
            Self::Untrusted(_) => &["--setting-sources", "user", "--strict-mcp-config"],
        }
    }

    /// What is added to the CLI's own system prompt.
    pub(crate) fn told(&self) -> Option<String> {
        match self {
            Self::Trusted | Self::Untrusted(None) => None,
            Self::Untrusted(Some(conventions)) => Some(conventions.told()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn untrusted(content: &[u8]) -> Project {
        Project::Untrusted(Some(Conventions::new(content, content.len() as u64)))
    }

    #[test]
    fn a_trusted_repository_is_left_to_the_cli() {
        assert!(Project::Trusted.arguments().is_empty() && Project::Trusted.told().is_none());
    }

    #[test]
    fn of_an_untrusted_repository_only_what_claude_md_says_is_passed_on() {
        let project = untrusted("Use tabs. Grüße\n".as_bytes());
        let told = project.told().unwrap();
        assert!(told.contains("Use tabs. Grüße\n") && !told.contains("cut here"));
        let nothing = Project::Untrusted(None);
        assert_eq!(nothing.arguments(), project.arguments());
        assert_eq!(nothing.told(), None);
    }

    #[test]
    fn a_long_or_strange_claude_md_fits_into_one_argument_and_says_that_it_is_cut() {
        const MAX_ARG_STRLEN: usize = 128 * 1024;
        for content in [
            vec![0xff; CLAUDE_MD_MAX],
            vec![0; CLAUDE_MD_MAX],
            "ä".repeat(CLAUDE_MD_MAX).into_bytes(),
            vec![b'x'; 3 * CLAUDE_MD_MAX],
        ] {
            let told = untrusted(&content).told().unwrap();
            let longest = told.len() + agent_domain::limits::SYSTEM_PROMPT_BYTES;
            assert!(longest + 100 < MAX_ARG_STRLEN && !told.contains('\0'));
            assert!(told.contains(&format!("it has {} bytes", content.len())));
        }
        let beginning = Conventions::new("gr\u{fc}".as_bytes().split_at(3).0, 1 << 30);
        assert!(beginning.is_cut());
        assert_eq!(beginning.text, "gr");
    }
}
