"""The system calls that are refused to submissions, as a program for the kernel's seccomp.

Nobody needs them for the assignment. They make memory that belongs to no process and no limit (memfd_create, System V
segments, a tmpfs of one's own), namespaces in which one has the rights to mount such a tmpfs, hide a process from the
worker that counts its memory, or end that worker by limits of its own. libseccomp knows their numbers on every
processor.
"""

from __future__ import annotations

import errno
import functools
import tempfile

REFUSED = ("memfd_create", "memfd_secret", "shmget", "semget", "msgget", "mq_open", "unshare", "setns", "mount",
           "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick",
           "mount_setattr", "add_key", "request_key", "keyctl", "bpf", "perf_event_open", "userfaultfd",
           "io_uring_setup")
UNKNOWN = "clone3"  # its flags lie in memory, where a filter cannot look; the C library then uses clone
CLONE_NEWUSER, PR_SET_DUMPABLE = 0x10000000, 4


class NoFilter(Exception):
    """This machine cannot make the program: one line with the way out."""


@functools.cache
def program() -> bytes:
    """The filter, as prctl(PR_SET_SECCOMP) takes it. Raises NoFilter."""
    try:
        import pyseccomp as seccomp

        made = seccomp.SyscallFilter(seccomp.ALLOW)
        for name in REFUSED:
            made.add_rule(seccomp.ERRNO(errno.EPERM), name)
        made.add_rule(seccomp.ERRNO(errno.ENOSYS), UNKNOWN)
        made.add_rule(seccomp.ERRNO(errno.EPERM), "clone",
                      seccomp.Arg(0, seccomp.MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER))
        made.add_rule(seccomp.ERRNO(errno.EPERM), "prctl", seccomp.Arg(0, seccomp.EQ, PR_SET_DUMPABLE),
                      seccomp.Arg(1, seccomp.EQ, 0))
        made.add_rule(seccomp.ERRNO(errno.EPERM), "prlimit64", seccomp.Arg(0, seccomp.NE, 0))  # of its worker
        with tempfile.TemporaryFile() as file:
            made.export_bpf(file)
            file.seek(0)
            return file.read()
    except (ImportError, RuntimeError) as error:  # pyseccomp's, where libseccomp is not installed
        raise NoFilter(f"system calls are not filtered ({error}): a submission can hold more memory than its limit; "
                       "pip install pyseccomp, and libseccomp2 of the system") from None
