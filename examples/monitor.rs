//! A monitoring probe: a line for each candidate, and the exit status of a Nagios plugin.
//!
//!     cargo run --example monitor -- [KEY_FILE SERVER... | node]
//!
//! `confdctl probe` is the whole thing; this is how little it takes.

mod connect;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use ganeti_confd::client::{
    CandidateStatus, ConfdClient, Coverage, Outcome, Settings, WaitFor, question,
};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let connection = connect::connect(std::env::args().skip(1))?;
    let outcome = probe(&connection.client)?;
    for contact in outcome.results() {
        let candidate = &contact.candidate;
        match &contact.state {
            CandidateStatus::Answered {
                reply, round_trip, ..
            } => {
                println!("{candidate} has serial {} ({round_trip:?})", reply.answer);
            }
            CandidateStatus::Unreachable(why) => println!("{candidate} is unreachable: {why}"),
            CandidateStatus::Silent => println!("{candidate} is silent"),
        }
    }
    Ok(ExitCode::from(status(&outcome)))
}

/// Asks every candidate for its configuration's own serial, which grows with every change.
fn probe(client: &ConfdClient) -> Result<Outcome, ganeti_confd::client::Error> {
    let settings = Settings {
        coverage: Coverage::All,
        patience: WaitFor::All,
        deadline: Duration::from_secs(3),
    };
    client.query_all_with(&question::config("/serial_no"), settings)
}

/// 0 if all is well, 2 if answers are not safe any more, 1 if something less is wrong.
fn status(outcome: &Outcome) -> u8 {
    let answers: Vec<&str> = outcome
        .results()
        .iter()
        .filter_map(|contact| Some(contact.reply()?.answer.get()))
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

    let demo = demo::Server::start(3, 10)?;
    let all_well = ConfdClient::new(demo.key(), [demo.candidate()])?;
    assert_eq!(status(&probe(&all_well)?), 0);

    // Nobody listens on the discard port.
    let nobody = Candidate::resolve("127.0.0.1:9")?;
    let same = || demo.candidate();
    let one_down = ConfdClient::new(demo.key(), [same(), same(), nobody.clone()])?;
    assert_eq!(status(&probe(&one_down)?), 1);
    let half_down = ConfdClient::new(demo.key(), [same(), nobody])?;
    assert_eq!(status(&probe(&half_down)?), 2);
    Ok(())
}
