//! Options of a run that reach the agent by other ways than its command line.

use std::fs;

use agent_domain::JsonText;
use agent_runner::Level;

use crate::support::{Place, sandbox};

/// Prints its arguments, the file of MCP servers, who may read that, and two variables.
const SHOW: &str = r#"echo "args: $*"
while [ $# -gt 0 ]; do
    [ "$1" = --mcp-config ] && { cat "$2"; echo; stat -c %a "$2"; }
    shift
done
echo "CI=$CI TZ=$TZ""#;

#[tokio::test]
async fn mcp_servers_reach_the_agent_by_a_file_that_only_its_user_may_read() {
    let servers = r#"{"tracker":{"command":"x","env":{"TOKEN":"hidden"}}}"#;
    for level in [Level::Off, Level::Workspace, Level::Isolated] {
        let mut place = Place::with(SHOW, |config| {
            config.sandbox = Some(sandbox(level));
            config.sandbox.as_mut().unwrap().hidden = vec![config.attempts_dir.clone()];
        });
        place.options.mcp_servers = Some(JsonText::new(servers));
        assert_eq!(place.run().await.exit_code, Some(0), "{level}");
        let shown = place.stdout();
        let (args, rest) = shown.split_once('\n').unwrap();
        let file = place.attempt().join("mcp.json");
        assert!(
            args.ends_with(&format!("--mcp-config {}", file.display())),
            "{args}"
        );
        assert!(!args.contains("hidden"), "{args}");
        let expected = format!("{{\"mcpServers\":{servers}}}\n600\n");
        assert!(rest.starts_with(&expected), "{level}: {rest}");
        assert_eq!(fs::read_to_string(&file).unwrap().len(), expected.len() - 5);
        place.runner.forget(place.job, 1).await.unwrap();
        assert!(!file.exists());
    }
}

#[tokio::test]
async fn a_jobs_own_variables_come_in_the_place_of_the_servers() {
    for level in [Level::Off, Level::Workspace] {
        let mut place = Place::with(SHOW, |config| {
            config.sandbox = Some(sandbox(level));
            config.environment.push(("TZ".into(), "server".into()));
        });
        let own = [("CI", "two words"), ("TZ", "job")];
        let own = own.map(|(name, value)| (name.parse().unwrap(), value.into()));
        place.options.env = Some(own.into());
        assert_eq!(place.run().await.exit_code, Some(0));
        let shown = place.stdout();
        assert!(shown.ends_with("CI=two words TZ=job\n"), "{level}: {shown}");
    }
}
