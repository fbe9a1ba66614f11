//! Carries out a script.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::args::{Args, Output};
use crate::auth::{self, Login};
use crate::control::{self, Message};
use crate::events;
use crate::ids::Ids;
use crate::input::{self, Input};
use crate::permission::Tools;
use crate::session::{Refused, Session};
use crate::state::{Fields, Shared, State};
use crate::step::Step;
use crate::tools::Running;
use crate::{SCRIPT_ERROR, ledger, project, record, script, signals};

/// How often a file that is waited for is looked for.
const POLL: Duration = Duration::from_millis(5);

/// `Break` ends the process with this code.
pub(crate) type Flow = ControlFlow<u8>;

/// A run in progress.
pub(crate) struct Run {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tools: Tools,
    pub(crate) args: Args,
    pub(crate) input: Input,
    /// The exit code so far.
    pub(crate) code: u8,
    pub(crate) began: bool,
    pub(crate) auto_init: bool,
    pub(crate) anonymous: bool,
    pub(crate) resets_at: Option<i64>,
    pub(crate) retry_silence: Duration,
    pub(crate) background: Vec<(Running, String, String)>,
    /// The MCP servers, once they have been started.
    pub(crate) servers: Option<Value>,
    /// Whether the present turn has had its result.
    pub(crate) ended: bool,
}

/// Runs the CLI in print mode and returns its exit code.
pub(crate) fn run(args: Args) -> ExitCode {
    let input = if args.stream_input {
        Ok(Input::default())
    } else {
        input::read(&args)
    };
    let input = match input {
        Ok(input) => input,
        Err(message) => return crate::refuse(&message),
    };
    let script = if args.stream_input {
        Ok(Vec::new())
    } else {
        script::select(&input.prompt)
    };
    let script = match script {
        Ok(script) => script,
        Err(message) => return bad_script(&message),
    };
    let seed = script.iter().find_map(|step| match step {
        Step::Seed(seed) => Some(*seed),
        _ => None,
    });
    let mut ids = seed.map_or_else(Ids::fresh, Ids::seeded);
    let session = match Session::open(&args, &mut ids) {
        Ok(session) => session,
        Err(refused) => return refuse_session(&args, &refused, &mut ids),
    };
    let earlier = (session.resumed && !script::is_in(&input.prompt))
        .then(|| session.scripted_prompt())
        .flatten();
    let script = match earlier.map_or(Ok(script), |prompt| script::select(&prompt)) {
        Ok(script) => script,
        Err(message) => return bad_script(&message),
    };
    let model = model(&args);
    let state = State::new(args.output, args.verbose, ids, session, model);
    let mut run = Run {
        shared: Arc::new(Shared::new(state)),
        tools: Tools::new(&args),
        args,
        input,
        code: 0,
        began: false,
        auto_init: true,
        anonymous: false,
        resets_at: None,
        retry_silence: POLL,
        background: Vec::new(),
        servers: None,
        ended: false,
    };
    let code = if run.args.stream_input {
        run.conversation()
    } else {
        run.single(&script)
    };
    run.shared.lock().finish();
    ExitCode::from(code)
}

fn bad_script(message: &str) -> ExitCode {
    eprintln!("fake-claude: bad script: {message}");
    ExitCode::from(SCRIPT_ERROR)
}

/// A missing session says so on standard error; a stream also gets an empty result.
fn refuse_session(args: &Args, refused: &Refused, ids: &mut Ids) -> ExitCode {
    let message = refused.message();
    if let (Refused::Missing(id), Output::StreamJson) = (refused, args.output) {
        let result = json!({
            "type": "result", "subtype": "error_during_execution", "duration_ms": 0,
            "duration_api_ms": 0, "is_error": true, "num_turns": 0, "stop_reason": null,
            "session_id": id, "total_cost_usd": 0, "usage": {"input_tokens": 0, "output_tokens": 0},
            "modelUsage": {}, "permission_denials": [], "uuid": ids.uuid(), "errors": [message],
            "result_index": 0,
        });
        println!("{result}");
    }
    crate::refuse(&message)
}

fn model(args: &Args) -> String {
    let default = if auth::login() == Login::OauthToken {
        "sonnet"
    } else {
        "opus"
    };
    let asked = args.model.as_deref().unwrap_or(default);
    match asked {
        "sonnet" | "opus" | "haiku" => format!("claude-{asked}-5-5"),
        other => {
            if !other.starts_with("claude-") {
                let note = json!({"model": other, "query_source": "sdk"});
                eprintln!("[claude-code:unrecognized_model] {note}");
            }
            other.to_owned()
        }
    }
}

impl Run {
    pub(crate) fn single(&mut self, script: &[Step]) -> u8 {
        if let Some(Step::Startup(length)) = script.first() {
            std::thread::sleep(*length);
        }
        signals::install(&self.shared);
        let flow = self.turn(script).map_continue(|()| self.code);
        match flow {
            ControlFlow::Continue(code) | ControlFlow::Break(code) => code,
        }
    }

    /// Turn after turn until standard input ends.
    pub(crate) fn conversation(&mut self) -> u8 {
        signals::install(&self.shared);
        let messages = control::listen(&self.shared);
        for message in messages {
            let (prompt, event) = match message {
                Message::Prompt(prompt, event) => (prompt, event),
                Message::Bad(line) => {
                    eprintln!("Error parsing streaming input line: {line}");
                    return 1;
                }
            };
            if self.args.replay {
                self.replay(event);
            }
            self.input = Input {
                stdin: prompt.clone().into_bytes(),
                prompt,
            };
            let script = match script::select(&self.input.prompt) {
                Ok(script) => script,
                Err(message) => {
                    eprintln!("fake-claude: bad script: {message}");
                    return SCRIPT_ERROR;
                }
            };
            (self.began, self.ended) = (false, false);
            self.shared.lock().rounds = 0;
            if let ControlFlow::Break(code) = self.turn(&script) {
                return code;
            }
        }
        self.code
    }

    pub(crate) fn replay(&self, event: Value) {
        let mut state = self.shared.lock();
        let mut fields: Fields = vec![
            ("type", json!("user")),
            ("message", event["message"].clone()),
            ("isReplay", json!(true)),
        ];
        fields.extend(state.tail());
        state.emit(&fields);
    }

    /// One prompt: the script, a result where it said none, and what ran in the background.
    pub(crate) fn turn(&mut self, script: &[Step]) -> Flow {
        let prompt = json!({"type": "user", "content": self.input.prompt});
        self.shared.lock().session.note(&prompt);
        if script.contains(&Step::Init) {
            self.auto_init = false;
        }
        for step in script {
            self.begin_before(step)?;
            self.step(step)?;
            let interrupted = std::mem::take(&mut self.shared.lock().interrupted);
            if interrupted {
                signals::abort(&mut self.shared.lock());
                self.code = 1;
                return Flow::Continue(());
            }
        }
        self.begin_before(&Step::Message)?;
        if !self.ended {
            self.end("ok", None)?;
        }
        self.await_background()
    }

    pub(crate) fn begin_before(&mut self, step: &Step) -> Flow {
        if self.began || !self.auto_init || step.is_setting() {
            return Flow::Continue(());
        }
        self.init()
    }

    pub(crate) fn init(&mut self) -> Flow {
        if self.servers.is_none() {
            (0..project::run_hooks(&self.args)).for_each(|_| self.hook(""));
            self.servers = Some(project::start_servers(&self.args));
        }
        let servers = self.servers.clone().unwrap_or_default();
        events::init(&mut self.shared.lock(), &self.tools, &servers);
        self.began = true;
        if auth::login() == Login::None && !self.anonymous {
            self.end("no_credentials", None)?;
            return Flow::Break(self.code);
        }
        Flow::Continue(())
    }

    /// Whether a conditional step is to be done.
    fn holds(&self, condition: &Step) -> bool {
        match condition {
            Step::IfExists { path, exists, .. } => Path::new(path).exists() == *exists,
            Step::IfResumed { resumed, .. } => self.shared.lock().session.resumed == *resumed,
            Step::IfPaid { with, .. } => auth::is_paid(with),
            _ => true,
        }
    }

    pub(crate) fn step(&mut self, step: &Step) -> Flow {
        let this = step;
        match this {
            Step::Startup(_) => {}
            Step::NoInit => self.auto_init = false,
            Step::Record(path) => {
                let told = project::told(&self.args);
                record::write(
                    Path::new(path),
                    &self.input.stdin,
                    &self.input.prompt,
                    &told,
                );
            }
            Step::Seed(seed) => self.shared.lock().ids = Ids::seeded(*seed),
            Step::Price(price) => self.shared.lock().price = *price,
            Step::Delay(length) => self.shared.lock().delay = *length,
            Step::Resets(seconds) => self.resets_at = Some(crate::clock::unix_seconds() + seconds),
            Step::Window(window) => self.shared.lock().windows.push(window.clone()),
            Step::RetrySilence(length) => self.retry_silence = *length,
            Step::Structured(value) => self.shared.lock().structured = Some(value.clone()),
            Step::Ignore(names) => {
                let numbers = names.iter().filter_map(|name| signals::number(name));
                self.shared.lock().ignored.extend(numbers);
            }
            Step::Slow(length) => self.shared.lock().slowness = *length,
            Step::Anonymous => self.anonymous = true,
            Step::StartupFailure(text) => {
                eprintln!("{text}");
                return Flow::Break(1);
            }
            Step::Stderr(text) => eprintln!("{text}"),
            Step::Ledger { path, name } => self.open_account(Path::new(path), name),
            Step::Note { path, what, name } => {
                if let Err(error) = ledger::note(Path::new(path), what, name) {
                    eprintln!("fake-claude: no ledger {path}: {error}");
                }
            }
            Step::Init => return self.init(),
            Step::IfExists { step, .. }
            | Step::IfResumed { step, .. }
            | Step::IfPaid { step, .. } => {
                if self.holds(this) {
                    return self.step(step);
                }
            }
            Step::Exit(code) => return self.leave(*code),
            Step::Die(name) => self.die(name),
            Step::Result { name, text } => return self.end(name, text.clone()),
            Step::Sleep(length) => self.shared.pause(*length),
            Step::Hang => self.until(|| false),
            Step::Wait(path) => self.until(|| Path::new(path).exists()),
            Step::Mark(path) => {
                if let Err(error) = std::fs::write(path, "") {
                    eprintln!("fake-claude: cannot mark {path}: {error}");
                }
            }
            _ => return self.say(step),
        }
        Flow::Continue(())
    }

    fn open_account(&self, path: &Path, name: &str) {
        let opened = ledger::copy(path).and_then(|copy| {
            self.shared.lock().copy = Some(copy);
            ledger::begin(path, name)
        });
        if let Err(error) = opened {
            eprintln!("fake-claude: no ledger {}: {error}", path.display());
        }
    }

    pub(crate) fn pace(&self) {
        let delay = self.shared.lock().delay;
        if !delay.is_zero() {
            self.shared.pause(delay);
        }
    }

    pub(crate) fn until(&self, mut done: impl FnMut() -> bool) {
        while !done() && !self.shared.lock().interrupted {
            self.shared.pause(POLL);
        }
    }
}
