//! Where a script comes from: the prompt, a file, or the default.

use crate::step::{self, Step};

/// Opens a script inside a prompt; it ends at the next line of three back-ticks.
const FENCE: &str = "```fake";

/// What is done without any script: a file is changed, and success is reported.
const DEFAULT: &str = r#"
thinking The request is small; one file will do.
text I'll look at the repository first.
shell ls -a
append AGENT_NOTES.md Worked on this by request.
text I have added a note to AGENT_NOTES.md.
result ok I have added a note to AGENT_NOTES.md.
"#;

/// Finds and reads the script for a prompt; the error names the line.
pub(crate) fn select(prompt: &str) -> Result<Vec<Step>, String> {
    if let Some(text) = in_prompt(prompt) {
        return parse(&text);
    }
    match std::env::var_os("FAKE_CLAUDE_SCRIPT").filter(|path| !path.is_empty()) {
        Some(path) => {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            parse(&text)
        }
        None => parse(DEFAULT),
    }
}

/// Whether a prompt brings a script of its own.
pub(crate) fn is_in(prompt: &str) -> bool {
    in_prompt(prompt).is_some()
}

fn in_prompt(prompt: &str) -> Option<String> {
    let mut lines = prompt.lines();
    lines.find(|line| line.trim() == FENCE)?;
    let body: Vec<&str> = lines.take_while(|line| line.trim() != "```").collect();
    Some(body.join("\n"))
}

fn parse(text: &str) -> Result<Vec<Step>, String> {
    let numbered = text.lines().zip(1..);
    let meant = numbered.filter(|(line, _)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    meant
        .map(|(line, number)| step::parse(line).map_err(|error| format!("line {number}: {error}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn the_default_script_is_well_formed() {
        assert_eq!(parse(DEFAULT).unwrap().len(), 6);
    }

    #[test]
    fn a_script_in_a_prompt_stands_between_fences() {
        let prompt = "Do it.\n```fake\ntext hi\nexit 3\n```\nThanks.";
        assert_eq!(
            select(prompt).unwrap(),
            [Step::Text("hi".into()), Step::Exit(3)]
        );
    }

    #[test]
    fn a_mistake_names_its_line() {
        assert_eq!(
            parse("\n# x\njump").unwrap_err(),
            "line 3: unknown verb \"jump\""
        );
        assert!(parse("result nonsense").is_err());
        assert!(parse("sleep 3 weeks").is_err());
    }

    #[test]
    fn texts_may_be_bare_or_json() {
        let steps = parse(
            "write a.txt one two\nwrite b.txt \"x\\ty\"\ntool Read {\"file_path\": \"/x y\"} all of it\n\
             sleep 2s\nhex 7b ff\nresumed if f text again",
        );
        let file = |path: &str, text: &str| Step::Write {
            path: path.into(),
            text: text.into(),
            append: false,
        };
        let again = Step::IfExists {
            path: "f".into(),
            exists: true,
            step: Box::new(Step::Text("again".into())),
        };
        assert_eq!(
            steps.unwrap(),
            [
                file("a.txt", "one two\n"),
                file("b.txt", "x\ty"),
                Step::Tool {
                    name: "Read".into(),
                    input: json!({"file_path": "/x y"}),
                    text: "all of it".into(),
                    is_error: false
                },
                Step::Sleep(Duration::from_secs(2)),
                Step::Raw(vec![0x7b, 0xff]),
                Step::IfResumed {
                    resumed: true,
                    step: Box::new(again)
                },
            ]
        );
    }
}
