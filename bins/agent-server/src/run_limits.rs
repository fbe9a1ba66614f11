//! Settings about what one run may use of the machine.

use agent_runner::Limits;
use anyhow::bail;
use clap::Args;

/// Below this no agent starts.
const MEMORY_MIN: u64 = 64 * 1024 * 1024;
/// Below this the CLI and one tool do not get their threads.
const PROCESSES_MIN: u32 = 64;
/// In thousandths of a processor: from a twentieth to more than any machine has.
const CPU_MILLIS: std::ops::RangeInclusive<f64> = 50.0..=1_000_000.0;

/// What an operator can set about runs; an empty text counts as not set.
#[derive(Debug, Args)]
pub(crate) struct RunLimitSettings {
    /// Memory that one run may use: bytes, or a number with K, M, G or T. No limit where not set.
    #[arg(
        long = "agent-memory-max",
        env = "AGENT_MEMORY_MAX",
        default_value = ""
    )]
    memory: String,
    /// Processes and threads that one run may have at the same time; 0 is no limit.
    #[arg(
        long = "agent-processes-max",
        env = "AGENT_PROCESSES_MAX",
        default_value_t = 4096
    )]
    processes: u32,
    /// Processors that one run may use, 1.5 for instance. No limit where not set.
    #[arg(long = "agent-cpu-max", env = "AGENT_CPU_MAX", default_value = "")]
    cpu: String,
}

impl RunLimitSettings {
    pub(crate) fn check(&self) -> anyhow::Result<Limits> {
        run_limits(&self.memory, self.processes, &self.cpu)
    }
}

fn run_limits(memory: &str, processes: u32, cpu: &str) -> anyhow::Result<Limits> {
    if (1..PROCESSES_MIN).contains(&processes) {
        bail!("AGENT_PROCESSES_MAX must be at least {PROCESSES_MIN}, or 0 for no limit");
    }
    Ok(Limits {
        memory: memory_max(memory)?,
        processes: (processes > 0).then_some(processes),
        cpu_millis: cpu_max(cpu)?,
    })
}

fn memory_max(text: &str) -> anyhow::Result<Option<u64>> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => 0,
    };
    let bytes = digits
        .parse()
        .ok()
        .and_then(|count: u64| count.checked_mul(unit));
    match bytes {
        Some(bytes) if bytes >= MEMORY_MIN => Ok(Some(bytes)),
        Some(_) if unit > 0 => bail!("AGENT_MEMORY_MAX must be at least 64M"),
        _ => bail!("AGENT_MEMORY_MAX must be bytes, or a number with K, M, G or T: {text:?}"),
    }
}

fn cpu_max(text: &str) -> anyhow::Result<Option<u32>> {
    if text.is_empty() {
        return Ok(None);
    }
    let millis = text
        .parse()
        .ok()
        .map(|processors: f64| (processors * 1000.0).round());
    match millis.filter(|millis| CPU_MILLIS.contains(millis)) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number within the range"
        )]
        Some(millis) => Ok(Some(millis as u32)),
        None => bail!("AGENT_CPU_MAX must be a number of processors from 0.05 to 1000: {text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_a_run_are_read_in_their_units_and_nonsense_is_refused() {
        let memory = |text| memory_max(text).ok();
        assert_eq!(memory(""), Some(None));
        assert_eq!(memory("67108864"), Some(Some(64 << 20)));
        assert_eq!(memory("3g"), Some(Some(3 << 30)));
        for text in [
            "4",
            "63M",
            "G",
            "4GB",
            "-4G",
            "1.5G",
            "99999999999T",
            "\u{fc}",
            "4\u{fc}",
        ] {
            let error = memory_max(text).unwrap_err().to_string();
            assert!(error.contains("AGENT_MEMORY_MAX"), "{text}: {error}");
        }
        assert_eq!(cpu_max("1.5").unwrap(), Some(1500));
        assert_eq!(cpu_max("").unwrap(), None);
        for text in ["0", "-1", "NaN", "inf", "two", "0.01", "1001"] {
            assert!(cpu_max(text).is_err(), "{text}");
        }
        assert_eq!(run_limits("", 0, "").unwrap(), Limits::default());
        assert!(run_limits("", 63, "").is_err() && run_limits("", 64, "").is_ok());
    }
}
