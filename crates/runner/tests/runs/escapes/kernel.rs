//! The kernel: privileges, mounts, namespaces, devices, settings, and calls nobody needs.

use std::fs;

use super::arena::{self, Arena};
use super::{Attempt, NONE, WALLS, attempt, got_through, is_root};

/// A system call with harmless arguments; it counts as refused only if it is refused as a matter
/// of principle.
fn call(name: &str, x86_64: u32, other: u32, arguments: &str) -> Attempt {
    let number = if cfg!(target_arch = "x86_64") {
        x86_64
    } else {
        other
    };
    attempt(
        format!("call {name}"),
        format!(
            "perl -e 'syscall({number}, {arguments}) == -1 or exit 0; exit($!+0 == 1 ? 1 : 0)'"
        ),
    )
}

fn calls(_: &Arena) -> Vec<Attempt> {
    vec![
        call("keyctl", 250, 219, "0, -3, 0"),
        call("add_key", 248, 217, "0, 0, 0, 0, 0"),
        call("request_key", 249, 218, "0, 0, 0, 0"),
        call("io_uring_setup", 425, 425, "1, 0"),
        call("userfaultfd", 323, 282, "-1"),
        call("bpf", 321, 280, "-1, 0, 0").control_if(is_root()),
        call("perf_event_open", 298, 241, "0, 0, 0, 0, 0").control_if(is_root()),
        call("open_by_handle_at", 304, 265, "-1, 0, 0").control_if(is_root()),
        call("mount", 165, 40, "0, 0, 0, 0, 0").control_if(is_root()),
        call("unshare", 272, 97, "0"),
        call("setns", 308, 268, "-1, 0"),
        call("fsopen", 430, 430, "0, 0").control_if(is_root()),
        call("open_tree", 428, 428, "-1, 0, 0"),
        call("kexec_load", 246, 104, "0, 0, 0, 0").harmful(),
        call("a call of the x32 ABI", 0x4000_0000 + 250, 219, "0, -3, 0"),
        socket("vsock", 40),
        socket("packet", 17).control_if(is_root()),
        socket("alg", 38),
        attempt(
            "type into the terminal",
            "perl -e 'my $c = \"x\"; ioctl(STDIN, 0x5412, $c) and exit 0; exit($!+0 == 1 ? 1 : 0)'",
        ),
        attempt(
            "type into the terminal with high bits set",
            "perl -e 'my $c = \"x\"; syscall(16, 0, 0x100005412, $c) == 0 and exit 0; exit($!+0 == 1 ? 1 : 0)'",
        )
        .control_if(cfg!(target_arch = "x86_64")),
    ]
}

fn socket(name: &str, family: u32) -> Attempt {
    attempt(
        format!("open a socket of the family {name}"),
        format!("perl -e 'socket(S, {family}, 1, 0) and exit 0; exit($!+0 == 1 ? 1 : 0)'"),
    )
}

#[tokio::test]
async fn calls_that_no_build_needs_are_refused() {
    assert_eq!(got_through(&WALLS, calls).await, NONE);
}

fn powers(_: &Arena) -> Vec<Attempt> {
    let status = |field: &str| format!("grep -q '^{field}' /proc/self/status");
    vec![
        attempt("gain privileges by a program", status("NoNewPrivs:.0")),
        attempt("have a capability", status("CapEff:.*[1-9a-f]")).control_if(is_root()),
        attempt("have one in reserve", status("CapBnd:.*[1-9a-f]")),
        attempt("run without a filter", status("Seccomp:.0")),
        attempt("make a user namespace", "unshare --user true").control_if(is_root()),
        attempt("make a mount namespace", "unshare --mount true").control_if(is_root()),
        attempt(
            "make one with capabilities",
            "unshare --user --map-root-user --mount mount -t tmpfs none /mnt",
        )
        .control_if(is_root()),
        attempt("mount", "mount -t tmpfs none /mnt").harmful(),
        attempt("mount a directory elsewhere", "mount --bind / /mnt").harmful(),
        attempt(
            "make the root writable",
            "mount -o remount,rw /; mount -o remount,rw /etc",
        )
        .harmful(),
        attempt(
            "unmount what hides something",
            "umount /etc/shadow || umount /tmp",
        )
        .harmful(),
        attempt("change the root", "chroot /usr /bin/true").control_if(is_root()),
    ]
}

fn devices_and_settings(_: &Arena) -> Vec<Attempt> {
    vec![
        attempt("make a device", "mknod device b 7 0").control_if(is_root()),
        attempt("read a disk", "find /dev -type b | grep -q .").harmful(),
        attempt(
            "read the memory",
            "head -c 1 /dev/mem || head -c 1 /dev/kmem || head -c 1 /proc/kcore",
        )
        .harmful(),
        attempt("read the kernel's log", "dmesg || head -c 1 /dev/kmsg").harmful(),
        attempt(
            "find other devices",
            "ls /dev/kvm /dev/fuse /dev/net/tun /dev/loop-control 2>/dev/null | grep -q .",
        )
        .harmful(),
        attempt("set the clock", "date -s @0").harmful(),
        attempt("set the machine's name", "hostname agent-server-escape")
            .harmful()
            .or_shows(|_| {
                fs::read_to_string("/proc/sys/kernel/hostname")
                    .unwrap()
                    .contains("escape")
            }),
        attempt("send a magic key", "echo h > /proc/sysrq-trigger").harmful(),
        attempt(
            "change where core files go",
            "cat /proc/sys/kernel/core_pattern > core; cat core > /proc/sys/kernel/core_pattern",
        )
        .control_if(is_root()),
        attempt("leave a core file", "test \"$(ulimit -Hc)\" != 0").control_if(false),
        attempt(
            "change any setting of the kernel",
            "find /proc/sys -type f -writable 2>/dev/null | grep -q .",
        )
        .control_if(is_root()),
        attempt(
            "change any device's setting",
            "find /sys -type f -writable 2>/dev/null | grep -q .",
        )
        .control_if(is_root()),
        attempt(
            "leave the control group",
            "find /sys/fs/cgroup -name cgroup.procs -writable 2>/dev/null | grep -q .",
        )
        .control_if(is_root()),
        attempt("change the mode of /dev/null", "chmod 666 /dev/null")
            .control_if(is_root())
            .shows(|arena| arena::changed("/dev/null") != arena.null_changed),
    ]
}

#[tokio::test]
async fn no_power_over_the_machine_is_had() {
    assert_eq!(got_through(&WALLS, powers).await, NONE);
    assert_eq!(got_through(&WALLS, devices_and_settings).await, NONE);
}
