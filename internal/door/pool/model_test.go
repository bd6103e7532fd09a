package pool

import (
	"encoding/binary"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// model is a database session as far as the protocol tells: what PostgreSQL answers, for
// statements of a toy language. What a client of a pool hears must be what it would hear from
// a model of its own.
type model struct {
	in       []byte
	out      []byte
	tx       byte
	skip     bool // until Sync
	vars     map[string]string
	secret   string // left by "set secret X": what a pool must not leak
	names    map[string]string
	portals  map[string]string
	listens  []string
	copying  bool
	extended bool // the COPY came by Execute
	notes    int  // notifications to send at the next ReadyForQuery
}

func newModel() *model {
	return &model{tx: 'I', vars: map[string]string{"TimeZone": "UTC", "client_encoding": "UTF8", "standard_conforming_strings": "on"},
		names: map[string]string{}, portals: map[string]string{}}
}

func (m *model) opened() ([]string, map[string]string) {
	return slices.Sorted(maps.Keys(m.vars)), maps.Clone(m.vars)
}

// feed processes whole messages.
func (m *model) feed(b []byte) {
	m.in = append(m.in, b...)
	for len(m.in) >= 5 {
		n := int(binary.BigEndian.Uint32(m.in[1:])) + 1
		if len(m.in) < n {
			return
		}
		m.message(m.in[0], m.in[5:n])
		m.in = m.in[n:]
	}
}

func (m *model) say(typ byte, payload string) {
	m.out = wire.AppendMessage(m.out, typ, []byte(payload))
}

func (m *model) ready() {
	for ; m.notes > 0; m.notes-- {
		m.say('A', "\x00\x00\x00\x01chan\x00\x00")
	}
	m.say('Z', string(m.tx))
}

func (m *model) fail(state, text string) {
	m.out = wire.AppendErrorResponse(m.out, wire.ErrorFields{Severity: "ERROR", SQLState: state, Message: text})
	if m.tx == 'T' {
		m.tx = 'E'
	}
	if m.tx == 'I' {
		m.portals = map[string]string{}
	}
}

func cut(b []byte) (string, []byte) {
	s, rest, ok := wire.CString(b)
	if !ok {
		panic("model: malformed message")
	}
	return string(s), rest
}

func (m *model) message(typ byte, p []byte) {
	if m.copying {
		m.copyData(typ)
		return
	}
	if m.skip && typ != 'S' {
		return
	}
	switch typ {
	case 'Q':
		sql, _ := cut(p)
		delete(m.names, "")
		for _, one := range strings.Split(sql, ";") {
			if one = strings.TrimSpace(one); one == "" {
				m.say('I', "")
				break
			}
			if !m.run(one, true) {
				break
			}
			if m.copying {
				return
			}
		}
		m.end()
		m.ready()
	case 'P':
		m.parse(p)
	case 'B':
		portal, rest := cut(p)
		name, _ := cut(rest)
		if sql, ok := m.names[name]; !ok {
			m.error("26000", "prepared statement does not exist")
		} else if m.tx == 'E' && !ends(sql) {
			m.error("25P02", "in failed transaction")
		} else {
			m.portals[portal] = sql
			m.say('2', "")
		}
	case 'D':
		name, _ := cut(p[1:])
		of := m.names
		if p[0] == 'P' {
			of = m.portals
		}
		if sql, ok := of[name]; !ok {
			m.error("26000", "nothing of this name")
		} else if m.tx == 'E' && !ends(sql) {
			m.error("25P02", "in failed transaction")
		} else {
			if p[0] == 'S' {
				m.say('t', "\x00\x00")
			}
			m.say('T', "row of "+sql)
		}
	case 'C':
		name, _ := cut(p[1:])
		if p[0] == 'S' {
			delete(m.names, name)
		} else {
			delete(m.portals, name)
		}
		m.say('3', "")
	case 'E':
		portal, _ := cut(p)
		if sql, ok := m.portals[portal]; !ok {
			m.error("34000", "portal does not exist")
		} else if !m.run(sql, false) {
			m.skip = true
		}
		m.extended = m.copying
	case 'S':
		m.skip = false
		m.end()
		m.ready()
	}
}

func (m *model) error(state, text string) {
	m.fail(state, text)
	m.skip = true
}

// end ends the implicit transaction.
func (m *model) end() {
	if m.tx == 'I' {
		m.portals = map[string]string{}
	}
}

func (m *model) parse(p []byte) {
	name, rest := cut(p)
	sql, _ := cut(rest)
	if name == "" {
		delete(m.names, "")
	}
	switch {
	case m.tx == 'E' && !ends(sql):
		m.error("25P02", "in failed transaction")
	case strings.HasPrefix(sql, "bad"):
		m.error("42601", "syntax error")
	case name != "" && m.names[name] != "":
		m.error("42P05", "prepared statement already exists")
	default:
		m.names[name] = sql
		m.say('1', "")
	}
}

func (m *model) copyData(typ byte) {
	switch typ {
	case 'c':
		m.copying = false
		m.say('C', "COPY 1\x00")
	case 'f':
		m.copying = false
		m.fail("57014", "COPY failed")
		m.skip = m.extended
	default:
		return
	}
	if !m.extended {
		m.end()
		m.ready()
	}
}

func ends(sql string) bool { return sql == "commit" || sql == "rollback" }

var configCall = regexp.MustCompile(`set_config\('(\w+)',E'([^']*)',false\)`)

// run runs one statement and reports whether it went well.
func (m *model) run(sql string, simple bool) bool {
	verb, rest, _ := strings.Cut(sql, " ")
	if m.tx == 'E' && !ends(sql) {
		m.fail("25P02", "in failed transaction")
		return false
	}
	switch strings.ToLower(verb) {
	case "begin":
		m.tx = 'T'
		m.say('C', "BEGIN\x00")
	case "commit", "rollback":
		m.tx = 'I'
		m.portals = map[string]string{}
		m.say('C', "COMMIT\x00")
	case "copy":
		m.copying, m.extended = true, false
		m.say('G', "\x00\x00\x00")
	case "set":
		name, value, _ := strings.Cut(rest, " ")
		if name == "timezone" {
			m.set("TimeZone", value)
		} else {
			m.secret = value
		}
		m.say('C', "SET\x00")
	case "listen":
		m.listens = append(m.listens, rest)
		m.say('C', "LISTEN\x00")
	case "notify":
		if len(m.listens) > 0 {
			m.notes++
		}
		m.say('C', "NOTIFY\x00")
	case "deallocate":
		return m.deallocate(rest)
	case "discard":
		if m.tx != 'I' {
			m.fail("25001", "cannot run inside a transaction block")
			return false
		}
		m.discard()
		m.say('C', "DISCARD ALL\x00")
	case "select":
		found := configCall.FindAllStringSubmatch(sql, -1)
		for _, set := range found {
			m.set(set[1], set[2])
		}
		if rest == "error" {
			m.fail("22012", "division by zero")
			return false
		}
		if simple {
			m.say('T', "row")
		}
		m.say('D', fmt.Sprintf("%s in %s with %q", rest, m.vars["TimeZone"], m.secret))
		m.say('C', "SELECT 1\x00")
	default:
		m.fail("42601", "syntax error")
		return false
	}
	return true
}

func (m *model) discard() {
	m.names, m.portals, m.listens, m.secret, m.notes = map[string]string{}, map[string]string{}, nil, "", 0
	m.set("TimeZone", "UTC")
}

func (m *model) set(name, value string) {
	if m.vars[name] != value {
		m.vars[name] = value
		m.say('S', name+"\x00"+value+"\x00")
	}
}

func (m *model) deallocate(name string) bool {
	if strings.EqualFold(name, "all") {
		m.names = map[string]string{}
		m.say('C', "DEALLOCATE ALL\x00")
		return true
	}
	if m.names[name] == "" {
		m.fail("26000", "prepared statement does not exist")
		return false
	}
	delete(m.names, name)
	m.say('C', "DEALLOCATE\x00")
	return true
}
