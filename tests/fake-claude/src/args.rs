//! The command line: which flags there are, what they take, and what is refused.

use crate::given;

/// The flags that matter here; the others are accepted and ignored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Args {
    pub(crate) version: bool,
    pub(crate) prompt: Option<String>,
    pub(crate) output: Output,
    pub(crate) stream_input: bool,
    pub(crate) verbose: bool,
    pub(crate) partial: bool,
    pub(crate) replay: bool,
    pub(crate) session_id: Option<String>,
    pub(crate) resume: Option<String>,
    pub(crate) continue_last: bool,
    pub(crate) fork: bool,
    pub(crate) persist: bool,
    pub(crate) model: Option<String>,
    pub(crate) max_turns: Option<u64>,
    pub(crate) max_budget: Option<String>,
    pub(crate) mode: String,
    pub(crate) allowed: Vec<String>,
    pub(crate) disallowed: Vec<String>,
    pub(crate) tools: Option<Vec<String>>,
    pub(crate) mcp: Vec<String>,
    pub(crate) strict_mcp: bool,
    /// `--setting-sources`; all of them where it is not given.
    sources: Option<Vec<String>>,
    pub(crate) appended: Option<String>,
    /// Whether `--json-schema` asks for an answer of a form.
    pub(crate) structured: bool,
    /// Names of the subagents of `--agents`.
    pub(crate) agents: Vec<String>,
}

impl Args {
    /// Whether settings of this source count: `user`, `project` or `local`.
    pub(crate) fn reads(&self, source: &str) -> bool {
        let named = |list: &Vec<String>| list.iter().any(|one| one == source);
        self.sources.as_ref().is_none_or(named)
    }
}

/// `--output-format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Output {
    #[default]
    Text,
    Json,
    StreamJson,
}

/// How many values a flag takes.
#[derive(Clone, Copy, PartialEq)]
enum Takes {
    Nothing,
    One,
    /// One if what follows is no flag.
    Optional,
    /// All that follow up to the next flag: a prompt after such a flag is swallowed.
    Many,
}

const FLAGS: &[(&[&str], Takes)] = &[
    (&["-p", "--print"], Takes::Nothing),
    (&["-v", "--version"], Takes::Nothing),
    (&["--verbose"], Takes::Nothing),
    (&["--include-partial-messages"], Takes::Nothing),
    (&["--include-hook-events"], Takes::Nothing),
    (&["--forward-subagent-text"], Takes::Nothing),
    (&["--replay-user-messages"], Takes::Nothing),
    (&["--fork-session"], Takes::Nothing),
    (&["-c", "--continue"], Takes::Nothing),
    (&["--no-session-persistence"], Takes::Nothing),
    (&["--strict-mcp-config"], Takes::Nothing),
    (&["--bare"], Takes::Nothing),
    (&["--restricted"], Takes::Nothing),
    (&["--safe-mode"], Takes::Nothing),
    (&["--dangerously-skip-permissions"], Takes::Nothing),
    (&["--allow-dangerously-skip-permissions"], Takes::Nothing),
    (&["--disable-slash-commands"], Takes::Nothing),
    (
        &["--exclude-dynamic-system-prompt-sections"],
        Takes::Nothing,
    ),
    (&["--output-format"], Takes::One),
    (&["--input-format"], Takes::One),
    (&["--session-id"], Takes::One),
    (&["--model"], Takes::One),
    (&["--fallback-model"], Takes::One),
    (&["--effort"], Takes::One),
    (&["--max-turns"], Takes::One),
    (&["--max-budget-usd"], Takes::One),
    (&["--json-schema"], Takes::One),
    (&["--append-system-prompt"], Takes::One),
    (&["--append-system-prompt-file"], Takes::One),
    (&["--system-prompt"], Takes::One),
    (&["--system-prompt-file"], Takes::One),
    (&["--system-prompt-snapshot"], Takes::One),
    (&["--permission-mode"], Takes::One),
    (&["--permission-prompt-tool"], Takes::One),
    (&["--permission-prompts"], Takes::One),
    (&["--agent"], Takes::One),
    (&["--agents"], Takes::One),
    (&["--settings"], Takes::One),
    (&["--setting-sources"], Takes::One),
    (&["--plugin-dir"], Takes::One),
    (&["--debug-file"], Takes::One),
    (&["--autocompact"], Takes::One),
    (&["-n", "--name"], Takes::One),
    (&["-r", "--resume"], Takes::Optional),
    (&["-w", "--worktree"], Takes::Optional),
    (&["-d", "--debug"], Takes::Optional),
    (&["--add-dir"], Takes::Many),
    (&["--betas"], Takes::Many),
    (&["--mcp-config"], Takes::Many),
    (&["--tools"], Takes::Many),
    (&["--allowedTools", "--allowed-tools"], Takes::Many),
    (&["--disallowedTools", "--disallowed-tools"], Takes::Many),
];

const MODES: [&str; 7] = [
    "acceptEdits",
    "auto",
    "bypassPermissions",
    "manual",
    "dontAsk",
    "plan",
    // Accepted, though the list of choices does not show it.
    "default",
];

/// Reads the command line; the error is what goes to standard error.
pub(crate) fn parse(argv: &[String]) -> Result<Args, String> {
    let mut args = Args {
        persist: true,
        mode: "default".into(),
        ..Args::default()
    };
    let mut rest = argv.iter().map(String::as_str).peekable();
    while let Some(word) = rest.next() {
        if word == "--" {
            rest.by_ref().for_each(|word| positional(&mut args, word));
        } else if word.starts_with('-') && word.len() > 1 {
            let (name, inline) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value)),
                _ => (word, None),
            };
            let (names, takes) = FLAGS
                .iter()
                .find(|(names, _)| names.contains(&name))
                .ok_or_else(|| format!("error: unknown option '{word}'"))?;
            let is_value = |next: &&str| !next.starts_with('-') || next.len() == 1;
            let mut values: Vec<&str> = inline.into_iter().collect();
            match takes {
                Takes::One if inline.is_none() => values.push(rest.next().ok_or_else(|| {
                    format!(
                        "error: option '{} <value>' argument missing",
                        names.join(", ")
                    )
                })?),
                Takes::Optional if inline.is_none() => values.extend(rest.next_if(is_value)),
                Takes::Many => {
                    values.extend(std::iter::from_fn(|| rest.next_if(is_value)));
                    if values.is_empty() {
                        let names = names.join(", ");
                        return Err(format!(
                            "error: option '{names} <value...>' argument missing"
                        ));
                    }
                }
                Takes::Nothing | Takes::One | Takes::Optional => {}
            }
            set(&mut args, names, &values)?;
        } else {
            positional(&mut args, word);
        }
    }
    Ok(args)
}

fn positional(args: &mut Args, word: &str) {
    // A second one is ignored.
    args.prompt.get_or_insert_with(|| word.to_owned());
}

fn set(args: &mut Args, names: &[&str], values: &[&str]) -> Result<(), String> {
    let name = names.last().copied().unwrap_or_default();
    let one = values.first().copied().unwrap_or_default();
    match name {
        "--version" => args.version = true,
        "--verbose" => args.verbose = true,
        "--include-partial-messages" => args.partial = true,
        "--replay-user-messages" => args.replay = true,
        "--fork-session" => args.fork = true,
        "--continue" => args.continue_last = true,
        "--no-session-persistence" => args.persist = false,
        "--dangerously-skip-permissions" => args.mode = "bypassPermissions".into(),
        "--strict-mcp-config" => args.strict_mcp = true,
        "--append-system-prompt" => args.appended = Some(one.to_owned()),
        "--setting-sources" => args.sources = Some(sources(one)?),
        "--session-id" => args.session_id = Some(one.to_owned()),
        "--resume" => args.resume = Some(one.to_owned()),
        "--model" => args.model = Some(one.to_owned()),
        "--json-schema" => {
            given::check_schema(one)?;
            args.structured = true;
        }
        "--agents" => args.agents = given::agents(one)?,
        "--max-budget-usd" => args.max_budget = Some(one.to_owned()),
        "--mcp-config" => args
            .mcp
            .extend(values.iter().map(|&value| value.to_owned())),
        "--allowed-tools" => args.allowed.extend(names_of_tools(values)),
        // A rule about some of a tool's calls leaves the tool itself where it is.
        "--disallowed-tools" => {
            let whole = values.iter().filter(|value| !value.contains('('));
            let whole: Vec<&str> = whole.copied().collect();
            args.disallowed.extend(names_of_tools(&whole));
        }
        "--tools" if one != "default" => args.tools = Some(names_of_tools(values)),
        "--max-turns" => {
            let turns = one.parse().map_err(|_| {
                format!("error: option '--max-turns <turns>' argument '{one}' is invalid. must be a number")
            })?;
            args.max_turns = Some(turns);
        }
        "--output-format" => args.output = output(one)?,
        "--input-format" => args.stream_input = input(one)?,
        "--permission-mode" if MODES.contains(&one) => one.clone_into(&mut args.mode),
        "--permission-mode" => {
            let choices = MODES[..6].join(", ");
            return Err(bad_choice("--permission-mode <mode>", one, &choices));
        }
        _ => {}
    }
    Ok(())
}

fn sources(list: &str) -> Result<Vec<String>, String> {
    let named = list.split(',').map(str::trim).filter(|one| !one.is_empty());
    let bad = named
        .clone()
        .find(|one| !["user", "project", "local"].contains(one));
    if let Some(bad) = bad {
        return Err(format!(
            "Error processing --setting-sources: Invalid setting source: {bad}. Valid options are: user, project, local"
        ));
    }
    Ok(named.map(str::to_owned).collect())
}

fn output(format: &str) -> Result<Output, String> {
    match format {
        "text" => Ok(Output::Text),
        "json" => Ok(Output::Json),
        "stream-json" => Ok(Output::StreamJson),
        _ => {
            let choices = "text, json, stream-json";
            Err(bad_choice("--output-format <format>", format, choices))
        }
    }
}

/// Whether input is streamed.
fn input(format: &str) -> Result<bool, String> {
    match format {
        "text" => Ok(false),
        "stream-json" => Ok(true),
        _ => {
            let choices = "text, stream-json";
            Err(bad_choice("--input-format <format>", format, choices))
        }
    }
}

/// Splits at commas and blanks and drops the pattern after a name, as in `Bash(git *)`.
fn names_of_tools(values: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    for value in values {
        let mut depth = 0_i32;
        let cut = |c: char| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0 && (c == ',' || c == ' ')
        };
        let parts = value.split(cut).filter(|part| !part.is_empty());
        names.extend(parts.map(|part| part.split('(').next().unwrap_or(part).to_owned()));
    }
    names
}

fn bad_choice(option: &str, value: &str, choices: &str) -> String {
    format!(
        "error: option '{option}' argument '{value}' is invalid. Allowed choices are {choices}."
    )
}

/// What the real one refuses before it does anything; the error is what goes to standard error.
pub(crate) fn check(args: &Args) -> Result<(), String> {
    let bypass = args.mode == "bypassPermissions";
    let sandbox = std::env::var("IS_SANDBOX").is_ok_and(|value| value == "1");
    if bypass && rustix::process::geteuid().is_root() && !sandbox {
        return Err("--dangerously-skip-permissions cannot be used with root/sudo privileges for security reasons".into());
    }
    if args.output == Output::StreamJson && !args.verbose {
        return Err(
            "Error: When using --print, --output-format=stream-json requires --verbose".into(),
        );
    }
    if args.partial && args.output != Output::StreamJson {
        return Err(
            "Error: --include-partial-messages requires --print and --output-format=stream-json."
                .into(),
        );
    }
    if args.stream_input && args.output != Output::StreamJson {
        return Err("Error: --input-format=stream-json requires output-format=stream-json.".into());
    }
    if args.session_id.as_deref().is_some_and(|id| !is_uuid(id)) {
        return Err("Error: Invalid session ID. Must be a valid UUID.".into());
    }
    if args.session_id.is_some() && (args.resume.is_some() || args.continue_last) && !args.fork {
        return Err(
            "Error: --session-id with --continue or --resume also needs --fork-session.".into(),
        );
    }
    if let Some(value) = args.resume.as_deref().filter(|id| !is_uuid(id)) {
        return Err(format!(
            "Error: --resume requires a valid session ID or session title when used with --print. Usage: claude -p --resume <session-id|title>. Provided value \"{value}\" is not a UUID and does not match any session title."
        ));
    }
    for config in &args.mcp {
        if !given::is_readable(config) {
            let cwd = std::env::current_dir().unwrap_or_default();
            let path = cwd.join(config);
            return Err(format!(
                "Error: Invalid MCP configuration:\nMCP config file not found: {}",
                path.display()
            ));
        }
    }
    Ok(())
}

/// Whether a text has the shape of a UUID.
pub(crate) fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(hex)
}
