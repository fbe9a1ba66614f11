//! What a process behind the wall may not ask the kernel for, where namespaces do not see to it.

use std::io;

use landlock::{ABI, Access as _, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, Scope};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Kinds of sockets that a build has use for. Others reach past the network namespace (to the
/// machine that hosts a virtual one) or into rarely used parts of the kernel.
const SOCKET_FAMILIES: [i32; 4] = [
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

/// TIOCSTI and TIOCLINUX: what is typed into a terminal in its user's name. The same number on
/// every kind of processor that the filter is made for.
const TERMINAL_INPUT: [u64; 2] = [0x5412, 0x541c];

/// Refused always: keys of the kernel's keyrings, which namespaces do not divide; mounts and
/// namespaces; parts of the kernel that no build needs and that were ways out of containers.
const REFUSED: [i64; 33] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// Calls of the x32 ABI have the same numbers with this bit.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

/// The filter that bubblewrap puts on, as the kernel takes it; `None` for a kind of processor that
/// it cannot be made for.
pub(super) fn filter() -> io::Result<Option<Vec<u8>>> {
    let Ok(arch) = std::env::consts::ARCH.try_into() else {
        return Ok(None);
    };
    let mut rules: Vec<(i64, Vec<SeccompRule>)> =
        REFUSED.into_iter().map(|call| (call, Vec::new())).collect();
    let other_family = SOCKET_FAMILIES
        .into_iter()
        .map(|family| condition(0, SeccompCmpOp::Ne, u64::from(family.unsigned_abs())))
        .collect::<io::Result<Vec<_>>>()?;
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        let rule = SeccompRule::new(other_family.clone()).map_err(io::Error::other)?;
        rules.push((call, vec![rule]));
    }
    let typing = TERMINAL_INPUT.into_iter().map(|request| {
        SeccompRule::new(vec![condition(1, SeccompCmpOp::Eq, request)?]).map_err(io::Error::other)
    });
    rules.push((libc::SYS_ioctl, typing.collect::<io::Result<_>>()?));
    #[cfg(target_arch = "x86_64")]
    for at in 0..rules.len() {
        let (call, same) = rules[at].clone();
        rules.push((call | X32, same));
    }
    let filter = SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        arch,
    );
    let program: BpfProgram = filter
        .and_then(TryInto::try_into)
        .map_err(io::Error::other)?;
    let instruction = |one: &seccompiler::sock_filter| {
        let [code_low, code_high] = one.code.to_ne_bytes();
        let [k0, k1, k2, k3] = one.k.to_ne_bytes();
        [code_low, code_high, one.jt, one.jf, k0, k1, k2, k3]
    };
    Ok(Some(program.iter().flat_map(instruction).collect()))
}

fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> io::Result<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
        .map_err(io::Error::other)
}

/// Keeps this process and what it starts from the abstract sockets of others, which only network
/// namespaces divide; from Linux 6.12.
pub(super) fn scope() -> io::Result<()> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .scope(Scope::from_all(ABI::V6))
        .and_then(Ruleset::create)
        .map_err(io::Error::other)?;
    ruleset.restrict_self().map_err(io::Error::other)?;
    Ok(())
}
