//go:build linux && (amd64 || arm64)

package splice

import (
	"fmt"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// receive and transmit never wait, so they may hold the thread's processor: RawSyscall spares
// the scheduler's part of a system call.
func receive(fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), syscall.MSG_DONTWAIT, 0, 0)
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

func transmit(fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

// wait waits for events at most ms milliseconds, for ever if ms < 0. It may wait long, so the
// scheduler must know: a raw call would hold up the collector.
func wait(epoll int, events []unix.EpollEvent, ms int) int {
	n, _, e := syscall.Syscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(ms), 0, 0)
	if e != 0 {
		return 0 // interrupted: the caller comes again
	}
	return int(n)
}

// below finds a connection's socket.
func below(nc net.Conn) (raw syscall.RawConn, err error) {
	if w, wrapped := nc.(Wrapped); wrapped {
		var ok bool
		if nc, ok = w.Unwrap(); !ok {
			return nil, ErrUnsupported
		}
	}
	switch c := nc.(type) {
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	default:
		return nil, ErrUnsupported
	}
	if err != nil {
		return nil, fmt.Errorf("take socket over: %w", err)
	}
	return raw, nil
}

// socket duplicates a connection's descriptor. Closing the connection then takes the original
// out of the runtime's own poller, which would be woken by every packet otherwise.
func socket(nc net.Conn) (int, error) {
	raw, err := below(nc)
	if err != nil {
		return 0, err
	}
	fd := -1
	if cerr := raw.Control(func(old uintptr) {
		fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	}); cerr != nil {
		err = cerr
	}
	if err != nil {
		return 0, fmt.Errorf("take socket over: %w", err)
	}
	return fd, nil
}
