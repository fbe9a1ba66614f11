//! Pull requests at a forge: through GitHub's REST API, through the `gh` command, or not at all.

mod error;
mod forge;
mod gh;
mod github;
mod network;
mod remote;
mod wire;

pub use error::ForgeError;
pub use forge::{Forge, ForgeConfig, PullRequestRequest};
pub use gh::Gh;
pub use github::GitHub;
pub use remote::is_github;
