//! Follows the master: prints its name and address now, and whenever they change.
//!
//!     cargo run --example follow_master -- [KEY_FILE SERVER... | node]
//!
//! It refreshes its list of candidates too, so that it continues to work when all candidates that
//! it started with are gone.

mod connect;

use std::error::Error;
use std::thread;
use std::time::Duration;

use ganeti_confd::client::{self, ConfdClient, Master};

const PERIOD: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let has_cluster = std::env::args().len() > 1;
    let connection = connect::connect(std::env::args().skip(1))?;
    let mut follower = Follower {
        client: &connection.client,
        master: None,
    };
    loop {
        match follower.poll() {
            Ok(Some(master)) => println!("{} is at {}", master.name, master.primary_ip),
            Ok(None) => {}
            // The last known master is still the best guess.
            Err(error) => eprintln!("{error}"),
        }
        // A demo cluster's configuration has addresses that do not exist.
        if has_cluster && let Err(error) = connection.client.refresh_candidates() {
            eprintln!("the list of candidates is unchanged: {error}");
        }
        thread::sleep(PERIOD);
    }
}

/// The last known master.
struct Follower<'a> {
    client: &'a ConfdClient,
    master: Option<Master>,
}

impl Follower<'_> {
    /// Asks for the master. Returns it if it is another one than before.
    fn poll(&mut self) -> Result<Option<&Master>, client::Error> {
        let master = Some(self.client.master_addresses()?);
        if master == self.master {
            return Ok(None);
        }
        self.master = master;
        Ok(self.master.as_ref())
    }
}

#[test]
fn only_a_change_is_returned() -> Result<(), Box<dyn Error>> {
    let connection = connect::connect(std::iter::empty())?;
    let mut follower = Follower {
        client: &connection.client,
        master: None,
    };
    let master = follower.poll()?.expect("none was known").clone();
    assert_eq!(master.name, "node1.example.com");
    assert_eq!(follower.poll()?, None);
    Ok(())
}
