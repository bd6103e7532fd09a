package pool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// suspectsQuery names the database's own functions that leave something in a session, by their
// source text, those that call them, and the tables and views that do so by triggers, rules,
// defaults, constraints or policies. One column, a name a row.
const suspectsQuery = `with recursive f as materialized (
	select p.oid, p.proname::text as name, lower(pg_get_functiondef(p.oid)) as src
	from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
	where l.lanname not in ('internal', 'c') and p.prokind in ('f', 'p')
	and p.pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
), bad(oid, name) as (
	select oid, name from f where src ~ '\m(pg_advisory_lock|pg_try_advisory_lock|setseed|set_limit|dblink_connect|dblink_open|lastval|currval|listen)'
	or src ~ 'set_config\s*\((?![^;]*,\s*true\s*\))'
	or src ~ '\m(create|into|global|local)\s+temp'
	or src ~ '(;|\$|''|\mbegin\M|\mthen\M|\melse\M|\mloop\M)\s*(set\s+(?!local|transaction|constraints)|prepare\s|load\s)'
	union
	select f.oid, f.name from f join bad b on f.oid <> b.oid and position(lower(b.name) in f.src) > 0
)
select name from bad
union
select c.relname::text from bad b
join pg_catalog.pg_depend d on d.refclassid = 'pg_catalog.pg_proc'::regclass and d.refobjid = b.oid
join pg_catalog.pg_class c on c.oid in (
	select ev_class from pg_catalog.pg_rewrite where oid = d.objid and d.classid = 'pg_catalog.pg_rewrite'::regclass
	union all select tgrelid from pg_catalog.pg_trigger where oid = d.objid and d.classid = 'pg_catalog.pg_trigger'::regclass
	union all select adrelid from pg_catalog.pg_attrdef where oid = d.objid and d.classid = 'pg_catalog.pg_attrdef'::regclass
	union all select conrelid from pg_catalog.pg_constraint where oid = d.objid and d.classid = 'pg_catalog.pg_constraint'::regclass
	union all select polrelid from pg_catalog.pg_policy where oid = d.objid and d.classid = 'pg_catalog.pg_policy'::regclass)`

// maxSuspects bounds the answer. A database with more is one whose every statement pins.
const maxSuspects = 10000

var errTooManySuspects = errors.New("too many functions leave something in a session")

// readSuspects asks a server that was just logged in to, and leaves it idle.
func readSuspects(ctx context.Context, c net.Conn) (map[string]bool, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(10 * time.Second)
	}
	_ = c.SetDeadline(deadline)
	defer func() { _ = c.SetDeadline(time.Time{}) }()
	if _, err := c.Write(wire.AppendMessage(nil, wire.Query, append([]byte(suspectsQuery), 0))); err != nil {
		return nil, fmt.Errorf("ask for functions: %w", err)
	}
	found := map[string]bool{}
	var failed error
	for {
		var head [wire.HeaderSize]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return nil, fmt.Errorf("read functions: %w", err)
		}
		n := int(binary.BigEndian.Uint32(head[1:])) - 4
		if n < 0 || n > wire.DefaultSmall {
			return nil, fmt.Errorf("read functions: %w: message length out of range", wire.ErrFrame)
		}
		p := make([]byte, n)
		if _, err := io.ReadFull(c, p); err != nil {
			return nil, fmt.Errorf("read functions: %w", err)
		}
		switch head[0] {
		case wire.DataRow:
			if len(p) < 6 || len(found) >= maxSuspects {
				failed = errTooManySuspects
				continue
			}
			found[string(p[6:])] = true
		case wire.ErrorResponse:
			f, _ := wire.ParseFields(p)
			failed = errors.New("ask for functions: SQLSTATE " + f.SQLState)
		case wire.ReadyForQuery:
			return found, failed
		}
	}
}

// suspects is what a pool knows of the database's own functions.
type suspects struct {
	names   map[string]bool
	unknown bool // it could not be found out: every statement pins
	at      time.Time
	asking  bool
}

// suspectsEvery is how often functions are looked for again while a pool has clients.
const suspectsEvery = time.Minute

// learn puts an answer in force, for statements that are prepared already too.
func (p *Pool) learn(names map[string]bool, err error) {
	s := &p.suspects
	if err != nil {
		p.m.c.Logger.Warn("functions of a database are not known: its clients keep their sessions", "database", p.key.Database, "error", err)
	}
	changed := s.unknown != (err != nil) || !maps.Equal(s.names, names)
	s.names, s.unknown, s.at = names, err != nil, p.m.c.Now()
	if !changed {
		return
	}
	for _, l := range p.lanes {
		l.shared.Suspects = p.leaves()
	}
	p.m.tables.statements.look()
}

// leaves returns what a name leaves by what is known; nil: nothing does.
func (p *Pool) leaves() Suspects {
	names := p.suspects.names
	switch {
	case p.suspects.unknown:
		return func([]byte) Reason { return Code }
	case len(names) == 0:
		return nil
	}
	return func(name []byte) Reason {
		if names[string(name)] {
			return Code
		}
		return Nothing
	}
}

// relearn looks for functions again, on a connection of its own.
func (p *Pool) relearn(now time.Time) {
	l := p.last
	if p.settings.Mode != ByTransaction || p.suspects.asking || l == nil || len(p.clients) == 0 || now.Sub(p.suspects.at) < suspectsEvery {
		return
	}
	p.suspects.asking = true
	login := l.backend.Login
	p.m.logins.Add(1)
	go func() {
		defer p.m.logins.Done()
		ctx, cancel := context.WithTimeout(p.m.ctx, p.m.c.Login)
		defer cancel()
		o, err := login(ctx)
		if err != nil {
			p.m.loop.Post(func() { p.suspects.asking, p.suspects.at = false, p.m.c.Now() }) // what is known stays
			return
		}
		names, err := readSuspects(ctx, o.Conn)
		_, _ = o.Conn.Write(wire.AppendMessage(nil, wire.Terminate, nil))
		_ = o.Conn.Close()
		p.m.loop.Post(func() {
			p.suspects.asking = false
			p.learn(names, err)
		})
	}()
}
