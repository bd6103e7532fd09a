package main

import "golang.org/x/sys/unix"

// raise lifts this process's bound of open files as far as it may, and returns it.
func raise() int {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) != nil {
		return 1024
	}
	most := r
	most.Cur, most.Max = max(r.Max, 65536), max(r.Max, 65536)
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &most) == nil { // the superuser may
		return int(most.Cur)
	}
	r.Cur = r.Max
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &r)
	return int(r.Cur)
}
