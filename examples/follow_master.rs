//! A resolver that follows the master: prints its name and address now, and whenever they change.
//!
//!     cargo run --example follow_master -- [KEY_FILE SERVER... | node]
//!
//! It keeps its list of candidates up to date as well, so that it outlives all of those it was told about.

mod connect;

use std::error::Error;
use std::thread;
use std::time::Duration;

use ganeti_confd::client::{self, ConfdClient, Master};

const PERIOD: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let has_cluster = std::env::args().len() > 1;
    let connection = connect::connect(std::env::args().skip(1))?;
    let mut resolver = Resolver {
        client: &connection.client,
        master: None,
    };
    loop {
        match resolver.look() {
            Ok(Some(master)) => println!("{} is at {}", master.name, master.primary_ip),
            Ok(None) => {}
            // The last master known is still the best guess.
            Err(error) => eprintln!("{error}"),
        }
        // The addresses in a demo cluster's configuration are nobody's.
        if has_cluster && let Err(error) = connection.client.refresh_candidates() {
            eprintln!("the candidates stay as they are: {error}");
        }
        thread::sleep(PERIOD);
    }
}

/// Knows the master, as far as it has been told.
struct Resolver<'a> {
    client: &'a ConfdClient,
    master: Option<Master>,
}

impl Resolver<'_> {
    /// The master, if it is another one than before.
    fn look(&mut self) -> Result<Option<&Master>, client::Error> {
        let master = Some(self.client.master_addresses()?);
        if master == self.master {
            return Ok(None);
        }
        self.master = master;
        Ok(self.master.as_ref())
    }
}

#[test]
fn only_a_change_is_told() -> Result<(), Box<dyn Error>> {
    let connection = connect::connect(std::iter::empty())?;
    let mut resolver = Resolver {
        client: &connection.client,
        master: None,
    };
    let master = resolver.look()?.expect("none was known").clone();
    assert_eq!(master.name, "node1.example.com");
    assert_eq!(resolver.look()?, None);
    Ok(())
}
