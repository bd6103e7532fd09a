package pool

import (
	"container/list"
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"sync"
)

// Statement is a text with its parameter types, shared by all clients that prepare it. On
// every server it has the same name.
type Statement struct {
	name  string // on servers
	body  string // a Parse message's payload behind the name
	under string // the settings it was read under: a literal's value may depend on them
	shape Shape
	users int // clients and servers that know it; the table's lock guards it

	again func() Shape // looks at the text anew; nil: nobody may share it
}

// Statements knows what is prepared, by settings and content: two texts never share a name.
type Statements struct {
	prefix string // of names on servers; drawn, so that no client uses one by accident

	mu    sync.Mutex
	next  uint64
	known map[string]map[string]*Statement
}

// NewStatements returns an empty table.
func NewStatements() *Statements {
	var b [6]byte
	_, _ = rand.Read(b[:]) // it never fails
	return &Statements{prefix: "trefoil_" + hex.EncodeToString(b[:]) + "_", known: map[string]map[string]*Statement{}}
}

// use returns the statement of a Parse's payload behind the name, and counts a user more.
func (t *Statements) use(under string, body []byte, look func(body string) Shape) *Statement {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.known[under][string(body)]
	if s == nil {
		t.next++
		s = &Statement{name: t.prefix + strconv.FormatUint(t.next, 36), body: string(body), under: under}
		s.again = func() Shape { return look(s.body) }
		s.shape = s.again()
		if t.known[under] == nil {
			t.known[under] = map[string]*Statement{}
		}
		t.known[under][s.body] = s
	}
	s.users++
	return s
}

// look looks at all texts anew. It is called on the loop, like everything that reads shapes.
func (t *Statements) look() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, list := range t.known {
		for _, s := range list {
			s.shape = s.again()
		}
	}
}

// private returns a statement that only one client on one server uses: nobody else finds it.
func (t *Statements) private() *Statement {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	return &Statement{name: t.prefix + strconv.FormatUint(t.next, 36), shape: Shape{Pin: Large}, users: 1}
}

// again counts one more user of a statement that has one.
func (t *Statements) again(s *Statement) {
	t.mu.Lock()
	s.users++
	t.mu.Unlock()
}

// drop counts a user less, and forgets a statement without users.
func (t *Statements) drop(s *Statement) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.users--; s.users == 0 && t.known[s.under][s.body] == s {
		delete(t.known[s.under], s.body)
		if len(t.known[s.under]) == 0 {
			delete(t.known, s.under)
		}
	}
}

// Len returns how many texts are known.
func (t *Statements) Len() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, list := range t.known {
		n += len(list)
	}
	return n
}

// find returns the statement of a Parse's payload behind the name, if anybody uses it.
func (t *Statements) find(under string, body []byte) *Statement {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known[under][string(body)]
}

// prepared is what one server has prepared, in order of use.
type prepared struct {
	table   *Statements
	at      map[*Statement]*list.Element // of *entry
	used    list.List                    // the last used is in front
	pending int                          // entries that the server has not confirmed
}

// entry is one prepared statement of a server.
type entry struct {
	stmt    *Statement
	sure    bool // the server said so
	segment int  // else: the stretch between two Syncs in which it was sent
}

func (p *prepared) has(s *Statement) bool {
	e := p.at[s]
	if e != nil {
		p.used.MoveToFront(e)
	}
	return e != nil
}

// unsure reports whether a statement was sent in an earlier stretch and may yet be refused.
func (p *prepared) unsure(s *Statement, segment int) bool {
	e := p.at[s]
	return e != nil && !e.Value.(*entry).sure && e.Value.(*entry).segment != segment
}

// add notes a statement that was sent in a stretch.
func (p *prepared) add(s *Statement, segment int) {
	if p.at[s] != nil {
		return
	}
	if p.at == nil {
		p.at = map[*Statement]*list.Element{}
	}
	p.table.again(s)
	p.at[s] = p.used.PushFront(&entry{stmt: s, segment: segment})
	p.pending++
}

// confirm notes that the server has it.
func (p *prepared) confirm(s *Statement) {
	if e := p.at[s]; e != nil && !e.Value.(*entry).sure {
		e.Value.(*entry).sure = true
		p.pending--
	}
}

func (p *prepared) remove(s *Statement) {
	if e := p.at[s]; e != nil {
		if !e.Value.(*entry).sure {
			p.pending--
		}
		p.used.Remove(e)
		delete(p.at, s)
		p.table.drop(s)
	}
}

func (p *prepared) clear() {
	for s := range p.at {
		p.remove(s)
	}
}

// oldest returns the statement that was not used for longest; nil if there is none.
func (p *prepared) oldest() *Statement {
	if e := p.used.Back(); e != nil {
		return e.Value.(*entry).stmt
	}
	return nil
}
