//! What an agent may try against the machine, the server and other jobs, and that behind a wall
//! none of it succeeds.
//!
//! Each attempt is a shell command run as the agent through a real supervisor. Whether it
//! succeeded is seen by its exit code, or from outside where its effect would be. Where it does no
//! lasting harm it is also made without a wall, and must succeed there: a check that cannot fail
//! shows nothing.

mod arena;
mod files;
mod home;
mod kernel;
mod network;
mod processes;

use std::collections::BTreeSet;

use agent_runner::Level;

use self::arena::Arena;

/// One attempt.
pub(crate) struct Attempt {
    pub(crate) name: String,
    /// Ends with 0 when it has succeeded, as far as can be told from inside.
    pub(crate) command: String,
    /// Whether what the command says of itself counts.
    pub(crate) says_itself: bool,
    /// Whether it is made without a wall too, and must succeed there.
    pub(crate) control: bool,
    /// Whether its effect can be seen from outside.
    pub(crate) effect: Option<Effect>,
}

pub(crate) type Effect = Box<dyn Fn(&Arena) -> bool>;

/// An attempt that says itself whether it has succeeded.
pub(crate) fn attempt(name: impl Into<String>, command: impl Into<String>) -> Attempt {
    Attempt {
        name: name.into(),
        command: command.into(),
        says_itself: true,
        control: true,
        effect: None,
    }
}

impl Attempt {
    /// Not made where nothing stops it.
    pub(crate) fn harmful(mut self) -> Self {
        self.control = false;
        self
    }

    /// Not made without a wall unless it could succeed there.
    pub(crate) fn control_if(mut self, possible: bool) -> Self {
        self.control = possible;
        self
    }

    /// Succeeded when it shows from outside as well.
    pub(crate) fn or_shows(mut self, effect: impl Fn(&Arena) -> bool + 'static) -> Self {
        self.effect = Some(Box::new(effect));
        self
    }

    /// Succeeded only when it shows from outside: inside, it may well seem so.
    pub(crate) fn shows(mut self, effect: impl Fn(&Arena) -> bool + 'static) -> Self {
        self.says_itself = false;
        self.or_shows(effect)
    }
}

/// Makes attempts at a level and returns the names of those that succeeded.
async fn succeeded(
    level: Level,
    make: impl Fn(&Arena) -> Vec<Attempt>,
) -> (Arena, BTreeSet<String>, BTreeSet<String>) {
    let arena = Arena::new(level);
    let mut attempts = make(&arena);
    attempts.retain(|one| level != Level::Off || one.control);
    let said = arena.carry_out(&attempts).await;
    let all = attempts.iter().map(|one| one.name.clone()).collect();
    let worked = |one: &&Attempt| {
        (one.says_itself && said.contains(&one.name))
            || one.effect.as_ref().is_some_and(|effect| effect(&arena))
    };
    let names = attempts
        .iter()
        .filter(worked)
        .map(|one| one.name.clone())
        .collect();
    (arena, all, names)
}

/// Makes attempts with and without walls, and returns those that got through one. Without, all
/// controls must succeed.
async fn got_through(levels: &[Level], make: impl Fn(&Arena) -> Vec<Attempt>) -> Vec<String> {
    let (_, all, worked) = succeeded(Level::Off, &make).await;
    let failed: Vec<_> = all.difference(&worked).collect();
    assert!(
        failed.is_empty(),
        "does not even work without a wall: {failed:?}"
    );
    let mut through = Vec::new();
    for level in levels {
        let (_, _, worked) = succeeded(*level, &make).await;
        through.extend(worked.iter().map(|name| format!("{level}: {name}")));
    }
    through
}

/// What every such list is to be equal to.
const NONE: [&str; 0] = [];

const WALLS: [Level; 2] = [Level::Workspace, Level::Isolated];

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
