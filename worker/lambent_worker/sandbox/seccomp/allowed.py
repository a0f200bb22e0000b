"""The system calls that functions may use, by group and with the reason: everything else is refused.

A refused call fails with EPERM. What is newer than NEWEST fails with ENOSYS: a C library that tries a call
first which nobody had heard of when this was written has another way, and takes it only then.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MACHINES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""What Python calls them, and AUDIT_ARCH_* of <linux/audit.h>."""

NEWEST: Final = 469
"""file_setattr, of Linux 6.17. Since Linux 5.1 all machines number new calls alike."""


@dataclass(frozen=True, slots=True)
class Group:
    what: str
    why: str
    calls: str
    """Name and number on each of MACHINES; `-` where it has no such call."""

    def numbers(self, machine: str) -> Iterator[tuple[str, int]]:
        column = 1 + list(MACHINES).index(machine)
        for call in self.calls.split(";"):
            fields = call.split()
            if fields[column] != "-":
                yield fields[0], int(fields[column])


ALLOWED: Final = (
    Group(
        "contents of files",
        "Reading and writing what is open. What can be opened is for the mount namespace to decide.",
        """
        read 0 63; write 1 64; pread64 17 67; pwrite64 18 68; readv 19 65; writev 20 66; preadv 295 69;
        pwritev 296 70; preadv2 327 286; pwritev2 328 287; open 2 -; openat 257 56; openat2 437 437;
        creat 85 -; close 3 57; close_range 436 436; lseek 8 62; dup 32 23; dup2 33 -; dup3 292 24;
        fcntl 72 25; flock 73 32; ftruncate 77 46; truncate 76 45; fallocate 285 47; fadvise64 221 223;
        readahead 187 213; fsync 74 82; fdatasync 75 83; sync 162 81; syncfs 306 267;
        sync_file_range 277 84; msync 26 227; sendfile 40 71; splice 275 76; tee 276 77;
        vmsplice 278 75; copy_file_range 326 285; memfd_create 319 279
        """,
    ),
    Group(
        "names and attributes of files",
        "Permissions are the kernel's business, and a function has no capabilities.",
        """
        access 21 -; faccessat 269 48; faccessat2 439 439; stat 4 -; fstat 5 80; lstat 6 -;
        newfstatat 262 79; statx 332 291; statfs 137 43; fstatfs 138 44; getcwd 79 17; chdir 80 49;
        fchdir 81 50; getdents 78 -; getdents64 217 61; mkdir 83 -; mkdirat 258 34; rmdir 84 -;
        link 86 -; linkat 265 37; unlink 87 -; unlinkat 263 35; symlink 88 -; symlinkat 266 36;
        readlink 89 -; readlinkat 267 78; rename 82 -; renameat 264 38; renameat2 316 276; mknod 133 -;
        mknodat 259 33; chmod 90 -; fchmod 91 52; fchmodat 268 53; fchmodat2 452 452; chown 92 -;
        fchown 93 55; lchown 94 -; fchownat 260 54; umask 95 166; utime 132 -; utimes 235 -;
        utimensat 280 88; futimesat 261 -; setxattr 188 5; lsetxattr 189 6; fsetxattr 190 7;
        setxattrat 463 463; getxattr 191 8; lgetxattr 192 9; fgetxattr 193 10; getxattrat 464 464;
        listxattr 194 11; llistxattr 195 12; flistxattr 196 13; listxattrat 465 465; removexattr 197 14;
        lremovexattr 198 15; fremovexattr 199 16; removexattrat 466 466; file_getattr 468 468;
        file_setattr 469 469; inotify_init 253 -; inotify_init1 294 26; inotify_add_watch 254 27;
        inotify_rm_watch 255 28
        """,
    ),
    Group(
        "memory",
        "Of the calling process alone.",
        """
        brk 12 214; mmap 9 222; munmap 11 215; mremap 25 216; mprotect 10 226; madvise 28 233;
        mincore 27 232; mlock 149 228; mlock2 325 284; munlock 150 229; mlockall 151 230;
        munlockall 152 231; mseal 462 462; membarrier 324 283; get_mempolicy 239 236;
        pkey_alloc 330 289; pkey_free 331 290; pkey_mprotect 329 288; map_shadow_stack 453 453;
        cachestat 451 451
        """,
    ),
    Group(
        "processes",
        "Starting them, waiting for them, lowering their own rights.",
        """
        fork 57 -; vfork 58 -; execve 59 221; execveat 322 281; exit 60 93; exit_group 231 94;
        wait4 61 260; waitid 247 95; set_tid_address 218 96; set_robust_list 273 99;
        get_robust_list 274 100; rseq 334 293; arch_prctl 158 -; getpid 39 172; getppid 110 173;
        gettid 186 178; getpgid 121 155; getpgrp 111 -; setpgid 109 154; getsid 124 156; setsid 112 157;
        prctl 157 167; seccomp 317 277; landlock_create_ruleset 444 444; landlock_add_rule 445 445;
        landlock_restrict_self 446 446; getuid 102 174; geteuid 107 175; getgid 104 176;
        getegid 108 177; getresuid 118 148; getresgid 120 150; getgroups 115 158; setuid 105 146;
        setgid 106 144; setreuid 113 145; setregid 114 143; setresuid 117 147; setresgid 119 149;
        setgroups 116 159; setfsuid 122 151; setfsgid 123 152; capget 125 90; capset 126 91;
        getrlimit 97 163; setrlimit 160 164; prlimit64 302 261; getrusage 98 165; times 100 153;
        sysinfo 99 179; uname 63 160; getcpu 309 168; getpriority 140 141; setpriority 141 140;
        ioprio_get 252 31; ioprio_set 251 30; sched_yield 24 124; sched_getaffinity 204 123;
        sched_setaffinity 203 122; sched_getparam 143 121; sched_setparam 142 118;
        sched_getscheduler 145 120; sched_setscheduler 144 119; sched_getattr 315 275;
        sched_setattr 314 274; sched_get_priority_max 146 125; sched_get_priority_min 147 126;
        sched_rr_get_interval 148 127; pidfd_open 434 434
        """,
    ),
    Group(
        "signals",
        "Only processes of its own pid namespace can be named.",
        """
        kill 62 129; tkill 200 130; tgkill 234 131; rt_sigaction 13 134; rt_sigprocmask 14 135;
        rt_sigpending 127 136; rt_sigsuspend 130 133; rt_sigtimedwait 128 137; rt_sigqueueinfo 129 138;
        rt_tgsigqueueinfo 297 240; rt_sigreturn 15 139; sigaltstack 131 132; restart_syscall 219 128;
        pause 34 -; signalfd 282 -; signalfd4 289 74; pidfd_send_signal 424 424
        """,
    ),
    Group(
        "waiting and time",
        "Clocks are read, never set.",
        """
        futex 202 98; futex_waitv 449 449; futex_wake 454 454; futex_wait 455 455;
        futex_requeue 456 456; poll 7 -; ppoll 271 73; select 23 -; pselect6 270 72; epoll_create 213 -;
        epoll_create1 291 20; epoll_ctl 233 21; epoll_wait 232 -; epoll_pwait 281 22;
        epoll_pwait2 441 441; eventfd 284 -; eventfd2 290 19; nanosleep 35 101; clock_nanosleep 230 115;
        clock_gettime 228 113; clock_getres 229 114; gettimeofday 96 169; time 201 -; alarm 37 -;
        getitimer 36 102; setitimer 38 103; timer_create 222 107; timer_settime 223 110;
        timer_gettime 224 108; timer_getoverrun 225 109; timer_delete 226 111; timerfd_create 283 85;
        timerfd_settime 286 86; timerfd_gettime 287 87; io_setup 206 0; io_destroy 207 1;
        io_submit 209 2; io_cancel 210 3; io_getevents 208 4; io_pgetevents 333 292; getrandom 318 278
        """,
    ),
    Group(
        "talking to each other",
        "Which addresses answer is for the network namespace to decide.",
        """
        pipe 22 -; pipe2 293 59; bind 49 200; listen 50 201; accept 43 202; accept4 288 242;
        connect 42 203; getsockname 51 204; getpeername 52 205; sendto 44 206; recvfrom 45 207;
        sendmsg 46 211; recvmsg 47 212; sendmmsg 307 269; recvmmsg 299 243; shutdown 48 210;
        setsockopt 54 208; getsockopt 55 209; semget 64 190; semop 65 193; semtimedop 220 192;
        semctl 66 191; shmget 29 194; shmat 30 196; shmdt 67 197; shmctl 31 195; msgget 68 186;
        msgsnd 69 189; msgrcv 70 188; msgctl 71 187; mq_open 240 180; mq_unlink 241 181;
        mq_timedsend 242 182; mq_timedreceive 243 183; mq_notify 244 184; mq_getsetattr 245 185
        """,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Of the lower half of an argument, which is all that the kernel looks at in those below."""

    argument: int
    one_of: tuple[int, ...] = ()
    none_of: tuple[int, ...] = ()
    no_bits: int = 0


@dataclass(frozen=True, slots=True)
class Checked:
    group: Group
    """Of one call."""
    ways: tuple[tuple[Condition, ...], ...]
    """It is allowed if all conditions of any of these hold."""


_NAMESPACES: Final = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET. NEWTIME is for clone3 and unshare."""
_CLONE_PARENT: Final = 0x8000
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_NETLINK_ROUTE: Final = 0
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_HARMLESS_PERSONALITIES: Final = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""PER_LINUX and PER_LINUX32, each with UNAME26 or not, and the question for the present one."""

CHECKED: Final = (
    Checked(
        Group(
            "clone",
            "Threads and processes, but none in namespaces of their own, and none for the parent to reap: "
            "that is the fork server or a zygote.",
            "clone 56 220",
        ),
        ((Condition(argument=0, no_bits=_NAMESPACES | _CLONE_PARENT),),),
    ),
    Checked(
        Group(
            "socket",
            "Internet and Unix sockets; of netlink the list of addresses, which glibc and Go ask for.",
            "socket 41 198",
        ),
        (
            (Condition(argument=0, one_of=(_UNIX, _INET, _INET6)),),
            (Condition(argument=0, one_of=(_NETLINK,)), Condition(argument=2, one_of=(_NETLINK_ROUTE,))),
        ),
    ),
    Checked(
        Group("socketpair", "No other family has pairs that a function needs.", "socketpair 53 199"),
        ((Condition(argument=0, one_of=(_UNIX,)),),),
    ),
    Checked(
        Group("personality", "Others switch protections of memory off.", "personality 135 92"),
        ((Condition(argument=0, one_of=_HARMLESS_PERSONALITIES),),),
    ),
    Checked(
        Group("ioctl", "All but typing into the terminal of whoever started the worker.", "ioctl 16 29"),
        ((Condition(argument=1, none_of=(_TIOCSTI, _TIOCLINUX)),),),
    ),
)

OF_SNAPSHOTS: Final = (
    Group(
        "setns",
        "To enter the sandboxes of its function's instances: it has power over the namespaces of no others.",
        "setns 308 268",
    ),
)
"""What a snapshot may use besides, until it forks."""

ABSENT: Final = (
    Group(
        "clone3",
        "Its flags cannot be checked; told that it is absent, C libraries use clone.",
        "clone3 435 435",
    ),
)
"""These fail with ENOSYS."""
