//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use agent_client::wire::{Dollars, Patch};
use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::exit;
use crate::options::{Run, RunOption, cap, dollars};

/// Manage a running agent-server: clients, jobs, logs, queue.
#[derive(Debug, Parser)]
#[command(name = "agent-admin", version, after_help = exit::HELP)]
pub(crate) struct Args {
    /// Address of the server
    #[arg(
        long,
        global = true,
        help_heading = "Every command",
        env = "AGENT_URL",
        default_value = "http://127.0.0.1:3456"
    )]
    pub(crate) url: String,
    /// The server's secret; prefer the environment, a command line can be seen by others
    #[arg(
        long,
        global = true,
        help_heading = "Every command",
        env = "AGENT_API_SECRET",
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
    /// Print JSON instead of text
    #[arg(long, global = true, help_heading = "Every command")]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The configured repositories
    #[command(subcommand)]
    Clients(ClientsCommand),
    /// The server's local copies of the repositories
    #[command(subcommand)]
    Repos(ReposCommand),
    /// Jobs
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// Callbacks of jobs
    #[command(subcommand)]
    Callbacks(CallbacksCommand),
    /// What jobs run on
    #[command(subcommand)]
    Credentials(CredentialsCommand),
    /// Show what runs and what waits
    Queue {
        /// Show at most so many waiting jobs
        #[arg(long)]
        limit: Option<u32>,
    },
    /// Show what was spent
    Usage(UsageArgs),
    /// Show how the server is
    Health,
}

/// Which spending to show.
#[derive(Debug, ClapArgs)]
pub(crate) struct UsageArgs {
    /// First day in UTC, YYYY-MM-DD [default: the last 30 days]
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Last day [default: today]
    #[arg(long)]
    pub(crate) to: Option<String>,
    /// Add up by these
    #[arg(long, value_delimiter = ',', default_value = "day", value_parser = ["day", "client", "model", "credential"])]
    pub(crate) by: Vec<String>,
    /// Only this client's: id, or org/repo
    #[arg(long)]
    pub(crate) client: Option<String>,
}

/// What a client's jobs may spend.
#[derive(Debug, ClapArgs)]
pub(crate) struct Caps {
    /// What all its jobs may spend in a day (UTC), in US dollars
    #[arg(long, value_name = "USD", value_parser = dollars)]
    pub(crate) budget_daily: Option<Dollars>,
    /// What all its jobs may spend in a calendar month (UTC), in US dollars
    #[arg(long, value_name = "USD", value_parser = dollars)]
    pub(crate) budget_monthly: Option<Dollars>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClientsCommand {
    /// Add a client and clone its repository
    Add {
        /// The repository, as org/repo
        repository: String,
        /// Name for people [default: the repository's]
        #[arg(long)]
        name: Option<String>,
        /// Branch that jobs start from [default: main]
        #[arg(long)]
        default_branch: Option<String>,
        /// The customer's id in your own system
        #[arg(long)]
        os_client_id: Option<String>,
        /// Let the repository's own hooks, settings and MCP servers run
        #[arg(long)]
        trusted: bool,
        #[command(flatten)]
        caps: Caps,
        #[command(flatten)]
        share: Share,
        #[command(flatten)]
        run: Box<Run>,
    },
    /// List all clients
    List,
    /// Show one client
    Show {
        /// Id, or org/repo
        client: String,
    },
    /// Change a client
    Update {
        /// Id, or org/repo
        client: String,
        /// New name
        #[arg(long, required_unless_present_any = ["default_branch", "trusted", "untrusted", "Share", "budget_daily", "budget_monthly", "Run", "unset"])]
        name: Option<String>,
        /// New default branch
        #[arg(long)]
        default_branch: Option<String>,
        /// Let the repository's own hooks, settings and MCP servers run
        #[arg(long, conflicts_with = "untrusted")]
        trusted: bool,
        /// Do not let them run
        #[arg(long)]
        untrusted: bool,
        /// What all its jobs may spend in a day (UTC), in US dollars, or none
        #[arg(long, value_name = "USD", value_parser = cap)]
        budget_daily: Option<Patch<Dollars>>,
        /// What all its jobs may spend in a calendar month (UTC), in US dollars, or none
        #[arg(long, value_name = "USD", value_parser = cap)]
        budget_monthly: Option<Patch<Dollars>>,
        #[command(flatten)]
        share: Share,
        #[command(flatten)]
        run: Box<Run>,
        /// Leave these options to the server again; max-concurrent: no limit
        #[arg(long, value_delimiter = ',')]
        unset: Vec<RunOption>,
    },
    /// Remove a client; its ended jobs stay readable
    Rm {
        /// Id, or org/repo
        client: String,
        /// Remove the server's copy of the repository too
        #[arg(long)]
        remove_repo: bool,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum ReposCommand {
    /// Bring all copies up to date with their remotes
    Sync,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Submit a job
    Submit(Box<Submit>),
    /// List jobs, newest first
    List {
        /// Only these statuses: queued, running, completed, failed, cancelled
        #[arg(long, value_delimiter = ',')]
        status: Vec<String>,
        /// Only this client's: id, or org/repo
        #[arg(long)]
        client: Option<String>,
        /// How many
        #[arg(long)]
        limit: Option<u32>,
        /// Leave out so many
        #[arg(long, conflicts_with = "before")]
        offset: Option<u32>,
        /// Only jobs older than this one
        #[arg(long)]
        before: Option<String>,
    },
    /// Show one job
    Show {
        /// Id of the job
        job: String,
    },
    /// Cancel a job and wait until its last process is gone
    Cancel {
        /// Id of the job
        job: String,
        /// Only ask for it
        #[arg(long)]
        no_wait: bool,
    },
    /// Let a job begin now that waits for a time or a credential, which is then tried again
    Release {
        /// Id of the job
        job: String,
    },
    /// Change a job that waits
    Update {
        /// Id of the job
        job: String,
        /// How urgent it is, from -100 to 100
        #[arg(long, allow_negative_numbers = true)]
        priority: i64,
    },
    /// Tell an ended job's agent more: a new job in the same session, branch and pull request
    Message {
        /// Id of the job
        job: String,
        /// What the agent is told next
        prompt: String,
        #[command(flatten)]
        keys: Keys,
        /// Name for this message: repeated under the same name it is done once [default: random]
        #[arg(long)]
        idempotency_key: Option<String>,
    },
    /// Submit an ended job once more
    Retry {
        /// Id of the job
        job: String,
        /// Go on in the job's session, with the work that was kept
        #[arg(long)]
        resume: bool,
        #[command(flatten)]
        keys: Keys,
        /// Name for this retry: repeated under the same name it is done once [default: random]
        #[arg(long)]
        idempotency_key: Option<String>,
    },
    /// Print a job's log
    Logs {
        /// Id of the job
        job: String,
        /// Go on until the job has ended
        #[arg(short, long)]
        follow: bool,
        /// Print the log file as it is
        #[arg(long, conflicts_with = "json")]
        raw: bool,
        /// Start at this byte of the log file
        #[arg(long, default_value_t = 0)]
        offset: u64,
    },
    /// Wait until a job has ended; the exit code tells how
    Wait {
        /// Id of the job
        job: String,
        /// Give up after so many seconds
        #[arg(long, value_parser = seconds)]
        timeout: Option<Duration>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CallbacksCommand {
    /// List a job's callbacks and how they stand
    List {
        /// Id of the job
        job: String,
    },
    /// Send a job's callback once more, under its old id
    Redeliver {
        /// Id of the job
        job: String,
        /// Id of the callback
        delivery: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CredentialsCommand {
    /// List all credentials and how they stand
    List,
    /// Let jobs run on one again that was stopped or limited
    Resume {
        /// Its name
        name: String,
    },
}

/// What to submit.
#[derive(Debug, ClapArgs)]
pub(crate) struct Submit {
    /// Id of the client
    #[arg(long, required_unless_present = "repo", conflicts_with = "repo")]
    pub(crate) client: Option<String>,
    /// The repository as org/repo; its client is added if there is none
    #[arg(long)]
    pub(crate) repo: Option<String>,
    /// What the agent is told; - reads standard input
    #[arg(
        long,
        required_unless_present = "prompt_file",
        conflicts_with = "prompt_file",
        allow_hyphen_values = true
    )]
    pub(crate) prompt: Option<String>,
    /// File with what the agent is told; - reads standard input
    #[arg(long)]
    pub(crate) prompt_file: Option<PathBuf>,
    /// Branch the work goes to
    #[arg(long)]
    pub(crate) branch: String,
    /// Title of the pull request
    #[arg(long)]
    pub(crate) title: Option<String>,
    /// The feature's id in your own system
    #[arg(long)]
    pub(crate) os_feature_id: Option<String>,
    /// Where to call back when the job has ended
    #[arg(long)]
    pub(crate) callback_url: Option<String>,
    /// Branch or commit to start from [default: the client's default branch]
    #[arg(long)]
    pub(crate) base: Option<String>,
    /// Do not start it earlier: a time such as 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) not_before: Option<String>,
    /// JSON file with an object of your own, which comes back with the job
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) run: Run,
    /// Begin when these jobs are completed, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub(crate) depends_on: Option<Vec<String>>,
    /// How urgent it is, from -100 to 100 [default: its client's]
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) priority: Option<i64>,
    #[command(flatten)]
    pub(crate) keys: Keys,
    /// Name for this submission: repeated under the same name it is done once [default: random]
    #[arg(long)]
    pub(crate) idempotency_key: Option<String>,
    /// Wait until the job has ended; the exit code tells how
    #[arg(long)]
    pub(crate) wait: bool,
}

/// What a client's jobs get of the server.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(crate) struct Share {
    /// How urgent its jobs are unless they say otherwise, from -100 to 100
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) priority: Option<i64>,
    /// How many of its jobs may run at once
    #[arg(long)]
    pub(crate) max_concurrent: Option<u32>,
}

/// Files with keys of a job's own, which the server keeps in memory only: a command line can be
/// seen by others.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct Keys {
    /// File with an Anthropic API key for the agent, in place of the server's
    #[arg(
        long = "anthropic-api-key-file",
        value_name = "FILE",
        conflicts_with = "claude_code_oauth_token"
    )]
    pub(crate) anthropic_api_key: Option<PathBuf>,
    /// File with an OAuth token for the agent, in place of the server's login
    #[arg(long = "claude-code-oauth-token-file", value_name = "FILE")]
    pub(crate) claude_code_oauth_token: Option<PathBuf>,
    /// File with a token for fetching and pushing, in place of the server's
    #[arg(long = "git-token-file", value_name = "FILE")]
    pub(crate) git_token: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .map(Duration::from_secs)
        .map_err(|_| "a whole number of seconds".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_job_needs_one_target_and_one_prompt() {
        let parse = |extra: &[&str]| {
            let fixed = ["agent-admin", "jobs", "submit", "--branch", "b"];
            Args::try_parse_from(fixed.iter().chain(extra)).is_ok()
        };
        assert!(parse(&["--client", "c", "--prompt", "p"]));
        assert!(parse(&["--repo", "o/r", "--prompt", "-"]));
        assert!(parse(&["--repo", "o/r", "--prompt-file", "-"]));
        assert!(!parse(&["--prompt", "p"]));
        assert!(!parse(&["--client", "c"]));
        assert!(!parse(&["--client", "c", "--repo", "o/r", "--prompt", "p"]));
        assert!(!parse(&[
            "--client",
            "c",
            "--prompt",
            "p",
            "--prompt-file",
            "f"
        ]));
    }

    #[test]
    fn a_change_of_a_client_changes_something() {
        let parse = |extra: &[&str]| {
            let fixed = ["agent-admin", "clients", "update", "c"];
            Args::try_parse_from(fixed.iter().chain(extra)).is_ok()
        };
        assert!(!parse(&[]));
        for change in [
            ["--name", "n"],
            ["--default-branch", "b"],
            ["--model", "m"],
            ["--permission-mode", "plan"],
            ["--timeout", "1"],
            ["--priority", "-5"],
            ["--max-concurrent", "1"],
            ["--idle-timeout", "1"],
            ["--fallback-model", "m"],
            ["--max-turns", "1"],
            ["--env", "CI=1"],
            [
                "--unset",
                "model,permission-mode,timeout,idle-timeout,env,agents,max-concurrent",
            ],
        ] {
            assert!(parse(&change), "{change:?}");
        }
        assert!(!parse(&["--unset", "name"]));
    }

    #[test]
    fn a_prompt_may_begin_with_a_dash() {
        let line = [
            "agent-admin",
            "jobs",
            "submit",
            "--branch",
            "b",
            "--repo",
            "o/r",
        ];
        let args = Args::try_parse_from(line.iter().chain(&["--prompt", "- fix it"])).unwrap();
        let Command::Jobs(JobsCommand::Submit(submit)) = args.command else {
            panic!("parsed as something else")
        };
        assert_eq!(submit.prompt.as_deref(), Some("- fix it"));
    }
}
