package statement

import "sync/atomic"

// level says what a session may have done to the meaning of names. It only rises.
type level int8

const (
	never level = -1 // as step.upTo: covered at no level
	clean level = 0  // nothing was created: an unqualified catalog name means the catalog
	named level = 1  // temporary objects may exist: only qualified names mean what they say
	dirty level = 2  // code may have run that puts values into names, settings or errors
)

// op is what a step does to the session's names.
type op int8

const (
	opNone op = iota
	opPrepare
	opExecute
	opDeclare
	opFetch
)

// step is what one statement of a text is and does.
type step struct {
	kind   string
	tables []string
	upTo   level // highest level at which it is covered
	after  level // level that it leaves behind
	op     op
	name   string // of the prepared statement or cursor
}

// maxNames bounds what a state remembers; beyond it nothing named is covered.
const maxNames = 4096

// maxName is the longest name that is taken as it is: the server cuts at 63 bytes.
const maxName = 60

// Shared is what sessions of one dataset know of each other: how many of them may have
// written values into the database's shared catalogs (names of temporary objects). While
// there is one, no session's catalog reads are covered; nor after it ended, until somebody
// has looked that nothing stayed behind (a server that runs out of locks while it ends
// leaves its temporary objects where they are).
type Shared struct {
	dirty atomic.Int64
	ended atomic.Uint64 // dirty sessions that have ended
	swept atomic.Uint64 // of those, whose objects are known to be gone
}

// Ended marks a time: look for temporary objects after it, then call Swept if there are none.
func (s *Shared) Ended() uint64 { return s.ended.Load() }

// Swept says that no temporary object was there at some time after Ended returned mark.
func (s *Shared) Swept(mark uint64) {
	for {
		old := s.swept.Load()
		if mark <= old || s.swept.CompareAndSwap(old, mark) {
			return
		}
	}
}

func (s *Shared) clean() bool { return s.dirty.Load() == 0 && s.ended.Load() == s.swept.Load() }

// State mirrors what the server knows of one session, in the order in which the server
// answers. It is not safe for concurrent use.
type State struct {
	level   level
	shared  *Shared
	counted bool
	lost    bool

	// Named statements and portals are shared by SQL and protocol. An entry's level only
	// falls: whoever redefined a name, it is no more covered than it ever was.
	statements map[string]level
	portals    map[string]level
	infos      map[string]*Info // latest definition, for records
	bound      map[string]*Info

	unnamed       *Info // the unnamed statement
	unnamedPortal *Info
}

// NewState is the state of a fresh session; shared may be nil.
func NewState(shared *Shared) *State {
	if shared == nil {
		shared = new(Shared)
	}
	return &State{
		shared: shared, statements: map[string]level{}, portals: map[string]level{},
		infos: map[string]*Info{}, bound: map[string]*Info{},
	}
}

// End gives back what the state counts in its Shared. Call it only once the server's process
// has gone, with it its temporary objects: without, no session of the dataset is covered.
func (s *State) End() {
	if s.counted {
		s.counted = false
		s.shared.ended.Add(1) // first: there is no moment in between at which others are covered
		s.shared.dirty.Add(-1)
	}
}

// Dirty reports whether the session may have left values in shared catalogs.
func (s *State) Dirty() bool { return s.counted }

// Forwards follows a text on its way to the server. What may leave values in shared catalogs
// counts from here on: a block that commits has done so long before the server answers.
func (s *State) Forwards(info *Info) {
	for _, st := range info.steps {
		if st.after == dirty {
			s.raise(dirty)
		}
	}
}

// Lose says that the mirror may differ from the server: nothing is covered from here on.
func (s *State) Lose() { s.lost = true; s.raise(dirty) }

func (s *State) raise(l level) {
	if l <= s.level {
		return
	}
	s.level = l
	if l == dirty && !s.counted {
		s.counted = true
		s.shared.dirty.Add(1)
	}
}

// now is the level at which a statement is judged.
func (s *State) now() level {
	if !s.shared.clean() {
		return dirty
	}
	return s.level
}

// Era is a time in what sessions of the dataset know of each other.
func (s *State) Era() uint64 { return s.shared.Ended() }

// Alone reports whether no session of the dataset was dirty at any time since era. Functions
// of a running statement see what others wrote after it began.
func (s *State) Alone(era uint64) bool {
	return s.shared.dirty.Load() == 0 && s.shared.Ended() == era
}

// Anywhere reports whether a text is covered at every level: it reads no name.
func (info *Info) Anywhere() bool { return info.upTo() == dirty }

// Setting follows a ParameterStatus: another way of reading string literals makes the
// parser's view unreliable.
func (s *State) Setting(name, value string) {
	if name == "standard_conforming_strings" && value != "on" {
		s.Lose()
	}
}

// Runs reports whether Parse and Describe of a statement, which run nothing, are covered.
func (s *State) Describes() bool { return !s.lost && s.now() < dirty }

// Query judges a text that the server has begun to run, and follows what it does.
func (s *State) Query(info *Info) bool {
	ok := s.would(info)
	for _, st := range info.steps {
		s.follow(st)
	}
	return ok
}

func (s *State) follow(st step) {
	switch st.op {
	case opPrepare:
		s.define(s.statements, st.name, st.upTo)
	case opDeclare:
		s.define(s.portals, st.name, st.upTo)
	}
	s.raise(st.after)
}

// would reports whether every step of a text is covered in this state.
func (s *State) would(info *Info) bool {
	if s.lost {
		return false
	}
	for _, st := range info.steps {
		upTo := st.upTo
		switch st.op {
		case opExecute:
			upTo = min(upTo, look(s.statements, st.name))
		case opFetch:
			upTo = min(upTo, look(s.portals, st.name))
		}
		if upTo < s.now() {
			return false
		}
	}
	return true
}

func look(m map[string]level, name string) level {
	if l, ok := m[name]; ok {
		return l
	}
	return never
}

func (s *State) define(m map[string]level, name string, l level) {
	if len(name) > maxName || !isASCII(name) {
		s.Lose() // it may be cut to the name of another
		return
	}
	if old, ok := m[name]; ok {
		l = min(l, old)
	} else if len(m) >= maxNames {
		s.Lose()
		return
	}
	m[name] = l
}

// upTo is the level up to which the whole text is covered, names aside.
func (info *Info) upTo() level {
	l := dirty
	for _, st := range info.steps {
		if st.op == opExecute || st.op == opFetch {
			return never // depends on names: only its own text decides, see Bound
		}
		l = min(l, st.upTo)
	}
	return l
}

// Parsed follows a ParseComplete: name now means info.
func (s *State) Parsed(name string, info *Info) {
	if name == "" {
		s.unnamed = info
		return
	}
	s.define(s.statements, name, info.upTo())
	if len(s.infos) < maxNames {
		s.infos[name] = info
	}
}

// Statement is what a protocol-level name means, nil if nothing is known.
func (s *State) Statement(name string) *Info {
	if name == "" {
		return s.unnamed
	}
	return s.infos[name]
}

// Portal is what a portal runs, nil if nothing is known.
func (s *State) Portal(name string) *Info {
	if name == "" {
		return s.unnamedPortal
	}
	return s.bound[name]
}

// Binds judges a Bind of statement: planning may run what is immutable.
func (s *State) Binds(statement string) bool {
	info := s.Statement(statement)
	if info == nil {
		return false
	}
	if statement == "" {
		return s.would(info)
	}
	return s.would(info) && look(s.statements, statement) >= s.now()
}

// Bound follows a BindComplete.
func (s *State) Bound(portal, statement string) {
	info := s.Statement(statement)
	if portal == "" {
		s.unnamedPortal = info
		if statement != "" && look(s.statements, statement) < s.now() {
			s.unnamedPortal = uncovered(info)
		}
		return
	}
	l := never
	if info != nil {
		l = info.upTo()
		if statement != "" {
			l = min(l, look(s.statements, statement))
		}
	}
	s.define(s.portals, portal, l)
	if len(s.bound) < maxNames {
		s.bound[portal] = info
	}
}

// uncovered is info, covered at no level.
func uncovered(info *Info) *Info {
	if info == nil {
		return nil
	}
	c := *info
	c.steps = append([]step{{upTo: never}}, info.steps...)
	return &c
}

// Executes judges an Execute of a portal that the server has begun, and follows it.
func (s *State) Executes(portal string) bool {
	info := s.Portal(portal)
	if info == nil {
		s.raise(dirty) // a cursor of SQL, or unknown: its own statement was judged, but not under this name
		return false
	}
	ok := s.Query(info)
	if portal != "" && look(s.portals, portal) < s.now() {
		return false
	}
	return ok
}

// Closed follows a CloseComplete. Names keep their level: they may be used again.
func (s *State) Closed(portal bool, name string) {
	switch {
	case portal && name == "":
		s.unnamedPortal = nil
	case name == "":
		s.unnamed = nil
	case portal:
		delete(s.bound, name)
	default:
		delete(s.infos, name)
	}
}
