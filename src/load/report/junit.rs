//! The requirements as JUnit XML, for the test report of a CI system.

use std::fmt::Write as _;

use super::Report;
use super::markup::escape;

impl Report<'_> {
    /// One test case for the run itself and one for each requirement.
    pub(in super::super) fn junit(&self) -> String {
        let run_failed = self.failures();
        let mut cases = vec![("run".to_owned(), run_failed)];
        cases.extend(self.checks().into_iter().map(|check| {
            let why = format!("{}: measured {}", check.requirement, check.actual);
            let failures = if check.held { Vec::new() } else { vec![why] };
            (check.requirement, failures)
        }));
        let failed = cases.iter().filter(|(_, why)| !why.is_empty()).count();
        let (tests, seconds) = (cases.len(), self.results.seconds);
        let mut out = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <testsuite name=\"confdctl bench\" tests=\"{tests}\" failures=\"{failed}\" \
             time=\"{seconds:.3}\">\n"
        );
        for (name, failures) in cases {
            let name = escape(&name);
            let _ = write!(
                out,
                "<testcase classname=\"confdctl.bench\" name=\"{name}\">"
            );
            for why in failures {
                let _ = write!(out, "<failure message=\"{}\"/>", escape(&why));
            }
            out += "</testcase>\n";
        }
        out + "</testsuite>\n"
    }
}
