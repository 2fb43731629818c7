//! Seccomp filters for this thread, and for the processes and threads that it starts.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Makes `calls` fail with EPERM, as a container's filter does.
pub(super) fn refuse(calls: &[i64]) {
    let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    apply(rules, libc::EPERM as u32);
}

/// Makes requests for another send buffer succeed without effect, so that sockets keep the system's
/// default size.
pub(super) fn keep_default_send_buffer() {
    let equals = |argument, value: i32| {
        let (length, operator) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
        SeccompCondition::new(argument, length, operator, value as u64).expect("an argument")
    };
    let rule = |option| {
        let conditions = vec![equals(1, libc::SOL_SOCKET), equals(2, option)];
        SeccompRule::new(conditions).expect("conditions")
    };
    let rules = vec![rule(libc::SO_SNDBUF), rule(libc::SO_SNDBUFFORCE)];
    apply([(libc::SYS_setsockopt, rules)].into(), 0);
}

/// Applies `rules`; calls that match return `errno`.
fn apply(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: u32) {
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        std::env::consts::ARCH
            .try_into()
            .expect("a known processor"),
    );
    let program: BpfProgram = filter.and_then(TryInto::try_into).expect("a valid filter");
    seccompiler::apply_filter(&program).expect("filters are available");
}
