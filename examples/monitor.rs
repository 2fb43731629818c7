//! A monitoring probe: prints a line for each candidate, and exits with the status of a Nagios
//! plugin.
//!
//!     cargo run --example monitor -- [KEY_FILE SERVER... | node]
//!
//! `confdctl probe` is a complete probe; this is the smallest one.

mod connect;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use ganeti_confd::client::{
    self, CandidateStatus, ConfdClient, Coverage, Outcome, Settings, WaitFor, question,
};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let connection = connect::connect(std::env::args().skip(1))?;
    let outcome = probe(&connection.client)?;
    for result in outcome.results() {
        let candidate = &result.candidate;
        match &result.state {
            CandidateStatus::Answered {
                reply, round_trip, ..
            } => {
                println!("{candidate} has serial {} ({round_trip:?})", reply.answer);
            }
            CandidateStatus::Unreachable(why) => println!("{candidate} is unreachable: {why}"),
            other => println!("{candidate}: {other:?}"),
        }
    }
    Ok(ExitCode::from(status(&outcome)))
}

/// Asks every candidate for the serial of its configuration, which grows with every change.
fn probe(client: &ConfdClient) -> Result<Outcome, client::Error> {
    let settings = Settings::default()
        .with_coverage(Coverage::All)
        .with_wait_for(WaitFor::All)
        .with_deadline(Duration::from_secs(3));
    client.query_all_with(&question::config("/serial_no"), settings)
}

/// 0: all candidates answer alike. 1: some do not. 2: fewer than a quorum answer.
fn status(outcome: &Outcome) -> u8 {
    let answers: Vec<&str> = outcome
        .results()
        .iter()
        .filter_map(|result| Some(result.reply()?.answer.get()))
        .collect();
    let all_answered = answers.len() == outcome.results().len();
    let all_agree = answers.windows(2).all(|pair| pair[0] == pair[1]);
    match (outcome.is_enough(), all_answered && all_agree) {
        (false, _) => 2,
        (true, false) => 1,
        (true, true) => 0,
    }
}

#[test]
fn a_candidate_that_is_down_is_a_warning_or_worse() -> Result<(), Box<dyn Error>> {
    use ganeti_confd::client::Candidate;
    use ganeti_confd::demo;

    let demo = demo::Server::with_candidates(3, 10, 2)?;
    assert_eq!(status(&probe(&demo.client()?)?), 0);

    // Nothing listens on the discard port.
    let nobody = || Candidate::resolve("127.0.0.1:9");
    let mut candidates = demo.candidates();
    candidates.push(nobody()?);
    let one_down = ConfdClient::new(demo.key(), candidates)?;
    assert_eq!(status(&probe(&one_down)?), 1);
    let half_down = ConfdClient::new(demo.key(), [demo.candidate(), nobody()?])?;
    assert_eq!(status(&probe(&half_down)?), 2);
    Ok(())
}
