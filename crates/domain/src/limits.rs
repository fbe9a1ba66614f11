//! Limits of the native API. Each is public behaviour: a caller meets it as a 400 or a 413.

/// Longest prompt, in bytes.
pub const PROMPT_BYTES: usize = 1024 * 1024;
/// Longest title, in characters.
pub const TITLE_CHARS: usize = 256;
/// Longest name or foreign id, in characters.
pub const NAME_CHARS: usize = 200;
/// Longest callback URL, in bytes; browsers and proxies commonly stop here too.
pub const URL_BYTES: usize = 2048;
/// Longest branch name, in bytes: it becomes a file name below the mirror, with room for `.lock`.
pub const BRANCH_BYTES: usize = 200;
/// Longest `Idempotency-Key`, in bytes.
pub const IDEMPOTENCY_KEY_BYTES: usize = 255;
/// Longest secret of a job's own, in bytes; an environment variable may have 128 KiB.
pub const SECRET_BYTES: usize = 16 * 1024;
/// Largest page of a list.
pub const PAGE_MAX: u32 = 500;
/// Page size where none is asked for.
pub const PAGE_DEFAULT: u32 = 50;
/// Largest offset into a list; deeper pages are reached by cursor.
pub const OFFSET_MAX: u32 = 100_000;
/// Longest run a job may ask for, in seconds: one day.
pub const TIMEOUT_SECONDS_MAX: u64 = 86_400;
/// Most turns a job may ask for.
pub const TURNS_MAX: u32 = 10_000;
/// Most rules in one list of tools.
pub const TOOL_RULES: usize = 100;
/// Longest rule about a tool, in characters.
pub const TOOL_RULE_CHARS: usize = 500;
/// Longest addition to the system prompt, in bytes: together with what a repository's `CLAUDE.md`
/// says it must fit into one argument of a program, which Linux limits to 128 KiB.
pub const SYSTEM_PROMPT_BYTES: usize = 16 * 1024;
/// Longest JSON of an option that becomes one argument of a program, in bytes.
pub const OPTION_JSON_BYTES: usize = 64 * 1024;
/// Longest answer of a form that a job has asked for, in bytes.
pub const OUTPUT_BYTES: usize = 256 * 1024;
/// Most labels of a pull request.
pub const LABELS: usize = 20;
/// Longest label, in characters; GitHub takes no longer ones.
pub const LABEL_CHARS: usize = 50;
/// Most runs of a job that may be lost in a row before it is given up.
pub const ATTEMPTS_MAX: u32 = 10;
/// Longest JSON of a job's metadata, in bytes.
pub const METADATA_BYTES: usize = 16 * 1024;
/// Most variables of a job's own.
pub const VARIABLES: usize = 100;
/// Longest name of a variable, in bytes.
pub const VARIABLE_NAME_BYTES: usize = 100;
/// Names and values of all variables of a job's own together, in bytes.
pub const VARIABLES_BYTES: usize = 64 * 1024;
/// Most jobs that one job may wait for.
pub const DEPENDENCIES: usize = 20;
/// Most jobs of one client at once that a client may ask for.
pub const CONCURRENT_MAX: u32 = 1000;
/// Largest budget or cap.
pub const BUDGET_MAX: crate::Usd = crate::Usd::from_nanos(1_000_000_000_000_000);
/// Shortest `AGENT_API_SECRET`, in characters.
pub const SECRET_CHARS_MIN: usize = 7;
/// Shortest `AGENT_API_SECRET` that may be used on an address other than loopback.
pub const SECRET_CHARS_PUBLIC: usize = 32;
