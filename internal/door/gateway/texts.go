package gateway

import (
	"bytes"
	"hash/maphash"
	"sync"
)

// texts knows statements by a hash of their shape (see shape.go), keyed afresh in every
// process. What a shape means is found out once, by the clerk, never on a session's path: it
// parses the first text of it, which is held only until then.
type texts struct {
	seed  maphash.Seed
	most  int
	queue chan text

	mu    sync.RWMutex
	known map[uint64]meaning
}

type text struct {
	hash uint64
	sql  []byte
}

// meaning is what the Accountant said of a text. The zero value: not known yet.
type meaning struct {
	fingerprint, kind string
	parsed, done      bool
}

// Bounds of texts.
const (
	maxTexts     = 20000
	textsWaiting = 512
)

func newTexts(l Limits) *texts {
	return &texts{seed: maphash.MakeSeed(), most: l.StatementText, queue: make(chan text, textsWaiting), known: map[uint64]meaning{}}
}

// handle returns the number of a statement's text, and has it accounted for if it is new.
// 0 means: too long to be attributed.
func (t *texts) handle(sql []byte) uint64 {
	if len(sql) > t.most {
		return 0
	}
	h := hashShape(t.seed, sql) | 1
	t.mu.RLock()
	_, known := t.known[h]
	t.mu.RUnlock()
	if known {
		return h
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.known[h]; known {
		return h
	}
	select {
	case t.queue <- text{h, bytes.Clone(sql)}:
		if len(t.known) >= maxTexts {
			for old := range t.known { // any: what is used will come back
				delete(t.known, old)
				break
			}
		}
		t.known[h] = meaning{}
	default: // the clerk is behind: this text is asked for again when it comes again
	}
	return h
}

// account has one text looked at.
func (t *texts) account(a Accountant, x text) {
	m := meaning{done: true}
	if a != nil {
		m.fingerprint, m.kind, m.parsed = a.Account(x.sql)
	}
	t.mu.Lock()
	t.known[x.hash] = m
	t.mu.Unlock()
}

// of returns what is known of a handle.
func (t *texts) of(h uint64) meaning {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.known[h]
}
