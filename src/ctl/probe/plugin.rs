//! The result of a probe as a monitoring plugin prints it: one line with the state, a summary and
//! performance data, then a table for people.

use std::fmt::Write as _;
use std::time::Duration;

use super::super::format::milliseconds;
use super::super::limits::Thresholds;
use super::super::table::{Alignment, Column, Table};
use super::health::{CandidateHealth, Health};
use crate::client::Skew;
use crate::printable::printable;

/// Everything that is printed.
pub(super) fn text(health: &Health) -> String {
    let mut text = format!(
        "CONFD {} - {}|{}\n",
        health.service_state().name(),
        summary(health),
        performance(health)
    );
    text += &candidates(health).aligned(Alignment {
        width: None,
        headings: true,
        color: false,
    });
    for check in health.checks.iter().flatten() {
        let state = if check.ok { "OK" } else { "FAILED" };
        let _ = writeln!(
            text,
            "{state:6}  {}: {}",
            check.name,
            printable(&check.text)
        );
    }
    text
}

/// The first line without performance data.
pub(super) fn summary(health: &Health) -> String {
    let mut text = format!(
        "{} of {} candidates answer",
        health.up(),
        health.candidates.len()
    );
    if health.up() < health.needed {
        let _ = write!(text, ", {} are needed", health.needed);
    }
    if let Some(serial) = health.newest() {
        let _ = write!(text, ", serial {serial}");
    }
    for problem in problems(health) {
        let _ = write!(text, "; {problem}");
    }
    // A bar starts the performance data, and a line feed the table.
    printable(&text).replace('|', "/")
}

/// One sentence for each problem.
pub(super) fn problems(health: &Health) -> Vec<String> {
    let of_candidates = health.problems();
    let mut problems: Vec<String> = of_candidates
        .map(|(name, problem)| format!("{name}: {}", problem.text))
        .collect();
    problems.extend(health.file_problem());
    problems.extend(health.age_problem().map(|(_, text)| text));
    let checks = health.checks.iter().flatten();
    let failed = checks.filter(|check| !check.ok);
    problems.extend(failed.map(|check| format!("{} failed", check.name)));
    if health.is_own_clock_off() {
        problems.push(
            "all clocks differ from this host's by the same amount: check this host's clock".into(),
        );
    }
    problems
}

/// The performance data: `name=value;warning;critical;minimum;maximum`.
fn performance(health: &Health) -> String {
    let (all, needed) = (health.candidates.len(), health.needed);
    let mut text = format!("up={};{all}:;{needed}:;0;{all}", health.up());
    let candidates = || health.candidates.iter();
    let limits = &health.limits;
    let thresholds = |of: &dyn Fn(&Thresholds) -> Option<String>| {
        let [warning, critical] = [&limits.warning, &limits.critical].map(of);
        let [warning, critical] = [warning, critical].map(Option::unwrap_or_default);
        format!("{warning};{critical};0;")
    };
    let seconds = |time: Duration| time.as_secs_f64().to_string();
    if let Some(lag) = candidates().filter_map(CandidateHealth::lag).max() {
        let thresholds = thresholds(&|it| it.lag.map(|lag| lag.to_string()));
        let _ = write!(text, " lag={lag};{thresholds}");
    }
    if let Some(skew) = health.skew_max() {
        let thresholds = thresholds(&|it| it.skew.map(seconds));
        let _ = write!(text, " skew={skew}s;{thresholds}");
    }
    if let Some(time) = candidates().filter_map(CandidateHealth::round_trip).max() {
        let thresholds = thresholds(&|it| it.round_trip.map(seconds));
        let _ = write!(text, " rtt={:.6}s;{thresholds}", time.as_secs_f64());
    }
    if let Some(age) = health.age {
        let thresholds = thresholds(&|it| it.age.map(seconds));
        let _ = write!(text, " age={}s;{thresholds}", age.as_secs());
    }
    text
}

/// One row per candidate.
pub(super) fn candidates(health: &Health) -> Table {
    let mut table = Table::new([
        Column::new("CANDIDATE"),
        Column::state("STATE"),
        Column::new("SERIAL"),
        Column::optional("BEHIND", 2),
        Column::optional("CLOCK", 1),
        Column::optional("ROUND TRIP", 3),
        Column::new(""),
    ]);
    for it in &health.candidates {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.push([
            it.name.clone(),
            it.state.name().to_owned(),
            or_dash(it.serial().map(|serial| serial.to_string())),
            or_dash(it.lag().map(|lag| lag.to_string())),
            or_dash(it.skew.map(clock)),
            or_dash(it.round_trip().map(milliseconds)),
            it.advice(),
        ]);
    }
    table
}

/// A clock's distance, such as `+12 s`, with the uncertainty if it is more than a second.
fn clock(skew: Skew) -> String {
    match skew.within {
        0 | 1 => format!("{:+} s", skew.seconds),
        within => format!("{:+} s (within {within})", skew.seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::super::health::testing::{down, health, up};
    use super::super::health::{Check, ProbeState};
    use super::*;

    fn first_line(health: &Health) -> String {
        text(health).lines().next().expect("a line").to_owned()
    }

    #[test]
    fn healthy_candidates_are_ok() {
        let health = health(vec![up("a", 77, 0, 0), up("b", 77, 0, -1)]);
        assert_eq!(
            first_line(&health),
            "CONFD OK - 2 of 2 candidates answer, serial 77|up=2;2:;2:;0;2 lag=0;0;;0; skew=1s;60;;0; rtt=0.000412s;;;0;"
        );
    }

    #[test]
    fn a_candidate_that_is_down_old_or_off_by_a_minute_is_a_warning() {
        let silent = down("c", ProbeState::Silent, Some(605));
        let refused = down("d", ProbeState::Unreachable("refused".to_owned()), None);
        let health = health(vec![
            up("a", 77, 0, 0),
            up("b", 70, 7, 61),
            silent,
            refused,
            up("e", 77, 0, 0),
        ]);
        let line = first_line(&health);
        for part in [
            "CONFD WARNING - 3 of 5 candidates answer, serial 77; ",
            "; b: serial 7 behind, clock 1m 1s ahead; ",
            "; c: no answer, clock 10m 5s ahead; ",
            "; d: down (refused)|up=3;5:;3:;0;5 lag=7;0;;0; skew=605s;",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(text(&health).contains("key correct, clock wrong"));
    }

    #[test]
    fn fewer_than_the_safe_number_are_critical() {
        let silent = |name: &str| down(name, ProbeState::Silent, None);
        let some = health(vec![up("a", 77, 0, 0), silent("b"), silent("c")]);
        assert!(
            first_line(&some).starts_with(
                "CONFD CRITICAL - 1 of 3 candidates answer, 2 are needed, serial 77; b"
            )
        );
        let none = health(vec![silent("a")]);
        assert!(first_line(&none).ends_with("a: no answer|up=0;1:;1:;0;1"));
    }

    #[test]
    fn equal_skews_point_at_the_clock_of_this_host() {
        let alike = health(vec![up("a", 77, 0, -90), up("b", 77, 0, -91)]);
        assert!(first_line(&alike).contains("check this host's clock"));
        let differently = health(vec![up("a", 77, 0, -90), up("b", 77, 0, 90)]);
        assert!(!first_line(&differently).contains("check this host's clock"));
    }

    #[test]
    fn failed_checks_are_listed() {
        let mut health = health(vec![up("a", 77, 0, 0)]);
        health.checks = Some(vec![Check {
            name: "ping",
            ok: false,
            text: "no answer".to_owned(),
        }]);
        assert!(text(&health).ends_with("FAILED  ping: no answer\n"));
    }
}
