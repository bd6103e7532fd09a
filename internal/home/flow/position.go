package flow

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in the source's write-ahead log.
type LSN uint64

// String is the position as PostgreSQL prints it.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// ParseLSN reads what PostgreSQL prints.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	h, err1 := strconv.ParseUint(hi, 16, 32)
	l, err2 := strconv.ParseUint(lo, 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, errors.New("read log position: it is not one")
	}
	return LSN(h<<32 | l), nil
}

// Snapshot says which transactions a snapshot sees.
type Snapshot struct {
	max     uint32 // the first that had not begun
	running map[uint32]bool
}

// ParseSnapshot reads pg_current_snapshot()::text: xmin:xmax:running,…
func ParseSnapshot(s string) (Snapshot, error) {
	bad := errors.New("read snapshot: it is not one")
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return Snapshot{}, bad
	}
	out := Snapshot{running: map[uint32]bool{}}
	top, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return Snapshot{}, bad
	}
	out.max = uint32(top)
	for _, x := range strings.Split(parts[2], ",") {
		if x == "" {
			continue
		}
		id, err := strconv.ParseUint(x, 10, 64)
		if err != nil {
			return Snapshot{}, bad
		}
		out.running[uint32(id)] = true
	}
	return out, nil
}

// Sees says whether the snapshot sees a committed transaction. The stream has the lower 32
// bits of ids; a transaction that matters is less than 2^31 away.
func (s Snapshot) Sees(xid uint32) bool { return int32(xid-s.max) < 0 && !s.running[xid] }
