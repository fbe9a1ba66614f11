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
/// Shortest `AGENT_API_SECRET`, in characters.
pub const SECRET_CHARS_MIN: usize = 7;
/// Shortest `AGENT_API_SECRET` that may be used on an address other than loopback.
pub const SECRET_CHARS_PUBLIC: usize = 32;
