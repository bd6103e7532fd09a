package transform

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"
)

// view is b as a string without a copy; it must not outlive b's next change.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// parseInet reads an address with or without a mask.
func parseInet(src []byte) (netip.Addr, int, bool) {
	mask := -1
	if i := bytes.IndexByte(src, '/'); i >= 0 {
		m, ok := parseInt(src[i+1:])
		if !ok || m < 0 || m > 128 {
			return netip.Addr{}, 0, false
		}
		mask, src = int(m), src[:i]
	}
	if bytes.IndexByte(src, '%') >= 0 || len(src) == 0 {
		return netip.Addr{}, 0, false
	}
	a, err := netip.ParseAddr(view(src))
	if err != nil || mask > a.BitLen() {
		return netip.Addr{}, 0, false
	}
	if mask < 0 {
		mask = a.BitLen()
	}
	return a, mask, true
}

// appendInet prints as PostgreSQL does: the mask is left out when it is full, and IPv6
// addresses whose first 96 bits are zero end in dotted quads.
func appendInet(dst []byte, a netip.Addr, mask int) []byte {
	dst = appendAddr(dst, a)
	if mask != a.BitLen() {
		dst = append(dst, '/')
		dst = strconv.AppendInt(dst, int64(mask), 10)
	}
	return dst
}

func appendAddr(dst []byte, a netip.Addr) []byte {
	if a.Is4() {
		return a.AppendTo(dst)
	}
	b := a.As16()
	if binary.BigEndian.Uint64(b[:8]) == 0 && binary.BigEndian.Uint32(b[8:12]) == 0 && (b[12] != 0 || b[13] != 0) {
		dst = append(dst, "::"...)
		return netip.AddrFrom4([4]byte(b[12:])).AppendTo(dst)
	}
	return a.AppendTo(dst)
}

// inetFunc permutes an address within its family and keeps the mask: IPv4 over 32 bits,
// IPv6 over 128.
func inetFunc(d domainKeys) Func {
	f4, f6 := mustFeistel(d, 16), mustFeistel(d, 64)
	return func(dst, src []byte) ([]byte, bool) {
		a, mask, ok := parseInet(src)
		if !ok {
			return dst, false
		}
		if a.Is4() {
			b := a.As4()
			binary.BigEndian.PutUint32(b[:], uint32(f4.word(uint64(binary.BigEndian.Uint32(b[:])))))
			return appendInet(dst, netip.AddrFrom4(b), mask), true
		}
		b := a.As16()
		f6.bytes16(&b)
		return appendInet(dst, netip.AddrFrom16(b), mask), true
	}
}

// netFunc keeps /24 of IPv4 and /48 of IPv6, or a wider network where that is all there is.
func netFunc(dst, src []byte) ([]byte, bool) {
	a, mask, ok := parseInet(src)
	if !ok {
		return dst, false
	}
	keep := 24
	if !a.Is4() {
		keep = 48
	}
	keep = min(keep, mask)
	p, err := a.Prefix(keep)
	if err != nil {
		return dst, false
	}
	dst = appendAddr(dst, p.Addr())
	dst = append(dst, '/')
	return strconv.AppendInt(dst, int64(keep), 10), true
}
