package pool

// Shape is what a text of one or more statements does to the session that runs it, as far as
// its form tells. The zero value is a text that is not understood: it keeps the server.
type Shape struct {
	Pin        Reason // why the server must be kept afterwards; Nothing: it need not
	Sets       uint16 // tracked parameters that it sets: bit i is tracked[i]
	Deallocate string // the text is DEALLOCATE of this name, and nothing else
	Forgets    bool   // DEALLOCATE ALL or DISCARD ALL is in it
	Exits      bool   // its first statement ends a transaction: a failed one takes nothing else
}

// Suspects says what a function of the database leaves in a session; Nothing for most.
type Suspects func(name []byte) Reason

// Look reads a text's shape. plain says that the session reads strings by the standard and
// has an encoding that cannot hide ASCII: otherwise nothing is understood.
func Look(sql []byte, plain bool, suspects Suspects) Shape {
	if !plain {
		return Shape{}
	}
	s := scan{lexer: lexer{src: sql}, suspects: suspects, shape: Shape{Pin: Nothing}}
	s.start()
	for {
		t := s.next()
		switch {
		case t.kind == broken:
			return Shape{}
		case t.kind == endOfText:
			s.finish()
			if s.statements != 1 {
				s.shape.Deallocate = ""
			}
			return s.shape
		case t.kind == mark && t.char == ';':
			s.finish()
			s.start()
		default:
			s.see(t)
		}
	}
}

// first is the kind of a statement, by its first word.
type first uint8

const (
	plain first = iota
	set
	declare
	prepare
	deallocate
	discard
)

// previous is the last token, where it matters.
type previous uint8

const (
	anything previous = iota
	mayBeTemporary
	with
	on
	commit
)

// scan is the state of reading one text. Everything below statements is one statement's.
type scan struct {
	lexer
	suspects   Suspects
	shape      Shape
	statements int

	statement
}

type statement struct {
	n         int // tokens so far
	first     first
	pin       Reason
	before    previous
	temporary bool
	dropped   bool // ON COMMIT DROP: it ends with its transaction
	sets      uint16
	scope     bool // SET SESSION: the next word decides
	config    setConfig
}

// setConfig follows a call of set_config: it leaves nothing if its last argument is true.
type setConfig struct {
	on    bool
	depth int
	comma bool // the last token was a comma of its own
	local bool // the last token was TRUE, after such a comma
}

func (s *scan) start() { s.statement = statement{pin: Nothing} }

// finish adds a statement's effect to the text's.
func (s *scan) finish() {
	st := &s.statement
	if st.n == 0 {
		return
	}
	s.statements++
	if st.config.on { // its parenthesis never closed
		st.keep(Setting)
	}
	if st.temporary && !st.dropped {
		st.keep(Temporary)
	}
	if st.first == set && st.n < 3 {
		st.keep(Unknown)
	}
	if s.shape.Pin == Nothing {
		s.shape.Pin = st.pin
	}
	s.shape.Sets |= st.sets
}

// keep notes the first reason to keep the server.
func (st *statement) keep(r Reason) {
	if st.pin == Nothing {
		st.pin = r
	}
}

// see takes one token of a statement into account.
func (s *scan) see(t token) {
	st := &s.statement
	st.n++
	if st.n == 1 {
		s.begin(t)
	} else {
		switch st.first {
		case set:
			st.set(t)
		case prepare:
			if st.n == 2 && !(t.kind == word && string(t.text) == "transaction") {
				st.keep(Prepared)
			}
		case deallocate:
			s.deallocated(t)
		case discard:
			s.shape.Forgets = s.shape.Forgets || t.kind == word && string(t.text) == "all"
		}
	}
	st.config.see(st, t)
	if t.kind == word || t.kind == quoted {
		s.named(t)
	} else {
		st.before = anything
	}
}

// begin reads a statement's first token.
func (s *scan) begin(t token) {
	st := &s.statement
	if t.kind == mark && t.char == '(' {
		return // a query in parentheses
	}
	if t.kind != word {
		st.keep(Unknown)
		return
	}
	switch string(t.text) {
	case "set":
		st.first = set
	case "declare":
		st.first = declare
	case "prepare":
		st.first = prepare
	case "deallocate":
		st.first = deallocate
	case "discard":
		st.first = discard
	case "commit", "end", "rollback", "abort":
		s.shape.Exits = s.shape.Exits || s.statements == 0
	case "listen":
		st.keep(Listening)
	case "load", "do", "call":
		st.keep(Code)
	default:
		if !plainFirst(t.text) {
			st.keep(Unknown)
		}
	}
}

// named looks at a name wherever it stands.
func (s *scan) named(t token) {
	st := &s.statement
	before := st.before
	st.before = anything
	if t.kind == word {
		switch string(t.text) {
		case "create", "local", "global", "replace", "into":
			st.before = mayBeTemporary
		case "temp", "temporary":
			st.temporary = st.temporary || before == mayBeTemporary
		case "with":
			st.before = with
		case "on":
			st.before = on
		case "commit":
			if before == on {
				st.before = commit
			}
		case "drop":
			st.dropped = st.dropped || before == commit
		case "hold":
			if st.first == declare && before == with {
				st.keep(Held)
			}
		}
	}
	if string(t.text) == "set_config" {
		st.config.call(st)
		return
	}
	if r := leaves(t.text); r != Nothing {
		st.keep(r)
	} else if s.suspects != nil {
		if r := s.suspects(t.text); r != Nothing {
			st.keep(r)
		}
	}
}

// set reads what follows SET.
func (st *statement) set(t token) {
	if st.n > 3 || st.n == 3 && !st.scope {
		if st.n <= 4 && st.sets != 0 && t.kind == mark && t.char == '.' {
			st.keep(Setting) // a parameter of an extension
		}
		return
	}
	if t.kind != word && t.kind != quoted {
		st.keep(Unknown)
		return
	}
	if t.kind == word {
		switch string(t.text) {
		case "local", "transaction", "constraints": // ends with the transaction
			st.scope = false
			st.n += 2
			return
		case "session":
			if !st.scope {
				st.scope = true
				return
			}
		case "time":
			st.sets |= trackedBit([]byte("timezone"))
			return
		case "names":
			st.sets |= trackedBit([]byte("client_encoding"))
			return
		case "schema":
			st.sets |= trackedBit([]byte("search_path"))
			return
		}
	}
	bit := trackedBit(t.text)
	if bit == 0 {
		st.keep(Setting)
	}
	st.sets |= bit
}

// deallocated reads what follows DEALLOCATE.
func (s *scan) deallocated(t token) {
	st := &s.statement
	switch {
	case t.kind == word && st.n == 2 && string(t.text) == "prepare":
		st.n-- // a word that says nothing
	case st.n == 2 && t.kind == word && string(t.text) == "all":
		s.shape.Forgets = true
	case st.n == 2 && (t.kind == quoted || t.kind == word):
		s.shape.Deallocate = string(t.text)
	default:
		s.shape.Deallocate = ""
	}
}

// call begins to follow a call of set_config.
func (c *setConfig) call(st *statement) {
	if c.on {
		st.keep(Setting) // one inside another: not followed
	}
	*c = setConfig{on: true}
}

// see follows the arguments.
func (c *setConfig) see(st *statement, t token) {
	if !c.on {
		return
	}
	comma, local := c.comma, false
	c.comma = false
	switch {
	case c.depth == 0 && !(t.kind == mark && t.char == '('):
		st.keep(Setting) // its name without a call
		c.on = false
	case t.kind == mark && (t.char == '(' || t.char == '['):
		c.depth++
	case t.kind == mark && (t.char == ')' || t.char == ']'):
		if c.depth--; c.depth == 0 {
			if !c.local {
				st.keep(Setting)
			}
			c.on = false
		}
	case t.kind == mark && t.char == ',' && c.depth == 1:
		c.comma = true
	case t.kind == word && c.depth == 1 && comma && string(t.text) == "true":
		local = true
	}
	c.local = local
}
