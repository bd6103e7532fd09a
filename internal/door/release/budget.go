package release

import (
	"errors"
	"sync/atomic"
)

// errStoreFull means that all sessions together hold as much on disk as they may. The
// session ends; the client should try again, with less at a time.
var errStoreFull = errors.New("the sessions of this gateway hold as much as they may")

// Store bounds what all sessions of a gateway hold together, so that clients that do not
// read take neither the memory nor the disk from the others and from the service path. It
// is safe for concurrent use.
type Store struct{ memory, disk budget }

// NewStore makes bounds in bytes: of large answers in memory, beyond which they spill, and
// of spill files, beyond which a session ends.
func NewStore(memory, disk int64) *Store {
	return &Store{memory: budget{limit: memory}, disk: budget{limit: disk}}
}

// budget bounds what one session holds in memory.
type budget struct {
	limit int64
	used  atomic.Int64
	store *Store // of all sessions; nil: no bound but the session's own
}

func (b *budget) take(n int64) bool {
	if b == nil {
		return true
	}
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) {
	if b != nil {
		b.used.Add(-n)
	}
}

// memory is the bound of all sessions, nil for none.
func (b *budget) memory() *budget {
	if b.store == nil {
		return nil
	}
	return &b.store.memory
}

// disk is the bound of all sessions' spill files, nil for none.
func (b *budget) disk() *budget {
	if b.store == nil {
		return nil
	}
	return &b.store.disk
}
