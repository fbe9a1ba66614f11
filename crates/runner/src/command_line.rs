//! The CLI's command line.

use std::ffi::OsString;

use agent_domain::RunOptions;

use crate::Project;

/// The CLI's arguments for one unattended run; the prompt comes on standard input, so that it
/// shows in no list of processes.
pub fn command_line(options: &RunOptions, project: &Project) -> Vec<OsString> {
    let fixed = ["-p", "--output-format", "stream-json", "--verbose"];
    let mut line: Vec<OsString> = fixed.map(OsString::from).into();
    if let Some(model) = &options.model {
        line.extend(["--model".into(), model.into()]);
    }
    let mode = options.permission_mode.unwrap_or_default();
    line.extend(["--permission-mode".into(), mode.as_str().into()]);
    line.extend(project.arguments());
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_domain::PermissionMode;

    #[test]
    fn a_model_is_named_only_when_one_is_set() {
        let plain = command_line(&RunOptions::default(), &Project::Trusted);
        assert_eq!(
            plain.join(&OsString::from(" ")),
            "-p --output-format stream-json --verbose --permission-mode bypassPermissions"
        );
        let options = RunOptions {
            model: Some("opus".into()),
            permission_mode: Some(PermissionMode::Plan),
            ..RunOptions::default()
        };
        assert_eq!(
            command_line(&options, &Project::Trusted).join(&OsString::from(" ")),
            "-p --output-format stream-json --verbose --model opus --permission-mode plan"
        );
    }
}
